//! What to do next: the kubelet's `computePodActions` in spirit, as a value.

mod ending;
mod grace;
mod init;
mod life;
mod restart;
mod run;
mod step;
mod verdict;

pub(crate) use life::{Life, life};
pub use verdict::{Phase, phase};
pub(crate) use verdict::{has_initialized, init_done};

use crate::observed::{Backoff, PodObserved, Step};
use jiff::{SignedDuration, Timestamp};
use orlop_model::{ContainerId, ContainerName, ImageRef, PodDesired};
use std::collections::BTreeMap;

/// One thing to do. Actions of one plan are independent: the executor may run
/// them at the same time; each ends in new facts and a new plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodAction {
    /// Make cgroup, namespaces, monitor and network.
    CreateSandbox,
    /// Remove what is left of a broken sandbox; containers are lost.
    RemoveBrokenSandbox,
    /// Prepare volumes on the node.
    SetUpVolumes,
    /// Have the image: find it, later pull it.
    EnsureImage(ImageRef),
    /// Create and start the next attempt of a container.
    StartContainer {
        /// Which.
        name: ContainerName,
        /// Number of the attempt.
        attempt: u32,
        /// The container's back-off from here on: to be put into
        /// [`crate::ContainerObserved::backoff`] when the start is begun, and into the
        /// attempt's note so that it is found again.
        backoff: Option<Backoff>,
    },
    /// Send SIGTERM (or the stop signal) and remember it.
    StopContainer {
        /// Which attempt.
        id: ContainerId,
        /// Of which container.
        name: ContainerName,
        /// Seconds until the plan asks for a kill.
        grace_secs: u64,
        /// The whole message of the `Killing` event: `Stopping container a`, or
        /// `Container a failed liveness probe, will be restarted`.
        why: String,
    },
    /// Send SIGKILL to every process of it.
    KillContainer {
        /// Which attempt.
        id: ContainerId,
        /// Of which container.
        name: ContainerName,
    },
    /// Everything has ended: free network, volumes, cgroups, monitor.
    TearDown,
    /// The pod failed for good; record it.
    Fail {
        /// CamelCase reason, for example `DeadlineExceeded`.
        reason: String,
        /// A sentence.
        message: String,
    },
}

/// Why a container waits, for its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `ContainerCreating`, `PodInitializing`, `CrashLoopBackOff`, `ErrImageNeverPull`, …
    pub reason: String,
    /// A sentence, or nothing.
    pub message: String,
}

/// What to do now, when to look again, and why containers wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodPlan {
    /// Empty when all is as it should be.
    pub actions: Vec<PodAction>,
    /// The next moment at which the plan changes by itself.
    pub wake_at: Option<Timestamp>,
    /// Containers that do not run, and why.
    pub waiting: BTreeMap<ContainerName, Waiting>,
}

impl PodPlan {
    /// Asks to be called again no later than `at`.
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }
    fn act(&mut self, action: PodAction) {
        self.actions.push(action);
    }
    fn wait(&mut self, name: &ContainerName, reason: &str, message: impl Into<String>) {
        self.waiting.insert(name.clone(), Waiting { reason: reason.to_owned(), message: message.into() });
    }
}

/// A pod's way: on, to its end, or over.
enum Course {
    /// Containers are to run.
    Run,
    /// Everything is to end.
    End(grace::Limit),
    /// The active deadline has passed just now.
    PastDeadline,
    /// Torn down.
    Over,
}

/// Decides what to do next.
///
/// Planning is idempotent: carry the actions out (or mark them as under way) and
/// the same moment's plan is empty. `now` only ever makes steps due.
#[must_use]
pub fn plan(want: &PodDesired, seen: &PodObserved, now: Timestamp) -> PodPlan {
    let mut plan = PodPlan::default();
    match course(want, seen, now) {
        Course::Run => {
            run::run(want, seen, now, &mut plan);
            if let Some(at) = deadline(want, seen) {
                plan.wake(at);
            }
        }
        Course::End(limit) => ending::end(want, seen, limit, now, &mut plan),
        Course::PastDeadline => {
            plan.act(PodAction::Fail {
                reason: "DeadlineExceeded".to_owned(),
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            });
            let limit = grace::Limit::own(want.termination_grace_secs);
            ending::end(want, seen, limit, now, &mut plan);
        }
        Course::Over => ending::describe(want, seen, &mut plan),
    }
    plan
}

fn course(want: &PodDesired, seen: &PodObserved, now: Timestamp) -> Course {
    match &seen.teardown {
        Step::Ready => return Course::Over,
        Step::Absent | Step::InProgress | Step::Failed { .. } => {}
    }
    if let Some(deletion) = want.deletion {
        return Course::End(grace::Limit { secs: deletion.grace_secs, from: Some(deletion.at) });
    }
    match phase(want, seen) {
        Phase::Succeeded | Phase::Failed => Course::End(grace::Limit::own(want.termination_grace_secs)),
        Phase::Pending | Phase::Running => match deadline(want, seen) {
            Some(at) if at <= now => Course::PastDeadline,
            Some(_) | None => Course::Run,
        },
    }
}

/// When `activeDeadlineSeconds` is over.
fn deadline(want: &PodDesired, seen: &PodObserved) -> Option<Timestamp> {
    want.active_deadline_secs.map(|secs| later(seen.accepted, secs))
}

/// `at` plus so many seconds, or the end of time.
fn later(at: Timestamp, secs: u64) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(secs).unwrap_or(i64::MAX));
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}
