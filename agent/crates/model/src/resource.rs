//! Resource requests and limits, in the kernel's units.

use serde::{Deserialize, Serialize};

/// A container's requests and limits. `None` is "not said".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerResources {
    /// Thousandths of a CPU asked for.
    pub cpu_request_milli: Option<u64>,
    /// Thousandths of a CPU at most.
    pub cpu_limit_milli: Option<u64>,
    /// Bytes of memory asked for.
    pub memory_request: Option<u64>,
    /// Bytes of memory at most.
    pub memory_limit: Option<u64>,
    /// Bytes of node-local disk asked for.
    pub ephemeral_storage_request: Option<u64>,
    /// Bytes of node-local disk at most (logs, writable layer, emptyDir).
    pub ephemeral_storage_limit: Option<u64>,
}

/// The Kubernetes quality-of-service class, which is also the cgroup's parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QosClass {
    /// Every container has equal requests and limits of cpu and memory.
    Guaranteed,
    /// Some container has a request or limit.
    Burstable,
    /// None has.
    BestEffort,
}

impl QosClass {
    /// As `status.qosClass` spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// What the pod's cgroup is given: the sum over containers, or the largest init
/// container where that is more; a limit only if every container has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodResources {
    /// Thousandths of a CPU asked for.
    pub cpu_request_milli: u64,
    /// Thousandths of a CPU at most.
    pub cpu_limit_milli: Option<u64>,
    /// Bytes of memory asked for.
    pub memory_request: u64,
    /// Bytes of memory at most.
    pub memory_limit: Option<u64>,
}

/// What the node has for pods (`status.allocatable`): admission counts against it,
/// and it stands for a limit that a container does not give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAllocatable {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of node-local disk.
    pub ephemeral_storage: u64,
    /// Pods.
    pub pods: u64,
}
