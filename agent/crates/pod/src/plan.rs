//! What a plan consists of.

use crate::observed::Backoff;
use jiff::Timestamp;
use orlop_model::{ContainerId, ContainerName, ImageRef};
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
        /// To record with it.
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
        /// For the `Killing` event.
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
