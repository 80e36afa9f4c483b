//! Supported fields of which some values are not acted on.

use crate::{EvictionSignal, Grade, KubeletConfiguration, Warning};
use std::path::Path;

/// Gates whose effect Orlop has, and always has.
const ALWAYS_ON: [&str; 5] = [
    "KubeletCrashLoopBackOffMax",
    "PodReadyToStartContainersCondition",
    "RotateKubeletClientCertificate",
    "RotateKubeletServerCertificate",
    "SidecarContainers",
];

/// A gate that is set to what Orlop does is silent.
pub(crate) fn warnings(config: &KubeletConfiguration, origin: &Path) -> Vec<Warning> {
    let warning = |field: String, instead: &str| Warning {
        grade: Grade::Warning,
        origin: origin.to_owned(),
        field: format!("KubeletConfiguration {field}"),
        instead: instead.to_owned(),
    };
    let mut warnings = Vec::new();
    for (name, on) in &config.feature_gates {
        let instead = match (ALWAYS_ON.contains(&name.as_str()), on) {
            (true, true) => continue,
            (true, false) => "Orlop always does this",
            (false, _) => "the gate changes nothing: Orlop does what its version says",
        };
        warnings.push(warning(format!("featureGates.{name}"), instead));
    }
    for level in config.enforce_node_allocatable.iter().filter(|level| !matches!(level.as_str(), "pods" | "none")) {
        let instead = "what is reserved is held back from pods; the system's own cgroups are left alone";
        warnings.push(warning(format!("enforceNodeAllocatable {level}"), instead));
    }
    let thresholds = [("evictionHard", &config.eviction_hard), ("evictionSoft", &config.eviction_soft)];
    for (field, signals) in thresholds {
        for signal in signals.keys() {
            let (name, instead) = match signal {
                EvictionSignal::ContainerFsAvailable => ("containerfs.available", "nodefs and imagefs are watched"),
                EvictionSignal::ContainerFsInodesFree => ("containerfs.inodesFree", "nodefs and imagefs are watched"),
                EvictionSignal::AllocatableMemoryAvailable => {
                    ("allocatableMemory.available", "the kernel limits the memory of all pods together")
                }
                EvictionSignal::MemoryAvailable
                | EvictionSignal::NodeFsAvailable
                | EvictionSignal::NodeFsInodesFree
                | EvictionSignal::ImageFsAvailable
                | EvictionSignal::ImageFsInodesFree
                | EvictionSignal::PidAvailable => continue,
            };
            warnings.push(warning(format!("{field}.{name}"), instead));
        }
    }
    warnings
}
