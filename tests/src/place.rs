//! Where sockets are made: in a pod, on the node's host, or outside.
//!
//! A socket belongs for good to the network namespace and to the cgroup of the
//! process that made it, and eBPF goes by those two. So a small process sits in the
//! place, makes sockets there and hands them over; the test uses them from its own
//! threads as it would any other.

use crate::{Role, World};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A request: domain, type and protocol, as for `socket(2)`.
const ASK_BYTES: usize = 12;

/// See the module's text.
#[derive(Debug)]
pub struct Place {
    net: File,
    maker: Pid,
    line: OwnedFd,
}

impl World {
    /// In a pod: its network namespace and a container's cgroup.
    ///
    /// # Panics
    /// No container of the pod runs.
    #[must_use]
    pub fn in_pod(&self, name: &str) -> Place {
        let pod = self.pod(name);
        let pid = pod.containers.iter().find_map(|container| container.pid).expect("a container that runs");
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the container's cgroups");
        let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup of version 2");
        let unified = Path::new("/sys/fs/cgroup/unified");
        let mount = if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup") };
        let procs = mount.join(own).join("cgroup.procs");
        let procs = File::options().write(true).open(&procs).unwrap_or_else(|e| panic!("{}: {e}", procs.display()));
        Place::new(File::open(format!("/proc/{pid}/ns/net")).expect("the pod's network"), &[procs])
    }

    /// On the node's host: its network namespace and the leaf `host` of its cgroup.
    #[must_use]
    pub fn on_host(&self) -> Place {
        Place::new(self.run(Role::Node, own_net), &self.host_procs())
    }

    /// In the namespace of outside, and in no cgroup of the node.
    #[must_use]
    pub fn outside(&self) -> Place {
        Place::new(self.run(Role::Outside, own_net), &[])
    }
}

fn own_net() -> File {
    File::open("/proc/thread-self/ns/net").expect("open the thread's network namespace")
}

impl Place {
    /// In a namespace of the test's own and in no cgroup of a node.
    pub(crate) fn in_namespace(namespaces: &crate::Namespaces) -> Self {
        Self::new(namespaces.run(own_net), &[])
    }

    fn new(net: File, procs: &[File]) -> Self {
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (line, far) = pair.expect("a socket pair");
        let start = || {
            setns(&net, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
            // SAFETY: the child makes system calls and small allocations, which glibc allows after a fork.
            match unsafe { fork() }.expect("fork") {
                ForkResult::Child => make_sockets(&far, procs),
                ForkResult::Parent { child } => child,
            }
        };
        let maker = std::thread::scope(|scope| scope.spawn(start).join()).expect("the maker of sockets");
        Self { net, maker, line }
    }

    /// `socket(2)` in this place.
    ///
    /// # Errors
    /// As `socket(2)`.
    ///
    /// # Panics
    /// The place is gone: its pod has ended.
    pub fn socket(&self, domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        let ask: Vec<u8> = [domain, kind, protocol].into_iter().flat_map(i32::to_ne_bytes).collect();
        let flags = MsgFlags::MSG_NOSIGNAL;
        nix::sys::socket::send(self.line.as_raw_fd(), &ask, flags).expect("the place is there");
        let mut answer = [0; 4];
        let mut room = nix::cmsg_space!(RawFd);
        let mut into = [IoSliceMut::new(&mut answer)];
        let got = recvmsg::<()>(self.line.as_raw_fd(), &mut into, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)?;
        assert_eq!(got.bytes, 4, "the place is there");
        let found = got.cmsgs().expect("a whole message").find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel has just made this descriptor for us alone.
        let found = found.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        found.ok_or_else(|| io::Error::from_raw_os_error(i32::from_ne_bytes(answer)))
    }

    /// Runs on a thread of its own in this network namespace (not in the cgroup).
    ///
    /// # Panics
    /// As `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.net, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// What a device of this place has counted.
    ///
    /// # Panics
    /// There is none of this name.
    #[must_use]
    pub fn statistics(&self, device: &str) -> Statistics {
        let table = self.run(|| fs::read_to_string("/proc/thread-self/net/dev").expect("read net/dev"));
        let own = |line: &str| line.trim().strip_prefix(device)?.strip_prefix(':').map(str::to_owned);
        let line = table.lines().find_map(own).unwrap_or_else(|| panic!("no device {device}:\n{table}"));
        let fields: Vec<u64> = line.split_whitespace().map(|field| field.parse().expect("a number")).collect();
        Statistics { received: (fields[1], fields[0]), sent: (fields[9], fields[8]) }
    }

    /// What `ip ARGS` prints in this network namespace.
    ///
    /// # Panics
    /// It fails.
    pub fn ip(&self, args: &str) -> String {
        self.run(|| crate::namespaces::ip(args))
    }

    /// TCP segments that this namespace has sent again (`RetransSegs`, RFC 4022):
    /// a busy machine makes a sender impatient.
    #[must_use]
    pub fn retransmitted(&self) -> u64 {
        let text = self.run(|| fs::read_to_string("/proc/thread-self/net/snmp").expect("read net/snmp"));
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let mut columns = names.split_whitespace().zip(values.split_whitespace());
        columns.find(|(name, _)| *name == "RetransSegs").and_then(|(_, value)| value.parse().ok()).expect("RetransSegs")
    }

    /// TCP sockets of this namespace that are neither listening nor waiting out their time.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        const TIME_WAIT: &str = "06";
        const LISTEN: &str = "0A";
        let table = self.run(|| fs::read_to_string("/proc/thread-self/net/tcp").expect("read net/tcp"));
        let states = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        states.filter(|state| ![TIME_WAIT, LISTEN].contains(state)).count()
    }
}

/// Packets and bytes each way, as the interface has counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Received.
    pub received: (u64, u64),
    /// Sent.
    pub sent: (u64, u64),
}

impl Statistics {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let less = |now: (u64, u64), then: (u64, u64)| (now.0 - then.0, now.1 - then.1);
        Self { received: less(self.received, earlier.received), sent: less(self.sent, earlier.sent) }
    }

    /// As seen from the other end of the pair.
    #[must_use]
    pub fn from_the_other_end(self) -> Self {
        Self { received: self.sent, sent: self.received }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // With its pod it may have ended before.
        let _ = kill(self.maker, Signal::SIGKILL);
        let _ = waitpid(self.maker, None);
    }
}

/// The process in the place: ends when the test does, or with its pod.
fn make_sockets(line: &OwnedFd, procs: &[File]) -> ! {
    let moved = procs.iter().all(|mut file| file.write_all(b"0").is_ok());
    // Only the line stays open, and with it closed at the other end this process ends.
    // SAFETY: nothing of this process uses the descriptors that are closed, and descriptor 0
    // is this process's own.
    let alone = unsafe {
        libc::dup2(line.as_raw_fd(), 0) == 0 && libc::syscall(libc::SYS_close_range, 1u32, u32::MAX, 0u32) == 0
    };
    while moved && alone && make_one() {}
    // SAFETY: ends the child without running the parent's exit handlers.
    unsafe { libc::_exit(0) }
}

/// Answers one request on descriptor 0; false when nobody asks any more.
fn make_one() -> bool {
    let mut ask = [0_u8; ASK_BYTES];
    if nix::sys::socket::recv(0, &mut ask, MsgFlags::empty()) != Ok(ASK_BYTES) {
        return false;
    }
    let number = |at: usize| i32::from_ne_bytes([ask[at], ask[at + 1], ask[at + 2], ask[at + 3]]);
    // SAFETY: socket takes three integers.
    let made = unsafe { libc::socket(number(0), number(4), number(8)) };
    let error = if made < 0 { nix::errno::Errno::last_raw() } else { 0 };
    let fds = [made];
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights: &[ControlMessage] = if made < 0 { &[] } else { &rights };
    let answer = error.to_ne_bytes();
    let sent = sendmsg::<()>(0, &[IoSlice::new(&answer)], rights, MsgFlags::MSG_NOSIGNAL, None);
    let _ = nix::unistd::close(made);
    sent.is_ok()
}
