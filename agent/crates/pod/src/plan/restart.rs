//! Whether and when an ended container runs again, exactly as the kubelet's
//! `doBackOff` over client-go's `flowcontrol.Backoff`.

use super::step::pause;
use super::{Life, later};
use crate::observed::{Backoff, ContainerObserved, PodObserved};
use jiff::Timestamp;
use orlop_model::{ContainerRole, PodDesired, RestartPolicy};
use std::time::Duration;

/// First delay, in seconds (`MaxContainerBackOff` is the last).
pub(super) const BACKOFF_SECS_FIRST: u64 = 10;
/// Longest delay, in seconds.
pub(super) const BACKOFF_SECS_MAX: u64 = 300;
/// A container that ends so many seconds after its start was asked for starts
/// over at the first delay (`hasExpired`: twice the longest).
pub(super) const BACKOFF_RESET_SECS: u64 = 2 * BACKOFF_SECS_MAX;

/// When a container may start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// Now, and this is to be recorded.
    Now(Option<Backoff>),
    /// Not before.
    After { at: Timestamp, delay: Duration },
}

/// Applies the back-off to an exit at `finished`.
pub(super) fn restart(backoff: Option<Backoff>, finished: Timestamp, now: Timestamp) -> Restart {
    let fresh = Backoff { delay: Duration::from_secs(BACKOFF_SECS_FIRST), raised: now };
    let Some(entry) = backoff else { return Restart::Now(Some(fresh)) };
    if finished > later(entry.raised, BACKOFF_RESET_SECS) {
        return Restart::Now(Some(fresh));
    }
    match pause(finished, entry.delay.as_secs(), now) {
        Some(at) => Restart::After { at, delay: entry.delay },
        None => {
            let delay = (entry.delay * 2).min(Duration::from_secs(BACKOFF_SECS_MAX));
            Restart::Now(Some(Backoff { delay, raised: now }))
        }
    }
}

/// Whether an ended container is to run again at all.
pub(crate) fn will_restart(
    want: &PodDesired,
    seen: &PodObserved,
    role: ContainerRole,
    life: Life<'_>,
    container: Option<&ContainerObserved>,
) -> bool {
    if want.deletion.is_some() || seen.failed.is_some() {
        return false;
    }
    let succeeded = match life {
        Life::Ended(end) => end.code == 0,
        Life::Lost => false,
        Life::Absent | Life::CannotCreate { .. } | Life::Starting | Life::Running { .. } => return false,
    };
    // The kubelet restarts what a probe made it kill whatever the exit code was.
    let killed = container.is_some_and(|c| c.probes.kill.is_some());
    match (want.restart_policy, role) {
        (RestartPolicy::Never, ContainerRole::Init | ContainerRole::Main) => false,
        (RestartPolicy::Always, ContainerRole::Main) => true,
        (RestartPolicy::OnFailure, ContainerRole::Main) => !succeeded || killed,
        (RestartPolicy::Always | RestartPolicy::OnFailure, ContainerRole::Init) => !succeeded,
    }
}

/// As Go prints a duration of whole seconds: `10s`, `1m20s`, `5m0s`.
pub(super) fn go_duration(delay: Duration) -> String {
    match (delay.as_secs() / 60, delay.as_secs() % 60) {
        (0, secs) => format!("{secs}s"),
        (mins, secs) => format!("{mins}m{secs}s"),
    }
}
