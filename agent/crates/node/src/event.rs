//! Events about the node itself, from one status to the next.

use k8s_openapi::api::core::v1::{Node, NodeStatus};

/// An Event's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// An Event to record for the Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    /// Its type.
    pub severity: Severity,
    /// Its reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

/// (condition, reason when it turned True, reason when it turned False).
const TURNS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ("Ready", "NodeReady", "NodeNotReady"),
];

/// What happened between two Nodes, in the kubelet's words: a reboot, conditions that
/// turned, and whether pods may be scheduled. A Ready that is new gives no event.
#[must_use]
pub fn events(before: &Node, after: &Node) -> Vec<NodeEvent> {
    let name = after.metadata.name.as_deref().unwrap_or_default();
    let turned = |reason: &'static str| NodeEvent {
        severity: Severity::Normal,
        reason,
        message: format!("Node {name} status is now: {reason}"),
    };
    let mut events = Vec::new();
    let boot = |node: &Node| node.status.as_ref().and_then(|s| s.node_info.as_ref()).map(|info| info.boot_id.clone());
    if let (Some(old), Some(new)) = (boot(before), boot(after))
        && !old.is_empty()
        && old != new
    {
        let message = format!("Node {name} has been rebooted, boot id: {new}");
        events.push(NodeEvent { severity: Severity::Warning, reason: "Rebooted", message });
    }
    for (kind, on, off) in TURNS {
        let (old, new) = (condition(before.status.as_ref(), kind), condition(after.status.as_ref(), kind));
        let is_new_ready = kind == "Ready" && old.is_none();
        match new {
            Some(new) if old != Some(new) && !is_new_ready => events.push(turned(if new == "True" { on } else { off })),
            _ => {}
        }
    }
    let off = |node: &Node| node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    match (off(before), off(after)) {
        (false, true) => events.push(turned("NodeNotSchedulable")),
        (true, false) => events.push(turned("NodeSchedulable")),
        _ => {}
    }
    events
}

fn condition<'a>(status: Option<&'a NodeStatus>, kind: &str) -> Option<&'a str> {
    let list = status?.conditions.as_ref()?;
    list.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}
