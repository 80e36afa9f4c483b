//! The end of a pod: stop what runs, then tear down.

use super::grace::{self, Limit};
use super::step::{LOCAL, Need, need};
use super::{Life, PodAction, PodPlan, life, run};
use crate::observed::{PodObserved, SandboxState, Step};
use jiff::Timestamp;
use orlop_model::PodDesired;

/// Ends every container, main or init, known to the spec or not, and frees the
/// pod's resources once the last one is gone.
pub(super) fn end(want: &PodDesired, seen: &PodObserved, limit: Limit, now: Timestamp, plan: &mut PodPlan) {
    describe(want, seen, plan);
    let mut busy = under_way(seen);
    for (name, container) in &seen.containers {
        match life(seen, name).0 {
            Life::Running { id, started: _ } => {
                busy = true;
                grace::stop((name, id), container, limit, &format!("Stopping container {name}"), now, plan);
            }
            Life::Starting => busy = true,
            Life::Absent | Life::CannotCreate { .. } | Life::Ended(_) | Life::Lost => {}
        }
    }
    if busy {
        return;
    }
    match need(&seen.teardown, LOCAL, now) {
        Need::Attempt => plan.act(PodAction::TearDown),
        Need::Pause(at) => plan.wake(at),
        Need::Nothing | Need::Patience => {}
    }
}

/// A step that would leave something behind if it ended after the tear-down.
fn under_way(seen: &PodObserved) -> bool {
    let step = match &seen.sandbox {
        SandboxState::Pending(step) | SandboxState::Broken { removal: step } => Some(step),
        SandboxState::Ready { .. } => None,
    };
    step == Some(&Step::InProgress) || seen.volumes == Step::InProgress
}

/// Containers that never ran say so.
pub(super) fn describe(want: &PodDesired, seen: &PodObserved, plan: &mut PodPlan) {
    for container in &want.containers {
        match life(seen, &container.name).0 {
            Life::Absent | Life::CannotCreate { .. } => plan.wait(&container.name, run::default_reason(want), ""),
            Life::Starting | Life::Running { .. } | Life::Ended(_) | Life::Lost => {}
        }
    }
}
