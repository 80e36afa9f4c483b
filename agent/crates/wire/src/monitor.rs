//! What the agent and a pod's monitor say to each other.
//!
//! The agent starts `orlop-monitor DIR`, where `DIR/sandbox.json` is a
//! [`SandboxConfig`]. The monitor makes the namespaces, pins them, listens on
//! `DIR/monitor.sock` and writes one line of JSON, [`SandboxReady`] or
//! `{"error": "…"}`, to its standard output, which it then closes.
//!
//! Every connection may send any number of [`ToMonitor`]; each is answered by one
//! [`FromMonitor::Reply`] with the same `seq`. After [`Request::Subscribe`] the
//! connection also receives every state change as it happens.

use jiff::Timestamp;
use orlop_model::{ContainerId, ContainerName, NetnsId, PodUid};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Raised whenever a message changes in a way an older side would misread. A
/// newer agent must still talk to the monitors that an older one started.
pub const PROTOCOL_VERSION: u32 = 1;

/// How to make a pod's sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The pod.
    pub uid: PodUid,
    /// The monitor's folder, on a filesystem that holds sockets and bind mounts.
    /// Namespaces are pinned at `DIR/ns/{net,ipc,uts}`, containers' records are in
    /// `DIR/containers/ID/`.
    pub dir: PathBuf,
    /// Host name in the new UTS namespace.
    pub hostname: String,
    /// Stay in the agent's network namespace; also keeps its UTS namespace.
    pub host_network: bool,
    /// Stay in the agent's IPC namespace.
    pub host_ipc: bool,
    /// Containers join one PID namespace, held by the monitor's child.
    pub share_process_namespace: bool,
    /// Written to `/proc/sys` inside the new namespaces.
    pub sysctls: Vec<(String, String)>,
    /// `cgroup.procs` files the monitor writes itself into before all else, so
    /// that it is not in the agent's cgroup.
    pub own_cgroup_procs: Vec<PathBuf>,
}

/// The sandbox stands and the socket listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxReady {
    /// The monitor's process id in the agent's PID namespace.
    pub pid: u32,
    /// The pod's network namespace (the agent's own with `host_network`).
    pub netns: NetnsId,
    /// [`PROTOCOL_VERSION`] of the monitor.
    pub protocol: u32,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    /// CRI log file, `…/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log`.
    pub path: PathBuf,
    /// Rotated when it would grow past this many bytes.
    pub max_bytes: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
}

/// Create and start one attempt at a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateContainer {
    /// Unique id of the attempt.
    pub id: ContainerId,
    /// The container's name in the pod.
    pub name: ContainerName,
    /// 0 for the first, then one more each restart.
    pub attempt: u32,
    /// OCI bundle: `config.json` and the mounted root filesystem.
    pub bundle: PathBuf,
    /// Extra `cgroup.procs` files the container's init is written into before it
    /// executes anything: on a hybrid host, the cgroup2 one that carries the eBPF
    /// hooks.
    pub extra_cgroup_procs: Vec<PathBuf>,
    /// `/proc/PID/oom_score_adj` of the container's processes, -1000 to 1000. Not
    /// in the OCI spec, because libcontainer would change the monitor's own; where
    /// the kernel refuses to go so low, the lowest it allows is used.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// Its log.
    pub log: LogTarget,
    /// Keep standard input open (a pipe that nobody writes).
    pub stdin: bool,
    /// Path on the node of the file that the container sees as its termination
    /// message, read at exit (at most 4096 bytes of it).
    pub termination_message: Option<PathBuf>,
    /// Use the last 2048 bytes or 80 lines of the log when the file is empty and
    /// the exit code is not 0.
    pub message_from_log: bool,
    /// Kept for the agent, not read by the monitor: what it must find again after
    /// its own restart (image id, back-off, spec hash).
    pub meta: serde_json::Value,
}

/// As whom an exec'd process runs; what is `None` is the container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecUser {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
}

/// Run a process in a running container. The frame carries three descriptors,
/// stdin, stdout and stderr, or with `tty` none: the reply then carries the
/// terminal's master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The container.
    pub id: ContainerId,
    /// Chosen by the caller; names the process in [`FromMonitor::ExecExited`].
    pub exec_id: u64,
    /// Argument vector.
    pub args: Vec<String>,
    /// Added to the container's environment, `NAME=value`.
    pub env: Vec<String>,
    /// `None` is the container's.
    pub cwd: Option<PathBuf>,
    /// A terminal.
    pub tty: bool,
    /// As whom.
    pub user: ExecUser,
    /// The process is killed after so long; exit code 124 is then not faked, the
    /// exit says `timed_out`.
    pub timeout_ms: Option<u64>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, or 128 plus the signal.
    pub code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// The kernel's OOM killer ended it or a process of its cgroup.
    pub oom_killed: bool,
    /// A timeout of ours ended it (exec only).
    pub timed_out: bool,
    /// When it was reaped.
    pub at: Timestamp,
    /// Termination message.
    pub message: String,
}

/// A container that could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// `ContainerCannotRun` when the command could not be executed (code 127 or
    /// 126), else `StartError` (code 128), as containerd has them.
    pub reason: String,
    /// The chain of errors in one line.
    pub message: String,
    /// What `status.terminated.exitCode` shows.
    pub code: i32,
    /// When.
    pub at: Timestamp,
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ContainerStatus {
    /// Its process runs.
    Running {
        /// Process id of its init in the agent's PID namespace.
        pid: u32,
        /// When it was started.
        started: Timestamp,
    },
    /// It ended.
    Exited {
        /// When it was started.
        started: Timestamp,
        /// How it ended.
        exit: Exit,
    },
    /// It never ran.
    Failed(StartFailure),
}

/// One attempt, as the monitor remembers it (`DIR/containers/ID/record.json`,
/// replaced atomically at every change).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Id of the attempt.
    pub id: ContainerId,
    /// Container name.
    pub name: ContainerName,
    /// Attempt number.
    pub attempt: u32,
    /// Where it stands.
    #[serde(flatten)]
    pub status: ContainerStatus,
    /// The agent's own note, as given at creation.
    pub meta: serde_json::Value,
}

/// All a monitor knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The sandbox.
    pub ready: SandboxReady,
    /// When the sandbox was made.
    pub created: Timestamp,
    /// Its configuration.
    pub config: SandboxConfig,
    /// Attempts not yet removed, oldest first.
    pub containers: Vec<AttemptRecord>,
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`Reply::Snapshot`]; from then on this connection gets events.
    Subscribe,
    /// Answered by [`Reply::Container`]: running, or why not.
    Create(CreateContainer),
    /// Send a signal to a container's init, or with `all` to every process of its
    /// cgroup. Answered by [`Reply::Done`] even when it has ended already.
    Signal {
        /// The container.
        id: ContainerId,
        /// Signal number.
        signal: i32,
        /// Every process of its cgroup.
        all: bool,
    },
    /// Answered by [`Reply::Exec`].
    Exec(Exec),
    /// Forget an ended attempt and remove its libcontainer state and cgroup.
    Remove {
        /// The attempt.
        id: ContainerId,
    },
    /// Kill what still runs, undo the pins, end. Answered by [`Reply::Done`] when
    /// no process of the pod is left.
    Shutdown,
}

/// A numbered request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToMonitor {
    /// Chosen by the caller, repeated in the reply.
    pub seq: u64,
    /// What is asked.
    pub request: Request,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Subscribe`].
    Snapshot(Snapshot),
    /// To [`Request::Create`].
    Container(AttemptRecord),
    /// To [`Request::Exec`]: the process id; the terminal's master came along.
    Exec {
        /// Process id in the agent's PID namespace.
        pid: u32,
    },
    /// Done.
    Done,
    /// Not done: the chain of errors in one line.
    Error(String),
}

/// What the monitor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromMonitor {
    /// The answer to the request with this number.
    Reply {
        /// The request's number.
        seq: u64,
        /// The answer.
        reply: Reply,
    },
    /// A container ended (to subscribers).
    Exited(AttemptRecord),
    /// An exec'd process ended (to the connection that started it).
    ExecExited {
        /// The caller's id.
        exec_id: u64,
        /// How.
        exit: Exit,
    },
    /// A log line could not be written (to subscribers): the disk is full, say.
    /// The container goes on; lines are counted, not lost in silence.
    LogTrouble {
        /// The container.
        id: ContainerId,
        /// What happened, for an event.
        message: String,
        /// Bytes that could not be written so far.
        lost_bytes: u64,
    },
}
