//! `status` as a whole, and when it is to be sent.

use crate::address::{PROVIDED_IP, addresses, provided_ip};
use crate::condition::conditions;
use crate::image::images;
use crate::label::{ARCH, OS};
use crate::{NodeFacts, Patch, ReportSchedule, allocatable, capacity, diff};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};

/// A report that is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// For `PATCH nodes/NAME/status`.
    pub patch: Patch,
    /// The Node as it will be; its [`crate::events`] are to be recorded.
    pub node: Node,
    /// Something besides heartbeats changed. Goes into [`ReportSchedule::reported`].
    pub changed: bool,
}

/// The status after this report. Resources, conditions and volumes that are not the
/// agent's stay as they are in `existing`.
#[must_use]
pub fn status(existing: Option<&NodeStatus>, facts: &NodeFacts, now: Timestamp) -> NodeStatus {
    let (machine, settings) = (&facts.machine, &facts.settings);
    let (all, left) = (capacity(facts), allocatable(facts));
    let mut status = existing.cloned().unwrap_or_default();
    status.addresses = Some(addresses(status.addresses.as_deref().unwrap_or_default(), facts));
    status.capacity.get_or_insert_default().extend(all.quantities());
    let capacity = status.capacity.clone().unwrap_or_default();
    let list = status.allocatable.get_or_insert_default();
    list.retain(|name, _| capacity.contains_key(name) || !is_extended(name));
    // What others advertise is theirs to hand out whole.
    list.extend(capacity);
    list.extend(left.quantities());
    status.node_info = Some(NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: settings.runtime_version.clone(),
        kernel_version: machine.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: settings.kubelet_version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        swap: swap(machine.swap_bytes),
        system_uuid: machine.system_uuid.clone(),
    });
    status.daemon_endpoints =
        Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(settings.port) }) });
    status.images = some(images(&facts.seen.images, settings.max_images));
    status.runtime_handlers = some(settings.runtime_handlers.iter().map(runtime_handler).collect());
    if settings.supplemental_groups_policy.is_some() {
        status.features = Some(NodeFeatures { supplemental_groups_policy: settings.supplemental_groups_policy });
    }
    if !settings.declared_features.is_empty() {
        status.declared_features = Some(settings.declared_features.clone());
    }
    status.conditions = Some(conditions(status.conditions.as_deref().unwrap_or_default(), facts, &all, now));
    status
}

/// The report to send now, if there is one: something changed, or the last one is so long
/// ago that the schedule says so.
#[must_use]
pub fn status_patch(existing: &Node, facts: &NodeFacts, schedule: &ReportSchedule, now: Timestamp) -> Option<Update> {
    let node = updated(existing, facts, now);
    let changed = has_changed(existing, &node);
    if !changed && !schedule.is_due(now) {
        return None;
    }
    let patch = diff(existing, &node)?;
    Some(Update { patch, node, changed })
}

/// `existing` with everything that a report asserts.
pub(crate) fn updated(existing: &Node, facts: &NodeFacts, now: Timestamp) -> Node {
    let mut node = existing.clone();
    let labels = node.metadata.labels.get_or_insert_default();
    labels.insert(OS.to_owned(), "linux".to_owned());
    labels.insert(ARCH.to_owned(), facts.machine.architecture.clone());
    set_annotation(&mut node, PROVIDED_IP, provided_ip(facts));
    node.status = Some(status(existing.status.as_ref(), facts, now));
    node
}

/// Writes an annotation, or takes it away.
pub(crate) fn set_annotation(node: &mut Node, key: &str, value: Option<String>) {
    match (value, &mut node.metadata.annotations) {
        (Some(value), annotations) => {
            annotations.get_or_insert_default().insert(key.to_owned(), value);
        }
        (None, Some(annotations)) => {
            annotations.remove(key);
        }
        (None, None) => {}
    }
}

/// Whether anything but heartbeats and the order of conditions differs.
fn has_changed(before: &Node, after: &Node) -> bool {
    let quiet = |node: &Node| {
        let mut node = node.clone();
        if let Some(conditions) = node.status.as_mut().and_then(|status| status.conditions.as_mut()) {
            conditions.iter_mut().for_each(|condition| condition.last_heartbeat_time = None);
            conditions.sort_by(|a: &NodeCondition, b| a.type_.cmp(&b.type_));
        }
        node
    };
    diff(&quiet(before), &quiet(after)).is_some()
}

/// A resource that is neither Kubernetes' own nor huge pages: `vendor.example/device`.
pub(crate) fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn swap(bytes: u64) -> Option<NodeSwapStatus> {
    (bytes > 0).then(|| NodeSwapStatus { capacity: i64::try_from(bytes).ok() })
}

fn runtime_handler(handler: &crate::RuntimeHandler) -> NodeRuntimeHandler {
    NodeRuntimeHandler {
        // The API server writes an empty one too: left out it would be a change in each report.
        name: Some(handler.name.clone()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(handler.recursive_read_only_mounts),
            user_namespaces: Some(handler.user_namespaces),
        }),
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
