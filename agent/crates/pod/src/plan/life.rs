//! A container's life as the plan reads it: what the sandbox's loss means for it.

use crate::observed::{ContainerObserved, Lifecycle, PodObserved, SandboxState, Termination};
use jiff::Timestamp;
use orlop_model::{ContainerId, ContainerName};

/// Where the newest attempt of a container stands, in the light of its sandbox.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Life<'a> {
    Absent,
    CannotCreate {
        reason: &'a str,
        message: &'a str,
        at: Timestamp,
        failures: u32,
    },
    Starting,
    Running {
        id: &'a ContainerId,
        started: Timestamp,
    },
    Ended(&'a Termination),
    /// It was starting or running when its sandbox broke: nobody knows how it
    /// ended. Counts as a failure (the kubelet's `ContainerStatusUnknown`, 137).
    Lost,
}

/// The container's life and the rest of what is seen of it, if anything.
pub(crate) fn life<'a>(seen: &'a PodObserved, name: &ContainerName) -> (Life<'a>, Option<&'a ContainerObserved>) {
    let Some(container) = seen.containers.get(name) else { return (Life::Absent, None) };
    let stands = match &seen.sandbox {
        SandboxState::Ready { .. } => !container.earlier_sandbox,
        SandboxState::Pending(_) | SandboxState::Broken { .. } => false,
    };
    let life = match &container.life {
        Lifecycle::Absent => Life::Absent,
        Lifecycle::CannotCreate { reason, message, at, failures } => {
            Life::CannotCreate { reason, message, at: *at, failures: *failures }
        }
        Lifecycle::Ended(end) => Life::Ended(end),
        Lifecycle::Starting | Lifecycle::Running { .. } if !stands => Life::Lost,
        Lifecycle::Starting => Life::Starting,
        Lifecycle::Running { id, started } => Life::Running { id, started: *started },
    };
    (life, Some(container))
}

/// The number of the attempt to make next.
pub(super) fn next_attempt(life: Life<'_>, container: Option<&ContainerObserved>) -> u32 {
    let newest = container.and_then(|c| c.attempt);
    let after_last = container.and_then(|c| c.last.as_ref()).map_or(0, |last| last.attempt.saturating_add(1));
    match life {
        Life::Absent => after_last,
        // Nothing was made under that number: it is tried again.
        Life::CannotCreate { .. } => newest.unwrap_or(after_last).max(after_last),
        Life::Ended(end) => end.attempt.saturating_add(1),
        Life::Starting | Life::Running { .. } | Life::Lost => newest.map_or(after_last, |n| n.saturating_add(1)),
    }
}
