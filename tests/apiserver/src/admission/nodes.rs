//! Nodes.

use serde_json::{Value, json};

use super::default_to;
use crate::auth::node_of;
use crate::operations::Call;
use crate::resource::Resource;
use crate::status::Status;

/// TaintNodesByCondition: a new node is tainted until the controllers see it ready.
/// `controllers::cidr` takes the taint away when the node says that it is ready.
pub(super) fn on_create(call: &Call, node: &mut Value) {
    default_to(node, "spec", json!({}));
    default_to(node, "status", json!({}));
    if node_of(&call.user).is_none() {
        return;
    }
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    default_to(&mut node["spec"], "taints", json!([]));
    if let Some(taints) = node["spec"]["taints"].as_array_mut().filter(|taints| !taints.contains(&taint)) {
        taints.push(taint);
    }
}

pub(super) fn on_update(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    for (field, said) in [
        ("podCIDR", "Forbidden: node updates may not change podCIDR except from \"\" to valid"),
        ("podCIDRs", "Forbidden: node updates may not change podCIDR except from \"\" to valid"),
        ("providerID", "Forbidden: node updates may not change providerID except from \"\" to valid"),
    ] {
        if !old["spec"][field].is_null() && old["spec"][field] != new["spec"][field] {
            return Err(Status::invalid(resource, name, &[(&format!("spec.{field}"), "FieldValueForbidden", said)]));
        }
    }
    Ok(())
}
