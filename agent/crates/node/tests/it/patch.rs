//! What `diff` gives makes one Node into the other, whatever they are.

use crate::merge::{apply, sorted};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use orlop_node::diff;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn texts() -> impl Strategy<Value = Option<BTreeMap<String, String>>> {
    // An empty map and none at all are one to the API.
    btree_map("[a-d]", "[xy]?", 0..4).prop_map(|map| (!map.is_empty()).then_some(map))
}

fn amounts() -> impl Strategy<Value = Option<BTreeMap<String, Quantity>>> {
    let amount = "[1-3]".prop_map(Quantity);
    btree_map("(cpu|memory|hugepages-2Mi|a.io/gpu)", amount, 0..4).prop_map(|map| (!map.is_empty()).then_some(map))
}

fn conditions() -> impl Strategy<Value = Option<Vec<NodeCondition>>> {
    let one = ("(True|False)", option::of("[rs]"), 0..3_i64);
    btree_map("(Ready|DiskPressure|Other)", one, 0..4).prop_map(|map| {
        let condition = |(type_, (status, reason, second))| NodeCondition {
            type_,
            status,
            reason,
            last_heartbeat_time: Some(Time(Timestamp::from_second(second).unwrap())),
            ..NodeCondition::default()
        };
        (!map.is_empty()).then(|| map.into_iter().map(condition).collect())
    })
}

fn addresses() -> impl Strategy<Value = Option<Vec<NodeAddress>>> {
    let one = ("(InternalIP|Hostname)", "[ab]").prop_map(|(type_, address)| NodeAddress { type_, address });
    option::of(vec(one, 1..4))
}

fn images() -> impl Strategy<Value = Option<Vec<ContainerImage>>> {
    let one = (vec("[ab]", 1..3), 0..3_i64);
    let one = one.prop_map(|(names, size)| ContainerImage { names: Some(names), size_bytes: Some(size) });
    option::of(vec(one, 1..3))
}

prop_compose! {
    fn nodes()(
        labels in texts(),
        annotations in texts(),
        addresses in addresses(),
        (capacity, allocatable) in (amounts(), amounts()),
        conditions in conditions(),
        images in images(),
        boot_id in option::of("[ab]"),
        supplemental_groups_policy in option::of(option::of(any::<bool>())),
        volumes_in_use in option::of(vec("[ab]", 1..3)),
    ) -> Node {
        let node_info = boot_id.map(|boot_id| NodeSystemInfo { boot_id, ..NodeSystemInfo::default() });
        let features = supplemental_groups_policy
            .map(|supplemental_groups_policy| NodeFeatures { supplemental_groups_policy });
        let status = NodeStatus {
            addresses, capacity, allocatable, conditions, images, node_info, features, volumes_in_use,
            ..NodeStatus::default()
        };
        let metadata = ObjectMeta { labels, annotations, name: Some("n1".into()), ..ObjectMeta::default() };
        Node { metadata, status: Some(status), spec: None }
    }
}

/// Empty maps and lists are none to the API.
fn pruned(node: &Node) -> Value {
    let mut value = sorted(serde_json::to_value(node).unwrap());
    for parent in ["metadata", "status"] {
        let fields = value[parent].as_object_mut().unwrap();
        fields.retain(|_, inner| *inner != json!({}) && *inner != json!([]));
    }
    value
}

proptest! {
    #[test]
    fn a_patch_makes_one_node_into_the_other(before in nodes(), after in nodes()) {
        let mut patched = serde_json::to_value(&before).unwrap();
        if let Some(patch) = diff(&before, &after) {
            apply(&mut patched, patch.as_value());
        }
        let patched: Node = serde_json::from_value(patched).unwrap();
        prop_assert_eq!(pruned(&patched), pruned(&after));
    }

    #[test]
    fn equal_nodes_need_no_patch(node in nodes()) {
        prop_assert_eq!(diff(&node, &node.clone()), None);
    }

    #[test]
    fn what_others_add_meanwhile_stays(before in nodes(), after in nodes()) {
        let mut meanwhile = serde_json::to_value(&before).unwrap();
        let theirs = json!({
            "metadata": {"labels": {"theirs": "l"}, "annotations": {"theirs": "a"}},
            "spec": {"taints": [{"key": "theirs", "effect": "NoSchedule"}]},
            "status": {"capacity": {"theirs.io/x": "9"}, "conditions": [{"type": "Theirs", "status": "True"}]},
        });
        apply(&mut meanwhile, &theirs);
        if let Some(patch) = diff(&before, &after) {
            apply(&mut meanwhile, patch.as_value());
        }
        prop_assert_eq!(&meanwhile["metadata"]["labels"]["theirs"], "l");
        prop_assert_eq!(&meanwhile["metadata"]["annotations"]["theirs"], "a");
        prop_assert_eq!(&meanwhile["spec"]["taints"][0]["key"], "theirs");
        prop_assert_eq!(&meanwhile["status"]["capacity"]["theirs.io/x"], "9");
        let conditions = meanwhile["status"]["conditions"].as_array().unwrap();
        prop_assert!(conditions.iter().any(|condition| condition["type"] == "Theirs"));
    }
}

#[test]
fn the_spec_is_never_part_of_it() {
    let spec = NodeSpec { unschedulable: Some(true), ..NodeSpec::default() };
    let after = Node { spec: Some(spec), ..Node::default() };
    assert_eq!(diff(&Node::default(), &after), None);
}

#[test]
fn only_what_differs_is_sent() {
    let condition = |second| NodeCondition {
        type_: "Ready".into(),
        status: "True".into(),
        reason: Some("KubeletReady".into()),
        last_heartbeat_time: Some(Time(Timestamp::from_second(second).unwrap())),
        ..NodeCondition::default()
    };
    let node = |second, ips: &[&str]| {
        let address = |ip: &&str| NodeAddress { type_: "InternalIP".into(), address: (*ip).into() };
        let status = NodeStatus {
            conditions: Some(vec![condition(second)]),
            addresses: Some(ips.iter().map(address).collect()),
            ..NodeStatus::default()
        };
        Node { status: Some(status), ..Node::default() }
    };
    let patch = diff(&node(1, &["a"]), &node(61, &["b", "c"])).unwrap();
    let want = json!({"status": {
        "conditions": [{"type": "Ready", "lastHeartbeatTime": "1970-01-01T00:01:01Z"}],
        "addresses": [
            {"type": "InternalIP", "address": "b"},
            {"type": "InternalIP", "address": "c"},
            {"$patch": "replace"},
        ],
    }});
    assert_eq!(patch.as_value(), &want);
    assert_eq!(serde_json::from_slice::<Value>(&patch.to_bytes()).unwrap(), want);
}
