//! The pod's phase, as the kubelet's `getPhase` computes it.

use super::restart::will_restart;
use super::{Life, life};
use crate::observed::{ContainerObserved, PodObserved, Step};
use orlop_model::{ContainerDesired, PodDesired, RestartPolicy};

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Some container has not been started yet.
    Pending,
    /// Every container has been started, and some runs or will run again.
    Running,
    /// All ended with 0 and none will run again.
    Succeeded,
    /// All ended, some of them in failure.
    Failed,
}

impl Phase {
    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

#[derive(Default)]
struct Tally {
    waiting: u32,
    running: u32,
    restarting: u32,
    succeeded: u32,
    failed: u32,
}

/// The phase. `Succeeded` and `Failed` are for good: containers only end from there on.
#[must_use]
pub fn phase(want: &PodDesired, seen: &PodObserved) -> Phase {
    if seen.failed.is_some() {
        return Phase::Failed;
    }
    let torn_down = match seen.teardown {
        Step::Ready => true,
        Step::Absent | Step::InProgress | Step::Failed { .. } => false,
    };
    let over = torn_down && want.deletion.is_some();
    if want.restart_policy == RestartPolicy::Never && want.init_containers().any(|init| init_failed(seen, init)) {
        return Phase::Failed;
    }
    let tally = tally(want, seen);
    let pending =
        tally.waiting > 0 || (!has_initialized(want, seen) && !want.init_containers().all(|i| init_done(seen, i)));
    match tally {
        // A pod that is deleted before it ran has failed (the status manager's `TerminatePod`).
        _ if pending => {
            if over {
                Phase::Failed
            } else {
                Phase::Pending
            }
        }
        Tally { running: 1.., .. } | Tally { restarting: 1.., .. } => {
            if over {
                Phase::Failed
            } else {
                Phase::Running
            }
        }
        Tally { failed: 0, .. } if over || want.restart_policy != RestartPolicy::Always => Phase::Succeeded,
        Tally { failed: 1.., .. } if over || want.restart_policy == RestartPolicy::Never => Phase::Failed,
        // On its way to its end: nothing restarts any more, not everything is said yet.
        Tally { .. } => Phase::Running,
    }
}

fn tally(want: &PodDesired, seen: &PodObserved) -> Tally {
    let mut tally = Tally::default();
    for container in want.main_containers() {
        let (life, about) = life(seen, &container.name);
        let before = about.is_some_and(|c| c.last.is_some());
        let count = match life {
            Life::Running { .. } => &mut tally.running,
            Life::Absent | Life::CannotCreate { .. } | Life::Starting if before => &mut tally.restarting,
            Life::Absent | Life::CannotCreate { .. } | Life::Starting => &mut tally.waiting,
            Life::Ended(_) | Life::Lost if will_restart(want, seen, container.role, life, about) => {
                &mut tally.restarting
            }
            Life::Ended(end) if end.code == 0 => &mut tally.succeeded,
            Life::Ended(_) | Life::Lost => &mut tally.failed,
        };
        *count += 1;
    }
    tally
}

fn init_failed(seen: &PodObserved, init: &ContainerDesired) -> bool {
    match life(seen, &init.name).0 {
        Life::Ended(end) => end.code != 0,
        Life::Lost => true,
        Life::Absent | Life::CannotCreate { .. } | Life::Starting | Life::Running { .. } => false,
    }
}

/// Whether an init container has run to success (in this sandbox or another).
pub(crate) fn init_done(seen: &PodObserved, init: &ContainerDesired) -> bool {
    match life(seen, &init.name).0 {
        Life::Ended(end) => end.code == 0,
        Life::Absent | Life::CannotCreate { .. } | Life::Starting | Life::Running { .. } | Life::Lost => false,
    }
}

/// Whether any main container has ever been started; then all init containers
/// had ended well by that time, even if nothing is remembered of them.
pub(crate) fn has_initialized(want: &PodDesired, seen: &PodObserved) -> bool {
    want.main_containers().any(|main| seen.containers.get(&main.name).is_some_and(ever_started))
}

fn ever_started(container: &ContainerObserved) -> bool {
    use crate::observed::Lifecycle;
    match &container.life {
        Lifecycle::Starting | Lifecycle::Running { .. } | Lifecycle::Ended(_) => true,
        Lifecycle::Absent | Lifecycle::CannotCreate { .. } => container.last.is_some(),
    }
}
