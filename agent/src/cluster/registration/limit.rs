//! The limit of all pods together: what they may take of the machine, and no more.

use super::NODE_EVENTS;
use crate::node::Node;
use crate::pod::chain;
use orlop_kernel::Level;
use orlop_model::EventKind;
use std::sync::Arc;
use std::time::Duration;

/// After a limit was refused, as the kernel does while pods use more than that.
const RETRY: Duration = Duration::from_secs(60);

/// Sets it, again and again until it is set.
pub(super) async fn enforce(node: Arc<Node>) {
    while let Err(message) = set(&node) {
        let message = format!("Failed to update Node Allocatable Limits \"/kubepods\": {message}");
        node.events.record(NODE_EVENTS, EventKind::Warning, "FailedNodeAllocatableEnforcement", message);
        tokio::time::sleep(RETRY).await;
    }
    let message = "Updated Node Allocatable limit across pods";
    node.events.record(NODE_EVENTS, EventKind::Normal, "NodeAllocatableEnforced", message);
}

/// Even where nothing is enforced, CPU shares for all CPUs: the default is those of one.
fn set(node: &Node) -> Result<(), String> {
    let facts = node.known_facts();
    let settings = &node.settings;
    let limit = if settings.enforce_pods { orlop_node::pods_limit(&facts) } else { orlop_node::capacity(&facts) };
    let pids = Level::of_pids().map_err(|error| chain(&error))?.capacity;
    let reserved = settings.node.system_reserved.pids.saturating_add(settings.node.kube_reserved.pids);
    let held_back = if settings.enforce_pods { reserved } else { 0 };
    node.cgroups
        .limit_pods(limit.cpu_milli, limit.memory_bytes, pids.saturating_sub(held_back))
        .map_err(|error| chain(&error))
}
