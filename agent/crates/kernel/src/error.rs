//! Every way a call into the kernel fails, with its operands.

use std::io;
use std::path::PathBuf;

/// A failed call into the kernel. Display says this layer only; the errno is the source.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No inotify instance is to be had.
    #[error("set up inotify")]
    Inotify {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be opened.
    #[error("open {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or folder could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write {value:?} to {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder (for example a cgroup) could not be made.
    #[error("make folder {}", path.display())]
    MakeDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder (for example a cgroup) could not be removed.
    #[error("remove {}", path.display())]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel file did not read as expected.
    #[error("{} says {text:?}, expected {expected}", path.display())]
    Unexpected {
        /// Which.
        path: PathBuf,
        /// What it says.
        text: String,
        /// What would have been understood.
        expected: &'static str,
    },
    /// The path does not lead to a network namespace.
    #[error("{path} is not a network namespace")]
    NotNetns {
        /// The path or descriptor.
        path: String,
    },
    /// `setns(2)` failed.
    #[error("enter network namespace {ino}")]
    EnterNetns {
        /// Inode of the namespace.
        ino: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Sockets could not be listed or ended.
    #[error("{what} sockets by netlink (sock_diag)")]
    SockDiag {
        /// "open", "list", "destroy", …
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `SO_NETNS_COOKIE` failed.
    #[error("find out the cookie of network namespace {ino}")]
    NetnsCookie {
        /// Inode of the namespace.
        ino: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `unshare(CLONE_NEWNET)` failed.
    #[error("make a network namespace")]
    MakeNetns {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread for work in another namespace could not be started.
    #[error("start a thread for network namespace {ino}")]
    Thread {
        /// Inode of the namespace.
        ino: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A netlink socket could not be made or used.
    #[error("netlink socket: {what}")]
    NetlinkSocket {
        /// `open`, `send`, `receive`.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("netlink: {request}")]
    Netlink {
        /// What was asked, in words.
        request: String,
        /// The errno of the answer.
        #[source]
        source: io::Error,
    },
    /// A netlink answer could not be understood.
    #[error("netlink: {request}: answer not understood: {problem}")]
    NetlinkAnswer {
        /// What was asked, in words.
        request: String,
        /// What was wrong.
        problem: String,
    },
    /// A mount failed.
    #[error("mount {what} on {}{}", target.display(), said(log))]
    Mount {
        /// `overlay of 3 layers`, `bind of /x`, …
        what: String,
        /// Mount point.
        target: PathBuf,
        /// What the file system said, or where it says it, or nothing.
        log: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An unmount failed, the lazy one too.
    #[error("unmount {}", target.display())]
    Unmount {
        /// Mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No usable cgroup hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted below /sys/fs/cgroup: mount cgroup2 there")]
    NoCgroups,
    /// A cgroup root names no place below the hierarchies.
    #[error("cgroup root {} must be absolute and without '..'", root.display())]
    CgroupRoot {
        /// As given.
        root: PathBuf,
    },
    /// A controller that a limit needs is not there.
    #[error("cgroup controller {controller} is not available in {}", cgroup.display())]
    NoController {
        /// `cpu`, `memory`, `pids`.
        controller: &'static str,
        /// Where.
        cgroup: PathBuf,
    },
    /// cgroup v2 lets a cgroup with controllers for its children hold no processes itself.
    #[error(
        "processes live directly in {}: move them into a cgroup below it, or name another --cgroup-root",
        cgroup.display()
    )]
    CgroupInhabited {
        /// Which.
        cgroup: PathBuf,
    },
    /// Processes of a cgroup did not end after SIGKILL.
    #[error("{} still has processes {pids:?} {waited_ms} ms after SIGKILL", cgroup.display())]
    CgroupBusy {
        /// Which.
        cgroup: PathBuf,
        /// Who.
        pids: Vec<i32>,
        /// How long it was waited for.
        waited_ms: u128,
    },
    /// A pidfd operation failed.
    #[error("{what} process {pid}")]
    Pidfd {
        /// `open a pidfd of`, `signal`, `wait for`.
        what: &'static str,
        /// Process id.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A fact about the machine could not be had.
    #[error("learn {fact} of this machine")]
    Fact {
        /// Which.
        fact: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn said(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

impl KernelError {
    /// The errno at the root, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        let mut at: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = at {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return io.raw_os_error();
            }
            at = error.source();
        }
        None
    }
}
