//! Whether containers and the pod are ready, and whether Services may use the pod.

use crate::observed::{PodObserved, SandboxState};
use crate::plan::{Life, Phase, life, phase};
use orlop_model::{ContainerDesired, PodDesired};

/// `started`: it runs and its startup probe, if any, has succeeded.
pub(super) fn container_started(seen: &PodObserved, container: &ContainerDesired) -> bool {
    match life(seen, &container.name) {
        (Life::Running { .. }, Some(about)) => container.startup.is_none() || about.probes.started,
        (Life::Running { .. }, None) => container.startup.is_none(),
        (Life::Absent | Life::CannotCreate { .. } | Life::Starting | Life::Ended(_) | Life::Lost, _) => false,
    }
}

/// `ready`: started and its readiness probe, if any, succeeds.
pub(super) fn container_ready(seen: &PodObserved, container: &ContainerDesired) -> bool {
    let probed = seen.containers.get(&container.name).is_some_and(|about| about.probes.ready);
    container_started(seen, container) && (container.readiness.is_none() || probed)
}

/// Whether every main container of a running pod is ready. The `Ready` condition also
/// waits for the pod's readiness gates, which only the API server knows.
#[must_use]
pub fn pod_ready(want: &PodDesired, seen: &PodObserved) -> bool {
    let alive = match phase(want, seen) {
        Phase::Running => true,
        Phase::Pending | Phase::Succeeded | Phase::Failed => false,
    };
    alive && want.main_containers().all(|container| container_ready(seen, container))
}

/// Whether Services may send the pod new connections: ready, and nothing of it is
/// on its way out. Turns false the moment a container ends, a probe fails, SIGTERM
/// goes out or the pod is deleted, before any API object says so.
#[must_use]
pub fn pod_serving(want: &PodDesired, seen: &PodObserved) -> bool {
    let stands = match seen.sandbox {
        SandboxState::Ready { .. } => true,
        SandboxState::Pending(_) | SandboxState::Broken { .. } => false,
    };
    let leaving = want.deletion.is_some()
        || seen.failed.is_some()
        || want.main_containers().any(|main| {
            seen.containers.get(&main.name).is_some_and(|c| c.stopping.is_some() || c.probes.kill.is_some())
        });
    stands && !leaving && pod_ready(want, seen)
}
