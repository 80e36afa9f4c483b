//! Namespaces of a world, and work inside them.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A network namespace, and for a node a mount namespace with its own bpffs.
#[derive(Debug)]
pub struct Namespaces {
    net: File,
    mounts: Option<File>,
}

impl Namespaces {
    /// A new network namespace with its loopback up.
    pub(crate) fn network() -> Self {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare a network namespace (needs root)");
            ip("link set lo up");
            Self { net: own("net"), mounts: None }
        })
    }

    /// New network and mount namespaces; mounts made inside are seen nowhere else.
    pub(crate) fn node() -> Self {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare namespaces (needs root)");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
            mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).expect("mount a bpf file system");
            ip("link set lo up");
            Self { net: own("net"), mounts: Some(own("mnt")) }
        })
    }

    /// Runs on a thread of its own inside the namespaces.
    ///
    /// # Panics
    /// As `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            if let Some(mounts) = &self.mounts {
                // A thread that shares its root and folder with others may not change the mount namespace.
                unshare(CloneFlags::CLONE_FS).expect("unshare the thread's root");
                setns(mounts, CloneFlags::CLONE_NEWNS).expect("enter the mount namespace");
            }
            setns(&self.net, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
            work()
        })
    }

    /// A command whose process runs inside the namespaces.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let (net, mounts) = (self.net.as_raw_fd(), self.mounts.as_ref().map(AsRawFd::as_raw_fd));
        let enter = move || {
            for (fd, kind) in [(mounts, libc::CLONE_NEWNS), (Some(net), libc::CLONE_NEWNET)] {
                // SAFETY: setns takes two integers; the descriptors live as long as `self`, and
                // should they not, it fails with EBADF.
                if fd.is_some_and(|fd| unsafe { libc::setns(fd, kind) } != 0) {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec only setns is called, which is a bare system call.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Links a veth pair: `here` in these namespaces, `there` in the other.
    pub(crate) fn link_to(&self, here: &str, other: &Self, there: &str) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.net.as_raw_fd());
        self.run(|| ip(&format!("link add {here} type veth peer name {there} netns {path}")));
    }

    /// Processes that are in the network or mount namespace, zombies left out: process id and name.
    pub(crate) fn inhabitants(&self) -> Vec<(i32, String)> {
        let own: Vec<(&str, u64)> = [("net", Some(&self.net)), ("mnt", self.mounts.as_ref())]
            .into_iter()
            .filter_map(|(kind, file)| Some((kind, file?.metadata().expect("a namespace's inode").ino())))
            .collect();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let inside = |(kind, inode): &(&str, u64)| {
                fs::metadata(entry.path().join("ns").join(kind)).is_ok_and(|meta| meta.ino() == *inode)
            };
            if own.iter().any(inside) {
                let name = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
                found.push((pid, name));
            }
        }
        found
    }
}

fn own(kind: &str) -> File {
    File::open(format!("/proc/thread-self/ns/{kind}")).expect("open the thread's namespace")
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What `ip ARGS` prints in the calling thread's namespace.
pub(crate) fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("start ip (package iproute2)");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
