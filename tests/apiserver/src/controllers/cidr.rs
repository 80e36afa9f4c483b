//! Nodes: their part of the pods' range, and the taint of those that are not ready.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{all, call, text};
use crate::cluster::Core;
use crate::operations;
use crate::patch::Patch;

/// Gives each node without one the next free /24 of a range.
pub(super) fn reconcile(core: &Core, range: &str) {
    let base = range.split_once('/').and_then(|(base, _)| base.parse::<Ipv4Addr>().ok());
    let Some(base) = base else { return };
    let nodes = all(core, "nodes");
    let mut taken: BTreeSet<String> = nodes.iter().map(|node| text(node, "/spec/podCIDR").to_owned()).collect();
    for node in nodes.iter().filter(|node| text(node, "/spec/podCIDR").is_empty()) {
        let free = (0_u32..256)
            .map(|index| format!("{}/24", Ipv4Addr::from(u32::from(base) + (index << 8))))
            .find(|cidr| !taken.contains(cidr));
        let Some(cidr) = free else { return };
        let patch = Patch::Merge(json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}));
        let _ = operations::patch(core, &call("nodes", "", text(node, "/metadata/name")), &patch);
        taken.insert(cidr);
    }
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Takes the not-ready taint away from nodes that are ready, as the node lifecycle
/// controller does. It never adds one: tests do.
pub(super) fn ready_taints(core: &Core) {
    for node in all(core, "nodes") {
        let ready = node["status"]["conditions"]
            .as_array()
            .is_some_and(|list| list.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        if !ready || taints.iter().all(|taint| taint["key"] != NOT_READY) {
            continue;
        }
        let kept: Vec<Value> = taints.into_iter().filter(|taint| taint["key"] != NOT_READY).collect();
        let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
        let patch = Patch::Merge(json!({"spec": {"taints": kept}}));
        let _ = operations::patch(core, &call("nodes", "", text(&node, "/metadata/name")), &patch);
    }
}
