//! Running another process in a container.
//!
//! libcontainer's tenant builder leaves out the container's seccomp filter,
//! resource limits and user, so this is done here, in the order of runc's
//! `setns_init`:
//!
//! ```text
//! monitor ─clone─▶ stage one: joins the container's cgroups and namespaces
//!                    └─clone(CLONE_PARENT)─▶ stage two: in the PID namespace, a child of the
//!                                            monitor: stdio, limits, no_new_privs, seccomp,
//!                                            user, capabilities, execve
//! ```
//!
//! Both stages report failures through one close-on-exec pipe; its end without a
//! word means that `execve` has succeeded.

use crate::clone::clone;
use crate::error::Error;
use crate::exec_child;
use crate::seccomp::Filter;
use libcontainer::oci_spec::runtime::{LinuxNamespaceType, PosixRlimit, Process, Spec};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, pipe2, read};
use orlop_wire::{Exec, frame};
use std::fs;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a process may take to get to its `execve`.
const START_WITHIN: Duration = Duration::from_secs(10);

/// Everything the child needs, prepared while errors are still easy to report.
pub struct Plan {
    /// The process as it shall be: the container's own with the request laid over it.
    pub process: Process,
    /// The container's filter.
    pub seccomp: Option<Filter>,
    /// Limits of the container.
    pub rlimits: Vec<PosixRlimit>,
    /// The container's init.
    pub init: OwnedFd,
    /// Namespaces of the init that differ from the monitor's.
    pub namespaces: CloneFlags,
    /// `cgroup.procs` files to be written, opened with the monitor's rights.
    pub cgroups: Vec<OwnedFd>,
    /// Written to the child's `oom_score_adj` as far as the kernel allows.
    pub oom_score_adj: Option<i32>,
    /// Stdin, stdout and stderr, or none for a terminal.
    pub stdio: Option<[OwnedFd; 3]>,
}

/// A process that runs.
pub struct Started {
    /// In the monitor's PID namespace.
    pub pid: Pid,
    /// The terminal's master, if one was asked for.
    pub master: Option<OwnedFd>,
}

/// Lays the request over the container's process: what it does not say is the
/// container's own. A uid of its own brings no groups of the container's user
/// along unless a gid is given too.
pub fn process_for(spec: &Spec, exec: &Exec) -> Result<Process, Error> {
    let mut process = spec.process().clone().ok_or_else(|| Error::Request("the container has no process".into()))?;
    if exec.args.is_empty() {
        return Err(Error::Request("no command to execute".into()));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for added in &exec.env {
        let name = added.split('=').next().unwrap_or_default();
        env.retain(|old| old.split('=').next() != Some(name));
        env.push(added.clone());
    }
    if exec.tty && !env.iter().any(|v| v.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    process.set_args(Some(exec.args.clone())).set_env(Some(env)).set_terminal(Some(exec.tty));
    if let Some(cwd) = &exec.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut user = process.user().clone();
    if let Some(uid) = exec.user.uid {
        user.set_uid(uid);
    }
    if let Some(gid) = exec.user.gid {
        user.set_gid(gid);
    }
    process.set_user(user);
    Ok(process)
}

/// Reads a bundle's `config.json`.
///
/// # Errors
/// It is not there or not an OCI spec.
pub fn load_spec(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join("config.json");
    let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, source })
}

/// Which namespaces of `init` are in its spec and not the monitor's own.
///
/// # Errors
/// `/proc/INIT/ns` cannot be read: it has ended.
pub fn namespaces_of(init: Pid, spec: &Spec) -> Result<CloneFlags, Error> {
    let mut flags = CloneFlags::empty();
    let listed = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).unwrap_or_default();
    for namespace in listed {
        let (name, flag) = match namespace.typ() {
            LinuxNamespaceType::Mount => ("mnt", CloneFlags::CLONE_NEWNS),
            LinuxNamespaceType::Cgroup => ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            LinuxNamespaceType::Uts => ("uts", CloneFlags::CLONE_NEWUTS),
            LinuxNamespaceType::Ipc => ("ipc", CloneFlags::CLONE_NEWIPC),
            LinuxNamespaceType::User => ("user", CloneFlags::CLONE_NEWUSER),
            LinuxNamespaceType::Pid => ("pid", CloneFlags::CLONE_NEWPID),
            LinuxNamespaceType::Network => ("net", CloneFlags::CLONE_NEWNET),
            LinuxNamespaceType::Time => continue,
        };
        let identity = |path: PathBuf| -> Result<(u64, u64), Error> {
            let data = fs::metadata(&path).map_err(Error::file("stat", &path))?;
            Ok((data.dev(), data.ino()))
        };
        // Joining the user namespace one is in already is EINVAL; of the others it
        // would only cost time.
        if identity(format!("/proc/{init}/ns/{name}").into())? != identity(format!("/proc/self/ns/{name}").into())? {
            flags |= flag;
        }
    }
    Ok(flags)
}

/// Opens `cgroup.procs` files for writing. The kernel checks a write against the
/// rights of who opened the file, so they can be used later with fewer.
///
/// # Errors
/// A file cannot be opened.
pub fn open_cgroups(paths: impl Iterator<Item = PathBuf>) -> Result<Vec<OwnedFd>, Error> {
    paths
        .map(|path| {
            open(&path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| Error::file("open", &path)(errno.into()))
        })
        .collect()
}

/// `pidfd_open(2)`.
///
/// # Errors
/// The process has ended.
pub fn pidfd(pid: Pid) -> Result<OwnedFd, Error> {
    // SAFETY: takes and returns plain integers.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) } {
        -1 => Err(Error::call("pidfd_open")(Errno::last())),
        // SAFETY: the kernel has just made this descriptor for us.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

/// Starts the process and waits until its command is executed.
///
/// # Errors
/// [`Error::Command`] when the command cannot be executed, else the failed step.
pub fn start(mut plan: Plan) -> Result<Started, Error> {
    let (report, report_in) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"))?;
    let (pids, pids_in) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"))?;
    let console = match plan.stdio {
        Some(_) => None,
        None => Some(
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .map_err(Error::call("socketpair"))?,
        ),
    };
    // All are above 2, which the monitor keeps open on /dev/null, so that moving the
    // standard streams into place overwrites none of them.
    let channels = exec_child::Channels {
        report: report_in,
        pids: pids_in,
        console: console.as_ref().map(|(_, child)| child.try_clone()).transpose().map_err(Error::call("dup"))?,
    };
    let stage_one = clone(0, || exec_child::stage_one(&mut plan, &channels)).map_err(Error::call("clone"))?;
    drop((plan, channels));
    let mut number = [0; 4];
    let got = read(&pids, &mut number).unwrap_or(0);
    reap(stage_one);
    let pid = (got == number.len()).then(|| Pid::from_raw(i32::from_ne_bytes(number)));
    let outcome = wait_for_exec(&report);
    match (outcome, pid) {
        (Ok(()), Some(pid)) => {
            let master = match console {
                Some((mine, theirs)) => {
                    drop(theirs);
                    Some(receive_master(&mine)?)
                }
                None => None,
            };
            Ok(Started { pid, master })
        }
        (outcome, pid) => {
            if let Some(pid) = pid {
                let _ = kill(pid, Signal::SIGKILL);
                reap(pid);
            }
            Err(outcome.err().unwrap_or_else(|| Error::Request("the process ended before its command ran".into())))
        }
    }
}

fn reap(pid: Pid) {
    while waitpid(pid, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
}

/// Waits for the report pipe's end; a text in it is a failure.
pub fn wait_for_exec(report: &OwnedFd) -> Result<(), Error> {
    let until = Instant::now() + START_WITHIN;
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(report.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(Error::Request(format!("the command did not start within {START_WITHIN:?}"))),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("poll")(errno)),
        }
        match read(report, &mut buffer) {
            Ok(0) if text.is_empty() => return Ok(()),
            Ok(0) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                return Err(crate::executor::command_error(&text).unwrap_or(Error::Request(text)));
            }
            Ok(more) => text.extend_from_slice(&buffer[..more]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("read")(errno)),
        }
    }
}

/// Takes a terminal's master from a console socket.
pub fn receive_master(socket: &OwnedFd) -> Result<OwnedFd, Error> {
    let (mut bytes, mut fds) = ([0; 64], Vec::new());
    // It was sent before the command ran: there or never.
    let _ = fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    frame::receive_some(socket.as_fd(), &mut bytes, &mut fds).map_err(Error::call("receive the terminal"))?;
    fds.pop().ok_or_else(|| Error::Request("the container sent no terminal".into()))
}
