//! Whether a pod that the API server gives fits this node, with the kubelet's
//! predicates, reasons and words (pkg/kubelet/lifecycle/predicate.go).

mod affinity;

use crate::mirror::is_static;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orlop_model::{ContainerPort, NodeAllocatable, PodDesired, Taint, TaintEffect};
use std::collections::BTreeMap;

/// The priority from which a pod is critical (`SystemCriticalPriority`).
const PRIORITY_CRITICAL_MIN: i32 = 2_000_000_000;

/// What admission to the node has to know of it.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels as the API server has them.
    pub labels: &'a BTreeMap<String, String>,
    /// Its taints.
    pub taints: &'a [Taint],
    /// What it has for pods.
    pub allocatable: NodeAllocatable,
}

/// Why a pod is not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// CamelCase, for the event and `status.reason`.
    pub reason: String,
    /// A sentence, for the event.
    pub message: String,
}

impl Refusal {
    /// The status of a pod that was refused; nothing else is known of it. `generation` is
    /// the pod's own (`metadata.generation`).
    #[must_use]
    pub fn status(&self, generation: Option<i64>, now: Timestamp) -> PodStatus {
        PodStatus {
            observed_generation: generation,
            start_time: Some(Time(now)),
            phase: Some("Failed".to_owned()),
            reason: Some(self.reason.clone()),
            message: Some(format!("Pod was rejected: {}", self.message)),
            ..PodStatus::default()
        }
    }
}

/// Checks a pod that is new here against the node and the pods that are `active` on it
/// (admitted, and neither ended nor this one). One that ran before the agent's restart is
/// not asked again.
///
/// A critical pod (static, or of a system priority class) is let in when only resources
/// are short: the kubelet would evict others for it, Orlop lets them share.
///
/// # Errors
/// The first thing that stands against it.
pub fn admit_to_node<'a>(
    pod: &Pod,
    desired: &PodDesired,
    node: &NodeFacts<'_>,
    active: impl Iterator<Item = &'a PodDesired>,
) -> Result<(), Refusal> {
    let refused = |reason: &str, message: &str| Err(Refusal { reason: reason.to_owned(), message: message.to_owned() });
    let predicate = |name: &str, why: &str| refused(name, &format!("Predicate {name} failed: {why}"));
    let os = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if os.is_some_and(|os| os != "linux") {
        return refused(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name != "linux") {
        return refused("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    let active: Vec<&PodDesired> = active.collect();
    if !is_critical(pod, desired) {
        fits(desired, &node.allocatable, &active)?;
    }
    if !spec.is_none_or(|spec| affinity::matches(spec, node)) {
        return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if spec.and_then(|spec| spec.node_name.as_deref()).is_some_and(|name| !name.is_empty() && name != node.name) {
        return predicate("NodeName", "node(s) didn't match the requested node name");
    }
    let taken = |port: &ContainerPort| active.iter().flat_map(|pod| host_ports(pod)).any(|other| clash(port, other));
    if host_ports(desired).any(taken) {
        return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let borne = |taint: &Taint| desired.tolerations.iter().any(|toleration| toleration.tolerates(taint));
    let mut evicting = node.taints.iter().filter(|taint| taint.effect == TaintEffect::NoExecute);
    if !is_static(pod) && !evicting.all(borne) {
        return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

/// The kubelet's `IsCriticalPod`; mirror pods never come here.
fn is_critical(pod: &Pod, desired: &PodDesired) -> bool {
    is_static(pod) || desired.priority >= PRIORITY_CRITICAL_MIN
}

/// The scheduler's `fitsRequest`, in its order.
fn fits(pod: &PodDesired, node: &NodeAllocatable, active: &[&PodDesired]) -> Result<(), Refusal> {
    let count = u64::try_from(active.len()).unwrap_or(u64::MAX);
    let used = |of: fn(&PodDesired) -> u64| active.iter().map(|pod| of(pod)).fold(0, u64::saturating_add);
    let cpu: fn(&PodDesired) -> u64 = |pod| pod.resources.cpu_request_milli;
    let memory: fn(&PodDesired) -> u64 = |pod| pod.resources.memory_request;
    for (resource, requested, used, capacity) in [
        ("pods", 1, count, node.pods),
        ("cpu", cpu(pod), used(cpu), node.cpu_milli),
        ("memory", memory(pod), used(memory), node.memory),
        ("ephemeral-storage", ephemeral_storage(pod), used(ephemeral_storage), node.ephemeral_storage),
    ] {
        if requested > 0 && requested > capacity.saturating_sub(used) {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Err(Refusal { reason: format!("OutOf{resource}"), message });
        }
    }
    Ok(())
}

/// The sum over main containers, or the largest init container where that is more.
fn ephemeral_storage(pod: &PodDesired) -> u64 {
    let of = |container: &orlop_model::ContainerDesired| container.resources.ephemeral_storage_request.unwrap_or(0);
    let sum = pod.main_containers().map(of).fold(0, u64::saturating_add);
    pod.init_containers().map(of).fold(sum, u64::max)
}

fn host_ports(pod: &PodDesired) -> impl Iterator<Item = &ContainerPort> {
    pod.main_containers().flat_map(|container| &container.ports).filter(|port| port.host_port.is_some())
}

/// Every address of the node, which is what none means, clashes with each.
fn clash(one: &ContainerPort, other: &ContainerPort) -> bool {
    let address = one.host_ip.is_none() || other.host_ip.is_none() || one.host_ip == other.host_ip;
    address && one.protocol == other.protocol && one.host_port == other.host_port
}
