//! What Orlop's processes say to each other over Unix stream sockets.
//!
//! ```text
//!   orlop (CLI) ──frames──▶ agent ──frames──▶ orlop-monitor (one a pod)
//!               ◀─────────        ◀──────────
//! ```
//!
//! A frame is a 4-byte little-endian length followed by that many bytes of JSON.
//! File descriptors (an exec's standard streams, a terminal's master) travel as
//! `SCM_RIGHTS` with the length's bytes. [`frame`] has a blocking half, for the
//! single-threaded monitor; the agent's half in `orlop-runtime` uses the same
//! calls when the socket is ready.

pub mod frame;
mod monitor;

pub use monitor::{
    AttemptRecord, ContainerStatus, CreateContainer, Exec, ExecUser, Exit, FromMonitor, LogTarget, PROTOCOL_VERSION,
    Reply, Request, SandboxConfig, SandboxReady, Snapshot, StartFailure, ToMonitor,
};
