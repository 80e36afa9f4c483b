//! `orlop-monitor DIR`: one process a pod.
//!
//! ```text
//! agent ──spawn──▶ orlop-monitor DIR        DIR/sandbox.json    what to make
//!       ◀─ready──   │ namespaces, pins      DIR/ns/{net,ipc,uts,pid}
//!       ══socket══▶ │ poll loop             DIR/monitor.sock    orlop_wire::Request
//!                   ├─ libcontainer ──▶ containers (children)   DIR/containers/ID/record.json
//!                   └─ pipes ──▶ CRI logs                       DIR/oci/ID  libcontainer's own
//! ```
//!
//! It has a single thread, because libcontainer clones without `execve` and would
//! copy other threads' locks. It is a subreaper in a session and cgroup of its own,
//! so that it and its containers outlive the agent; a new agent connects and asks
//! for a snapshot. Nothing of a pod is known only to the agent.

mod cgroup;
mod clone;
mod connection;
mod container;
mod device;
mod diagnosis;
mod error;
mod exec;
mod exec_child;
mod executor;
mod holder;
mod log;
mod prepare;
mod process;
mod record;
mod sandbox;
mod seal;
mod seccomp;
mod serve;

use crate::container::Container;
use crate::error::{Error, chain};
use crate::serve::{Monitor, trim_heap};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{dup2_stdin, dup2_stdout, setsid};
use orlop_wire::{PROTOCOL_VERSION, SandboxConfig, SandboxReady};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = match (std::env::args_os().nth(1), std::env::args_os().nth(2)) {
        (Some(dir), None) if !dir.as_encoded_bytes().starts_with(b"-") => PathBuf::from(dir),
        _ => {
            eprintln!("orlop-monitor is started by `orlop agent`, once a pod.\nUsage: orlop-monitor DIR");
            return ExitCode::from(2);
        }
    };
    seal::reexec_sealed();
    let monitor = match set_up(&dir) {
        Ok(monitor) => monitor,
        Err(error) => {
            say(&serde_json::json!({ "error": chain(&error) }));
            return ExitCode::FAILURE;
        }
    };
    say(&monitor.ready);
    if silence().and_then(|()| monitor.run()).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// One line on standard output, where the agent waits for it. If the agent has
/// gone, the next one will read the socket instead.
fn say<T: serde::Serialize>(message: &T) {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
}

fn silence() -> Result<(), Error> {
    let null = File::options().read(true).write(true).open("/dev/null").map_err(Error::file("open", "/dev/null"))?;
    dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).map_err(Error::call("dup2"))?;
    trim_heap();
    Ok(())
}

fn set_up(dir: &Path) -> Result<Monitor, Error> {
    limit_heap();
    // SAFETY: nothing has been opened yet; what is there was left by the parent.
    unsafe { libc::close_range(3, u32::MAX, 0) };
    let config = read_config(dir)?;
    sandbox::leave_agents_cgroup(&config)?;
    // EPERM: a process group leader already, as when run from a shell.
    let _ = setsid();
    prctl::set_child_subreaper(true).map_err(Error::call("become a subreaper"))?;
    // No process of a container may trace or read this one while it is half inside.
    prctl::set_dumpable(false).map_err(Error::call("prctl"))?;
    let netns = sandbox::enter(&config)?;
    let holder = config.share_process_namespace.then(|| holder::start(dir)).transpose()?;
    let containers = dir.join("containers");
    for folder in [&containers, &dir.join("oci")] {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    let inherited = record::load_all(&containers)?;
    let inherited = inherited.into_iter().map(|stored| Container::inherited(stored, &containers)).collect();
    let ready = SandboxReady { pid: std::process::id(), netns, protocol: PROTOCOL_VERSION };
    let channels = (listen(dir)?, child_signals()?);
    let mut monitor = Monitor::new(config, ready, inherited, holder, channels);
    monitor.end_inherited()?;
    Ok(monitor)
}

fn read_config(dir: &Path) -> Result<SandboxConfig, Error> {
    let path = dir.join("sandbox.json");
    let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
    let config: SandboxConfig = serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, source })?;
    if config.dir != dir || !dir.is_absolute() {
        return Err(Error::Request(format!("sandbox.json is for {}, not {}", config.dir.display(), dir.display())));
    }
    Ok(config)
}

/// Listens on `DIR/monitor.sock`, reached through DIR's descriptor because a socket
/// path ends at 108 bytes.
fn listen(dir: &Path) -> Result<UnixListener, Error> {
    let path = dir.join("monitor.sock");
    let _ = fs::remove_file(&path);
    let here = File::open(dir).map_err(Error::file("open", dir))?;
    let short = format!("/proc/self/fd/{}/monitor.sock", here.as_raw_fd());
    let listener = UnixListener::bind(short).map_err(Error::file("bind", &path))?;
    listener.set_nonblocking(true).map_err(Error::call("fcntl"))?;
    Ok(listener)
}

fn child_signals() -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().map_err(Error::call("sigprocmask"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(Error::call("signalfd"))
}

/// One arena, and large blocks straight from the kernel, so that freed memory goes back.
fn limit_heap() {
    // SAFETY: glibc's mallopt takes integers; no other thread exists.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 10);
    }
}
