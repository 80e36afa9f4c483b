//! Our status laid over the API server's, as the kubelet's status manager does.

use crate::observed::{Lifecycle, PodObserved};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Conditions that are the node's; all others belong to somebody else.
const OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
/// Bytes of all termination messages of a pod, from `MaxPodTerminationMessageLogLength`.
const MESSAGES_BYTES_MAX: usize = 12 * 1024;

/// Whether some container of the pod runs or is being started.
#[must_use]
pub fn may_run(seen: &PodObserved) -> bool {
    seen.containers.values().any(|container| match container.life {
        Lifecycle::Running { .. } | Lifecycle::Starting => true,
        Lifecycle::Absent | Lifecycle::Ended(_) | Lifecycle::CannotCreate { .. } => false,
    })
}

/// What the API server is to have: `ours` with everything that is not a node's taken
/// over from `api`, the status it has now.
///
/// - Conditions of others, among them readiness gates and `DisruptionTarget`, stay; ours
///   keep their transition time where their status is the same.
/// - Start time and QoS class are never changed, nor is a phase that is terminal left.
/// - A terminal phase waits until nothing runs any more (`running`, see [`may_run`]), so
///   that nobody gives what the pod holds to another pod too early.
/// - Times are whole seconds and messages bounded, as the API server would have them.
#[must_use]
pub fn merge_status(api: &PodStatus, ours: &PodStatus, running: bool) -> PodStatus {
    let terminal = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mut merged = ours.clone();
    let premature = running && terminal(ours) && !terminal(api);
    let left = terminal(api) && ours.phase != api.phase;
    if premature || left {
        merged.phase.clone_from(&api.phase);
        (merged.reason, merged.message) = (api.reason.clone(), api.message.clone());
    } else if ours.phase == api.phase {
        merged.reason = merged.reason.or_else(|| api.reason.clone());
        merged.message = merged.message.or_else(|| api.message.clone());
    }
    let ended = match merged.phase.as_deref() {
        Some("Failed") => Some("PodFailed"),
        Some("Succeeded") => Some("PodCompleted"),
        _ => None,
    };
    merged.conditions = Some(conditions(api, ours, ended)).filter(|list| !list.is_empty());
    merged.start_time = api.start_time.clone().or(merged.start_time);
    merged.qos_class = api.qos_class.clone().or(merged.qos_class);
    merged.observed_generation = merged.observed_generation.or(api.observed_generation);
    merged.pod_ip = merged.pod_ip.or_else(|| api.pod_ip.clone());
    merged.pod_ips = merged.pod_ips.or_else(|| api.pod_ips.clone());
    // Others' fields, or ones of features that no pod here can use.
    merged.nominated_node_name.clone_from(&api.nominated_node_name);
    merged.resize.clone_from(&api.resize);
    merged.resource_claim_statuses.clone_from(&api.resource_claim_statuses);
    merged.extended_resource_claim_status.clone_from(&api.extended_resource_claim_status);
    merged.node_allocatable_resource_claim_statuses.clone_from(&api.node_allocatable_resource_claim_statuses);
    merged.allocated_resources.clone_from(&api.allocated_resources);
    merged.resources.clone_from(&api.resources);
    merged.ephemeral_container_statuses.clone_from(&api.ephemeral_container_statuses);
    normalize(&mut merged);
    merged
}

/// Those of others first, then ours. `ended` is why no pod that has ended is ready.
fn conditions(api: &PodStatus, ours: &PodStatus, ended: Option<&str>) -> Vec<PodCondition> {
    let theirs = api.conditions.as_deref().unwrap_or_default();
    let mut all: Vec<PodCondition> =
        theirs.iter().filter(|condition| !OWN.contains(&condition.type_.as_str())).cloned().collect();
    for condition in ours.conditions.iter().flatten().filter(|condition| OWN.contains(&condition.type_.as_str())) {
        let mut condition = condition.clone();
        let ready = matches!(condition.type_.as_str(), "Ready" | "ContainersReady");
        if let Some(reason) = ended.filter(|_| ready && condition.status == "True") {
            (condition.status, condition.reason, condition.message) =
                ("False".to_owned(), Some(reason.to_owned()), None);
        }
        let before = theirs.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        if let Some(time) = before.and_then(|old| old.last_transition_time.clone()) {
            condition.last_transition_time = Some(time);
        }
        all.push(condition);
    }
    all
}

fn normalize(status: &mut PodStatus) {
    whole_seconds(&mut status.start_time);
    for condition in status.conditions.iter_mut().flatten() {
        whole_seconds(&mut condition.last_transition_time);
        whole_seconds(&mut condition.last_probe_time);
    }
    if let Some(list) = &mut status.container_statuses {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let count = status.container_statuses.iter().chain(&status.init_container_statuses).map(Vec::len).sum::<usize>();
    let bytes = MESSAGES_BYTES_MAX / count.max(1);
    let lists = status.container_statuses.iter_mut().chain(&mut status.init_container_statuses);
    for ContainerStatus { state, last_state, .. } in lists.flatten() {
        for state in [state, last_state].into_iter().flatten() {
            normalize_state(state, bytes);
        }
    }
}

fn normalize_state(state: &mut ContainerState, message_bytes: usize) {
    if let Some(running) = &mut state.running {
        whole_seconds(&mut running.started_at);
    }
    if let Some(terminated) = &mut state.terminated {
        whole_seconds(&mut terminated.started_at);
        whole_seconds(&mut terminated.finished_at);
        if let Some(message) = &mut terminated.message {
            let end = (0..=message_bytes.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or(0));
        }
    }
}

fn whole_seconds(time: &mut Option<Time>) {
    if let Some(Time(time)) = time {
        *time = Timestamp::from_second(time.as_second()).unwrap_or(*time);
    }
}
