//! Security settings after pod and container level have been merged.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which seccomp filter a container runs under.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// No filter. What Kubernetes means when nothing is said.
    #[default]
    Unconfined,
    /// The runtime's default list of allowed system calls.
    RuntimeDefault,
    /// A profile file, relative to the kubelet's seccomp folder.
    Localhost(PathBuf),
}

/// One container's effective security context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSecurity {
    /// `runAsUser`; `None` takes the image's.
    pub run_as_user: Option<u32>,
    /// `runAsGroup`; `None` takes the image's or the user's primary group.
    pub run_as_group: Option<u32>,
    /// Refuse to start as user 0.
    pub run_as_non_root: bool,
    /// All capabilities, all devices, no masked paths, no seccomp.
    pub privileged: bool,
    /// The root filesystem is mounted read-only.
    pub read_only_root: bool,
    /// `false` sets `no_new_privs`.
    pub allow_privilege_escalation: bool,
    /// Added to the default set: `NET_ADMIN`, without `CAP_`; `ALL` is all.
    pub capabilities_add: Vec<String>,
    /// Taken from the default set; `ALL` is all.
    pub capabilities_drop: Vec<String>,
    /// The seccomp filter.
    pub seccomp: SeccompProfile,
}

/// The pod's part that is not a container's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSecurity {
    /// Groups added to every container's process.
    pub supplemental_groups: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`: the image's group file adds no groups.
    pub strict_groups: bool,
    /// Group that owns volumes; also a supplemental group.
    pub fs_group: Option<u32>,
    /// Namespaced sysctls set in the sandbox.
    pub sysctls: Vec<(String, String)>,
}

impl Default for ContainerSecurity {
    /// What Kubernetes means when nothing is said.
    fn default() -> Self {
        Self {
            run_as_user: None,
            run_as_group: None,
            run_as_non_root: false,
            privileged: false,
            read_only_root: false,
            allow_privilege_escalation: true,
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            seccomp: SeccompProfile::Unconfined,
        }
    }
}
