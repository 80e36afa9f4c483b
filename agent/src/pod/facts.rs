//! How what happens becomes facts for the plan. Pure.

use super::record::{self, PodRecord, SavedProbes};
use jiff::Timestamp;
use orlop_model::ContainerName;
use orlop_pod::{Backoff, ContainerObserved, Lifecycle, PodObserved, ProbeResults, SandboxState, Step, Termination};
use orlop_wire::AttemptRecord;

/// Exit code of a container whose monitor was killed: nobody saw how it ended, and
/// it was killed with its sandbox (128 + SIGKILL).
const LOST_EXIT_CODE: i32 = 137;

/// Why a step failed: a CamelCase reason and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepError {
    /// As in a waiting state or an event.
    pub reason: String,
    /// For the person on call.
    pub message: String,
}

impl StepError {
    /// From an error and its sources, in one line.
    pub fn new(reason: &str, error: &dyn std::error::Error) -> Self {
        Self { reason: reason.to_owned(), message: chain(error) }
    }

    /// From a sentence.
    pub fn text(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

/// The sandbox is being made; a broken or standing one is not touched.
pub(crate) fn in_progress(sandbox: &SandboxState) -> SandboxState {
    match sandbox {
        SandboxState::Pending(_) => SandboxState::Pending(Step::InProgress),
        SandboxState::Ready { .. } | SandboxState::Broken { .. } => sandbox.clone(),
    }
}

/// An attempt is being created.
pub(crate) fn starting(seen: &mut ContainerObserved, attempt: u32, backoff: Option<Backoff>) {
    seen.attempt = Some(attempt);
    seen.backoff = backoff;
    seen.earlier_sandbox = false;
    seen.probes = ProbeResults::default();
    seen.stopping = None;
    if let Lifecycle::Ended(ended) = &seen.life {
        seen.last = Some(ended.clone());
    }
    seen.life = Lifecycle::Starting;
}

/// The monitor has answered: it runs, or it could not be started.
pub(crate) fn started(seen: &mut ContainerObserved, attempt: &AttemptRecord) {
    // Its end may have been heard before the answer to its start.
    let ended_already = matches!(&seen.life, Lifecycle::Ended(ended) if ended.id == attempt.id);
    if !ended_already {
        seen.life = record::lifecycle(attempt);
    }
    let note: record::AttemptNote = serde_json::from_value(attempt.meta.clone()).unwrap_or_default();
    (seen.image_id, seen.user) = (note.image_id, note.user);
}

/// The agent could not even ask for it, for the `failures`th time in a row.
pub(crate) fn cannot_create(seen: &mut ContainerObserved, error: StepError, at: Timestamp, failures: u32) {
    seen.life = Lifecycle::CannotCreate { reason: error.reason, message: error.message, at, failures };
}

/// The monitor says that an attempt ended.
pub(crate) fn exited(seen: &mut ContainerObserved, attempt: &AttemptRecord) {
    let Some(ended) = record::termination(attempt) else { return };
    // An end of an older attempt is no news.
    if seen.attempt.is_some_and(|newest| newest > attempt.attempt) {
        return;
    }
    seen.attempt = Some(attempt.attempt);
    seen.life = Lifecycle::Ended(ended);
    seen.stopping = None;
    // That a probe killed it still counts when it exits 0.
    seen.probes = ProbeResults { kill: seen.probes.kill.take(), ..ProbeResults::default() };
}

/// The sandbox is gone with everything in it.
pub(crate) fn lose_containers(seen: &mut PodObserved, now: Timestamp) {
    for container in seen.containers.values_mut() {
        lose(container, now);
    }
}

/// What ran, ran in a sandbox that is gone.
pub(crate) fn lose(container: &mut ContainerObserved, now: Timestamp) {
    container.earlier_sandbox = true;
    container.stopping = None;
    container.probes = ProbeResults { kill: container.probes.kill.take(), ..ProbeResults::default() };
    container.life = match &container.life {
        Lifecycle::Running { id, started } => Lifecycle::Ended(Termination {
            id: id.clone(),
            attempt: container.attempt.unwrap_or_default(),
            code: LOST_EXIT_CODE,
            signal: None,
            reason: "ContainerStatusUnknown".to_owned(),
            message: "The container could not be located when the pod was terminated".to_owned(),
            started: Some(*started),
            finished: now,
        }),
        // Nobody has heard that it ran.
        Lifecycle::Starting => container.last.clone().map_or(Lifecycle::Absent, Lifecycle::Ended),
        Lifecycle::Absent | Lifecycle::Ended(_) | Lifecycle::CannotCreate { .. } => return,
    };
}

/// An object appeared or changed: what failed for want of it is tried at once.
pub(crate) fn retry_now(seen: &mut PodObserved) {
    if matches!(seen.volumes, Step::Failed { .. }) {
        seen.volumes = Step::Absent;
    }
    for container in seen.containers.values_mut() {
        if matches!(container.life, Lifecycle::CannotCreate { .. }) {
            container.life = container.last.clone().map_or(Lifecycle::Absent, Lifecycle::Ended);
        }
    }
}

/// Images were loaded: a missing one is looked for at once.
pub(crate) fn retry_images_now(seen: &mut PodObserved) {
    seen.images.retain(|_, step| !matches!(step, Step::Failed { .. }));
}

/// Notes a container's probe results in the record; `true` when that changed it.
pub(crate) fn save_probes(record: &mut PodRecord, seen: &PodObserved, name: &ContainerName) -> bool {
    let Some(container) = seen.containers.get(name) else { return false };
    let saved = SavedProbes {
        attempt: container.attempt.unwrap_or_default(),
        started: container.probes.started,
        ready: container.probes.ready,
    };
    let old = record.probes.insert(name.clone(), saved.clone());
    old != Some(saved)
}
