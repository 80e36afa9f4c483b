//! Containers, as the agent sees them: the OCI spec of each, and the client of the
//! pod's monitor that runs them.
//!
//! ```text
//! PodDesired, ContainerDesired, ImageRun, env, mounts ─build_spec─▶ bundle/config.json
//!                                                                      │ CreateContainer
//! agent ──Monitor::{create, signal, exec, remove, shutdown}──▶ orlop-monitor
//!       ◀─MonitorEvent::{Exited, LogTrouble, Gone}───────────
//! ```
//!
//! Everything but the client and the readers of the node's facts is pure.
#![forbid(unsafe_code)]

mod capability;
mod client;
mod device;
mod error;
mod resources;
mod seccomp;
mod spec;
#[cfg(test)]
mod spec_tests;
mod user;

pub use capability::{HostCapabilities, capabilities_for};
pub use client::{ExecHandle, Monitor, MonitorEvent};
pub use device::host_devices;
pub use error::Error;
pub use resources::{oom_score_adj, resources};
pub use seccomp::{for_libcontainer, localhost as localhost_seccomp, runtime_default as runtime_default_seccomp};
pub use spec::{ImageRun, Mount, NamespacePaths, PidNamespace, SpecInput, build_spec};
pub use user::{Databases, ResolvedUser, check_non_root, resolve_user};
