//! The pod's status, as the kubelet's `generateAPIPodStatus` computes it.

mod condition;
mod container;
mod merge;
mod patch;
mod ready;

pub use merge::{may_run, merge_status};
pub use patch::status_patch;
pub use ready::{pod_ready, pod_serving};

use crate::observed::{PodObserved, SandboxState};
use crate::plan::{PodPlan, phase};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orlop_model::{ContainerRole, PodDesired};
use std::net::IpAddr;

/// What the status is made of besides the pod.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatusContext<'a> {
    /// The node's addresses, primary first.
    pub host_ips: &'a [IpAddr],
    /// The status before: its transition times stay where nothing changed.
    pub previous: Option<&'a PodStatus>,
    /// The pod as the API server has it: what it was given is repeated in the status,
    /// and its readiness gates are looked up in its conditions.
    pub api: Option<&'a Pod>,
}

/// The status to report, given the plan made from the same facts.
#[must_use]
pub fn status(
    want: &PodDesired,
    seen: &PodObserved,
    plan: &PodPlan,
    cx: &StatusContext<'_>,
    now: Timestamp,
) -> PodStatus {
    let phase = phase(want, seen);
    let containers = |role: ContainerRole| {
        let of_role = want.containers.iter().filter(move |c| c.role == role);
        let list: Vec<_> =
            of_role.map(|c| container::status(want, seen, plan, c, given(cx, c.name.as_str()))).collect();
        (!list.is_empty()).then_some(list)
    };
    let (pod_ip, pod_ips) = addresses(seen, cx.previous);
    let (reason, message) = match &seen.failed {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None => (None, None),
    };
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason,
        message,
        conditions: Some(condition::conditions(want, seen, phase, cx, now)),
        init_container_statuses: containers(ContainerRole::Init),
        container_statuses: containers(ContainerRole::Main),
        host_ip: cx.host_ips.first().map(ToString::to_string),
        host_ips: (!cx.host_ips.is_empty())
            .then(|| cx.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip,
        pod_ips,
        qos_class: Some(want.qos.as_str().to_owned()),
        start_time: Some(Time(seen.accepted)),
        observed_generation: want.generation,
        ..PodStatus::default()
    }
}

/// The container as the API server was given it.
fn given<'a>(cx: &StatusContext<'a>, name: &str) -> Option<&'a Container> {
    let spec = cx.api?.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// The sandbox's addresses; without a sandbox those of the status before stay, as
/// an ended pod keeps them.
fn addresses(seen: &PodObserved, previous: Option<&PodStatus>) -> (Option<String>, Option<Vec<PodIP>>) {
    match &seen.sandbox {
        SandboxState::Ready { ips, created: _ } => {
            let list: Vec<PodIP> = ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
            (list.first().map(|first| first.ip.clone()), (!list.is_empty()).then_some(list))
        }
        SandboxState::Pending(_) | SandboxState::Broken { .. } => {
            previous.map_or((None, None), |status| (status.pod_ip.clone(), status.pod_ips.clone()))
        }
    }
}
