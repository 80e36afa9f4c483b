//! What can go wrong, by operation.

use orlop_lb::MapOp;
use orlop_model::Ifindex;
use std::io;
use std::path::PathBuf;

use crate::Program;

/// Errors of the data path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is not on a BPF file system.
    #[error(
        "{path} is not on a bpf file system; mount one with `mount -t bpf bpf /sys/fs/bpf`, or name a folder on one with --bpf-dir"
    )]
    NoBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// A folder or pin could not be made, read or removed.
    #[error("{operation} {path}")]
    Pin {
        /// "create folder", "remove pin", …
        operation: &'static str,
        /// The folder or pin.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A pinned map of another Orlop version has another layout.
    #[error(
        "pinned map {pin} has {found} where this version wants {wanted}; drain the node, stop the agent and remove the folder {folder} (established connections through services will be cut)"
    )]
    IncompatibleMap {
        /// The pin.
        pin: PathBuf,
        /// The folder that holds all pins of the node.
        folder: PathBuf,
        /// What the pinned map is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The object was refused as a whole.
    #[error("load the eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    /// The object lacks a program or map that belongs in it: the build is broken.
    #[error("the eBPF object has no {what} {name}")]
    Missing {
        /// "map" or "program".
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The kernel refused a program.
    #[error("load program {program}")]
    LoadProgram {
        /// The program.
        program: Program,
        /// The verifier's words are in here.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A program could not be attached to the cgroup.
    #[error("attach {program} to cgroup {cgroup}")]
    AttachCgroup {
        /// The program.
        program: Program,
        /// The cgroup's folder.
        cgroup: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program could not be attached to a device.
    #[error("attach {program} to {device} (tcx needs Linux 6.6)")]
    AttachUplink {
        /// The program.
        program: Program,
        /// The device.
        device: Ifindex,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The programs could not be put on a pod's device or taken off it.
    #[error("{operation} the programs of pod device {device}")]
    PodFilters {
        /// "attach", "replace", "detach".
        operation: &'static str,
        /// The device.
        device: Ifindex,
        /// The cause.
        #[source]
        source: orlop_kernel::KernelError,
    },
    /// A program could not be run on a frame.
    #[error("run {program} as on {device}")]
    DryRun {
        /// The program.
        program: Program,
        /// The device.
        device: Ifindex,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The node's own network namespace could not be told.
    #[error("find out the cookie of the node's network namespace")]
    Netns(#[source] orlop_kernel::KernelError),
    /// The sockets of some namespaces could not be ended: their programs wait for a dead backend.
    #[error("sockets of dead backends in {} network namespaces could not be ended, first: {}", .errors.len(), .errors.first().map(ToString::to_string).unwrap_or_default())]
    Destroy {
        /// Every failure.
        errors: Vec<orlop_kernel::KernelError>,
    },
    /// A map element could not be read or written.
    #[error("{operation} map {map}")]
    Map {
        /// "read", "write", "remove from".
        operation: &'static str,
        /// The map.
        map: &'static str,
        /// `E2BIG`: the map is full.
        #[source]
        source: io::Error,
    },
    /// An operation of a plan failed; those before it are done, those after it are not.
    #[error("operation {index} of the service plan, {op:?}")]
    Apply {
        /// Place in the plan.
        index: usize,
        /// The operation.
        op: MapOp,
        /// The cause.
        #[source]
        source: Box<Error>,
    },
    /// Some pins could not be removed.
    #[error("{} pins could not be removed, first {}", .errors.len(), .errors.first().map(ToString::to_string).unwrap_or_default())]
    Teardown {
        /// Every failure.
        errors: Vec<Error>,
    },
}
