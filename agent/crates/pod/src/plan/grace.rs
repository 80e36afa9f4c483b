//! Ending a container: SIGTERM, a grace period, SIGKILL.

use super::{PodAction, PodPlan, later};
use crate::observed::{ContainerObserved, Stopping};
use jiff::Timestamp;
use orlop_model::{ContainerId, ContainerName};

/// The kubelet's `minimumGracePeriodInSeconds`: even a forced deletion leaves a
/// process this long.
pub(super) const GRACE_SECS_MIN: u64 = 2;

/// How long containers may take to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Seconds.
    pub(super) secs: u64,
    /// Counted from here, or from SIGTERM where that was later; `None` is from SIGTERM.
    pub(super) from: Option<Timestamp>,
}

impl Limit {
    /// The pod's own grace period, from SIGTERM on.
    pub(super) fn own(secs: u64) -> Self {
        Self { secs, from: None }
    }
}

/// One more step of a running container towards its end.
pub(super) fn stop(
    (name, id): (&ContainerName, &ContainerId),
    container: &ContainerObserved,
    limit: Limit,
    why: &str,
    now: Timestamp,
    plan: &mut PodPlan,
) {
    match container.stopping {
        None => plan.act(PodAction::StopContainer {
            id: id.clone(),
            name: name.clone(),
            grace_secs: limit.secs.max(GRACE_SECS_MIN),
            why: why.to_owned(),
        }),
        Some(Stopping { killed: true, .. }) => {}
        Some(Stopping { since, grace_secs, killed: false }) => {
            // A deletion may shorten a stop that is under way, never lengthen it.
            let own = later(since, grace_secs.max(GRACE_SECS_MIN));
            let start = limit.from.map_or(since, |from| from.max(since));
            let at = own.min(later(start, limit.secs.max(GRACE_SECS_MIN)));
            if at <= now {
                plan.act(PodAction::KillContainer { id: id.clone(), name: name.clone() });
            } else {
                plan.wake(at);
            }
        }
    }
}
