//! The pod's conditions, with the kubelet's reasons and messages.

use super::StatusContext;
use super::ready::container_ready;
use crate::observed::{PodObserved, SandboxState, Step};
use crate::plan::{Phase, has_initialized, init_done};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orlop_model::{ContainerDesired, PodDesired};

struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn plain(holds: bool) -> Self {
        Self { holds, reason: None, message: None }
    }
    fn with(holds: bool, reason: &'static str) -> Self {
        Self { holds, reason: Some(reason), message: None }
    }
}

/// In the order in which the kubelet lists them.
pub(super) fn conditions(
    want: &PodDesired,
    seen: &PodObserved,
    phase: Phase,
    cx: &StatusContext<'_>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let sandbox = match seen.sandbox {
        SandboxState::Ready { .. } => !matches!(seen.teardown, Step::Ready),
        SandboxState::Pending(_) | SandboxState::Broken { .. } => false,
    };
    [
        ("PodReadyToStartContainers", Verdict::plain(sandbox)),
        ("Initialized", initialized(want, seen, phase)),
        ("Ready", gated(want, ready(want, seen, phase), cx)),
        ("ContainersReady", ready(want, seen, phase)),
        ("PodScheduled", Verdict::plain(true)),
    ]
    .into_iter()
    .map(|(kind, verdict)| PodCondition { observed_generation: want.generation, ..condition(kind, verdict, cx, now) })
    .collect()
}

fn condition(kind: &str, verdict: Verdict, cx: &StatusContext<'_>, now: Timestamp) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let before = cx.previous.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let before =
        before.filter(|old| old.type_ == kind && old.status == status).find_map(|old| old.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(before.unwrap_or(Time(now))),
        ..PodCondition::default()
    }
}

fn names<'a>(containers: impl Iterator<Item = &'a ContainerDesired>) -> Vec<&'a str> {
    containers.map(|container| container.name.as_str()).collect()
}

fn initialized(want: &PodDesired, seen: &PodObserved, phase: Phase) -> Verdict {
    match phase {
        Phase::Succeeded => return Verdict::with(true, "PodCompleted"),
        Phase::Pending | Phase::Running | Phase::Failed => {}
    }
    let incomplete = names(want.init_containers().filter(|init| !init_done(seen, init)));
    if incomplete.is_empty() || has_initialized(want, seen) {
        return Verdict::plain(true);
    }
    Verdict {
        holds: false,
        reason: Some("ContainersNotInitialized"),
        message: Some(format!("containers with incomplete status: [{}]", incomplete.join(" "))),
    }
}

fn ready(want: &PodDesired, seen: &PodObserved, phase: Phase) -> Verdict {
    match phase {
        Phase::Succeeded => return Verdict::with(false, "PodCompleted"),
        Phase::Failed => return Verdict::with(false, "PodFailed"),
        Phase::Pending | Phase::Running => {}
    }
    let unready = names(want.main_containers().filter(|main| !container_ready(seen, main)));
    if unready.is_empty() {
        return Verdict::plain(true);
    }
    Verdict {
        holds: false,
        reason: Some("ContainersNotReady"),
        message: Some(format!("containers with unready status: [{}]", unready.join(" "))),
    }
}

/// A ready pod waits for the conditions that its readiness gates name.
fn gated(want: &PodDesired, containers: Verdict, cx: &StatusContext<'_>) -> Verdict {
    if !containers.holds {
        return containers;
    }
    let api = cx.api.and_then(|pod| pod.status.as_ref()).and_then(|status| status.conditions.as_deref());
    let closed = |gate: &String| match api.unwrap_or_default().iter().find(|condition| condition.type_ == *gate) {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => {
            let is = &condition.status;
            Some(format!("the status of pod readiness gate {gate:?} is not \"True\", but {is}"))
        }
        None => Some(format!("corresponding condition of pod readiness gate {gate:?} does not exist.")),
    };
    let closed: Vec<String> = want.readiness_gates.iter().filter_map(closed).collect();
    if closed.is_empty() {
        return containers;
    }
    Verdict { holds: false, reason: Some("ReadinessGatesNotReady"), message: Some(closed.join(", ")) }
}
