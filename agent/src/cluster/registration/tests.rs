//! Which answers of the watch count.

use super::*;
use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn node(uid: &str, version: &str) -> ApiNode {
    let metadata =
        ObjectMeta { uid: Some(uid.into()), resource_version: Some(version.into()), ..ObjectMeta::default() };
    ApiNode { metadata, ..ApiNode::default() }
}

#[test]
fn what_a_patch_has_overtaken_is_dropped() {
    let check = |told: &ApiNode, held: Option<&ApiNode>, older: bool, another: bool| {
        assert_eq!((is_older(told, held), is_another(told, held)), (older, another), "{told:?} with {held:?}");
    };
    let held = node("a", "100");
    check(&node("a", "99"), Some(&held), true, false);
    check(&node("a", "100"), Some(&held), false, false);
    check(&node("a", "1000"), Some(&held), false, false);
    // Registered again: versions say nothing then.
    check(&node("b", "5"), Some(&held), false, true);
    check(&node("a", "5"), None, false, true);
}

#[test]
fn ready_is_true_and_nothing_else() {
    let mut node = node("a", "1");
    assert!(!is_ready(&node));
    for (kind, status, ready) in [("Ready", "True", true), ("Ready", "Unknown", false), ("DiskPressure", "True", false)]
    {
        let condition = NodeCondition { type_: kind.into(), status: status.into(), ..NodeCondition::default() };
        node.status = Some(NodeStatus { conditions: Some(vec![condition]), ..NodeStatus::default() });
        assert_eq!(is_ready(&node), ready, "{kind}={status}");
    }
}
