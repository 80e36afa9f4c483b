//! A pod as it is seen: facts from its monitor, its probes and the steps under way.

use jiff::Timestamp;
use orlop_model::{ContainerId, ContainerName, ImageRef};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A step that takes time: asked for, under way, done or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Never asked for.
    Absent,
    /// Under way; the plan does not ask again.
    InProgress,
    /// Done.
    Ready,
    /// Failed at `at` for the `failures`th time in a row; the plan retries after a back-off.
    Failed {
        /// CamelCase reason, as in a container's waiting state or an event.
        reason: String,
        /// A sentence for the person on call.
        message: String,
        /// When.
        at: Timestamp,
        /// In a row, at least 1.
        failures: u32,
    },
}

/// Namespaces, monitor, cgroup and network, together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxState {
    /// Not made, under way or failed.
    Pending(Step),
    /// Stands.
    Ready {
        /// The pod's addresses, primary first; the node's own with host network.
        ips: Vec<IpAddr>,
        /// When it was made.
        created: Timestamp,
    },
    /// Its monitor is gone without having been told to end: every container of it
    /// is lost, and it must be removed before another is made.
    Broken {
        /// How far the removal is. Once it is done the sandbox is
        /// `Pending(Step::Absent)` again.
        removal: Step,
    },
}

/// How one attempt at a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// The attempt.
    pub id: ContainerId,
    /// Attempt number.
    pub attempt: u32,
    /// Exit code.
    pub code: i32,
    /// Signal, if one ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, `StartError`.
    pub reason: String,
    /// Termination message.
    pub message: String,
    /// `None` when it never ran.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
}

/// Where the newest attempt of a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// No attempt yet.
    Absent,
    /// Being created.
    Starting,
    /// Running.
    Running {
        /// The attempt.
        id: ContainerId,
        /// Since.
        started: Timestamp,
    },
    /// Ended, or could not start.
    Ended(Termination),
    /// The agent could not even ask for it (bad environment, unwritable bundle):
    /// `CreateContainerConfigError`, `CreateContainerError`.
    CannotCreate {
        /// CamelCase reason.
        reason: String,
        /// A sentence.
        message: String,
        /// When it was tried.
        at: Timestamp,
        /// In a row.
        failures: u32,
    },
}

/// What the probes have found about the running attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeResults {
    /// The startup probe has succeeded. Meaningless without one.
    pub started: bool,
    /// The readiness probe's present result. Meaningless without one.
    pub ready: bool,
    /// The startup or liveness probe has failed for good: why the container is to
    /// be killed, in the kubelet's words. Kept after the attempt's end until the next
    /// one: what a probe ended runs again under `OnFailure` even if it exited 0.
    pub kill: Option<String>,
}

/// A container as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerObserved {
    /// The newest attempt.
    pub life: Lifecycle,
    /// Its number; 0 for the first. `None` before the first.
    pub attempt: Option<u32>,
    /// The attempt before, if it is known.
    pub last: Option<Termination>,
    /// Back-off that the newest attempt was started under: the delay that applies
    /// to the next restart, and the exit at which it was set. As the agent recorded
    /// it in the attempt's note.
    pub backoff: Option<Backoff>,
    /// Probes of the newest attempt; reset when the next one is begun.
    pub probes: ProbeResults,
    /// What the newest attempt runs: `REPOSITORY@sha256:…`, or the image's id
    /// (`sha256:…`) when it came from no registry.
    pub image_id: Option<String>,
    /// Whom the newest attempt's first process ran as.
    pub user: Option<ObservedUser>,
    /// When SIGTERM was sent to the newest attempt, and with which grace.
    pub stopping: Option<Stopping>,
    /// The newest attempt ran in a sandbox before the present one. In the present
    /// one init containers run again and main ones start again, as their restart
    /// policy has it. A fact of the agent's, not a comparison of times: clocks step.
    pub earlier_sandbox: bool,
}

impl Default for ContainerObserved {
    fn default() -> Self {
        Self {
            life: Lifecycle::Absent,
            attempt: None,
            last: None,
            backoff: None,
            probes: ProbeResults::default(),
            image_id: None,
            user: None,
            stopping: None,
            earlier_sandbox: false,
        }
    }
}

/// A container's user, resolved from the pod, the image and its user database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ObservedUser {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
}

/// Restart back-off, as client-go's `flowcontrol.Backoff` keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backoff {
    /// How long after its next exit the container waits.
    pub delay: Duration,
    /// When it was last raised: the moment the attempt was asked for.
    pub raised: Timestamp,
}

/// A container that has been told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// When SIGTERM went out.
    pub since: Timestamp,
    /// Seconds until SIGKILL.
    pub grace_secs: u64,
    /// SIGKILL went out as well.
    pub killed: bool,
}

/// A pod as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodObserved {
    /// When the agent first saw the pod (`status.startTime`).
    pub accepted: Timestamp,
    /// Sandbox.
    pub sandbox: SandboxState,
    /// Volumes on the node.
    pub volumes: Step,
    /// Images by the name the pod uses.
    pub images: BTreeMap<ImageRef, Step>,
    /// Why an image could not be had the last time: reason and message, until it can be.
    pub image_errors: BTreeMap<ImageRef, (String, String)>,
    /// Containers by name; one that was never tried may be missing.
    pub containers: BTreeMap<ContainerName, ContainerObserved>,
    /// The pod was ended for good (deadline, eviction): phase Failed with this
    /// reason and message.
    pub failed: Option<(String, String)>,
    /// Tear-down.
    pub teardown: Step,
}
