//! One attempt at a container: creation through libcontainer, its output, its end.

use crate::cgroup::Cgroup;
use crate::device;
use crate::diagnosis::Diagnosis;
use crate::error::{Error, chain};
use crate::exec::{load_spec, wait_for_exec};
use crate::exec_child::set_oom_score;
use crate::executor::{InitExecutor, command_error};
use crate::log::Log;
use crate::prepare::{Channels, Output, make_working_dir, open_channels, terminal_output};
use crate::record::{Stored, store};
use jiff::Timestamp;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orlop_model::ContainerId;
use orlop_wire::{AttemptRecord, ContainerStatus, CreateContainer, Exit, StartFailure};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// kubelet's `MaxContainerTerminationMessageLength`.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// Most that is read from a pipe at once when its container has ended: more than
/// the largest unprivileged pipe holds (`/proc/sys/fs/pipe-max-size`).
const DRAIN_BYTES_MAX: usize = 2 << 20;

/// What only an attempt of this monitor's own has.
pub struct Live {
    /// Open outputs; empty when both have ended.
    pub outputs: Vec<Output>,
    log: Log,
    /// Kept open so that the container's standard input does not end.
    _stdin: Option<OwnedFd>,
    /// `config.json`'s folder, for execs.
    pub bundle: PathBuf,
    /// Also joined by execs.
    pub extra_cgroup_procs: Vec<PathBuf>,
    /// Also given to execs.
    pub oom_score_adj: Option<i32>,
    termination_message: Option<PathBuf>,
    message_from_log: bool,
}

/// An attempt.
pub struct Container {
    /// Record and cgroups.
    pub stored: Stored,
    /// `None` for one that an earlier monitor started or that never ran.
    pub live: Option<Live>,
    folder: PathBuf,
}

impl Container {
    /// Takes over a record from an earlier monitor.
    pub fn inherited(stored: Stored, containers: &Path) -> Self {
        let folder = containers.join(stored.record.id.as_str());
        Self { stored, live: None, folder }
    }

    /// The attempt's id.
    pub fn id(&self) -> &ContainerId {
        &self.stored.record.id
    }

    /// Where its record is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its init, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        match self.stored.record.status {
            ContainerStatus::Running { pid, .. } => Some(Pid::from_raw(pid as i32)),
            ContainerStatus::Exited { .. } | ContainerStatus::Failed(_) => None,
        }
    }

    /// Creates and starts it. What fails becomes a [`StartFailure`]; only an
    /// unusable state folder is an error.
    ///
    /// # Errors
    /// The attempt's folder or record cannot be written.
    pub fn create(dir: &Path, create: CreateContainer) -> Result<Self, Error> {
        let folder = dir.join("containers").join(create.id.as_str());
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let started = Timestamp::now();
        let mut cgroup = Cgroup::default();
        let outcome = start(dir, &folder, &create, &mut cgroup);
        let (status, live) = match outcome {
            Ok((pid, live)) => (ContainerStatus::Running { pid: pid.as_raw() as u32, started }, Some(live)),
            Err(error) => (ContainerStatus::Failed(failure(&error)), None),
        };
        let record =
            AttemptRecord { id: create.id, name: create.name, attempt: create.attempt, status, meta: create.meta };
        let mut container = Self { stored: Stored { record, cgroup }, live, folder };
        if container.live.is_none() {
            container.clean_up(dir)?;
        }
        container.save()?;
        Ok(container)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// See [`store`].
    pub fn save(&self) -> Result<(), Error> {
        store(&self.folder, &self.stored)
    }

    /// Reads what an output has, up to the buffer's size. Returns false at its end.
    pub fn read_output(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let Some(live) = &mut self.live else { return false };
        let Some(output) = live.outputs.get_mut(index) else { return false };
        match nix::unistd::read(&output.fd, buffer) {
            Ok(more) if more > 0 => {
                let (now, log, stream) = (Timestamp::now(), &mut live.log, output.stream);
                output.lines.push(&buffer[..more], |text, ended| log.record(now, stream, text, ended));
                live.log.flush();
                true
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => true,
            // A terminal whose last user is gone reads as EIO.
            Ok(_) | Err(_) => {
                let (now, log, stream) = (Timestamp::now(), &mut live.log, output.stream);
                output.lines.finish(|text, ended| log.record(now, stream, text, ended));
                live.log.flush();
                live.outputs.remove(index);
                false
            }
        }
    }

    /// What went wrong with the log since the last call.
    pub fn take_log_trouble(&mut self) -> Option<(String, u64)> {
        self.live.as_mut().and_then(|live| live.log.take_trouble())
    }

    /// Its init has been reaped: empties the pipes into the log, finds out about
    /// OOM kills and the termination message, and writes the record.
    ///
    /// # Errors
    /// The record cannot be written; the state is right all the same.
    pub fn ended(&mut self, code: i32, signal: Option<i32>, buffer: &mut [u8]) -> Result<(), Error> {
        // In a PID namespace of its own nothing is left by now; in a shared one the
        // rest of the container would linger.
        self.stored.cgroup.signal(Signal::SIGKILL);
        self.drain(buffer);
        let oom_killed = self.stored.cgroup.oom_kills() > 0;
        let message = self.live.as_ref().map_or(String::new(), |live| live.termination_message(code));
        let exit = Exit { code, signal, oom_killed, timed_out: false, at: Timestamp::now(), message };
        self.set_exit(exit)
    }

    /// Sets the end and writes the record.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn set_exit(&mut self, exit: Exit) -> Result<(), Error> {
        let started = match &self.stored.record.status {
            ContainerStatus::Running { started, .. } | ContainerStatus::Exited { started, .. } => *started,
            ContainerStatus::Failed(failure) => failure.at,
        };
        self.stored.record.status = ContainerStatus::Exited { started, exit };
        self.save()
    }

    fn drain(&mut self, buffer: &mut [u8]) {
        let mut index = 0;
        while self.live.as_ref().is_some_and(|l| index < l.outputs.len()) {
            let mut open = true;
            let mut left = DRAIN_BYTES_MAX;
            while open && left > 0 && self.has_input(index) {
                open = self.read_output(index, buffer);
                left = left.saturating_sub(buffer.len());
            }
            // A closed output has been removed and the next has its index.
            index += usize::from(open);
        }
    }

    fn has_input(&self, index: usize) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let Some(output) = self.live.as_ref().and_then(|l| l.outputs.get(index)) else { return false };
        matches!(poll(&mut [PollFd::new(output.fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1))
    }

    /// Removes processes, cgroups, libcontainer's state and, at the end, the record.
    ///
    /// # Errors
    /// What could not be removed; the record then stays.
    pub fn remove(&mut self, dir: &Path) -> Result<(), Error> {
        self.live = None;
        self.clean_up(dir)?;
        remove_folder(&self.folder)
    }

    fn clean_up(&mut self, dir: &Path) -> Result<(), Error> {
        self.stored.cgroup.remove()?;
        remove_folder(&state_root(dir).join(self.id().as_str()))
    }
}

impl Live {
    fn termination_message(&self, code: i32) -> String {
        let file = self.termination_message.as_deref().map(read_message).unwrap_or_default();
        if file.is_empty() && code != 0 && self.message_from_log {
            return self.log.tail();
        }
        file
    }
}

/// Below which libcontainer keeps its state.
fn state_root(dir: &Path) -> PathBuf {
    dir.join("oci")
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn read_message(path: &Path) -> String {
    // The container can put a pipe or a link where its message should be.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let Ok(file) = file else { return String::new() };
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn failure(error: &Error) -> StartFailure {
    let (reason, code) = match error {
        Error::Command { code, .. } => ("ContainerCannotRun", *code),
        _ => ("StartError", 128),
    };
    StartFailure { reason: reason.into(), message: chain(error), code, at: Timestamp::now() }
}

fn start(dir: &Path, folder: &Path, create: &CreateContainer, cgroup: &mut Cgroup) -> Result<(Pid, Live), Error> {
    let spec = load_spec(&create.bundle)?;
    let path = spec
        .linux()
        .as_ref()
        .and_then(|l| l.cgroups_path().clone())
        .ok_or_else(|| Error::Bundle { path: create.bundle.clone(), problem: "has no linux.cgroupsPath".into() })?;
    *cgroup = Cgroup::of_spec(&path)?;
    make_working_dir(&create.bundle, &spec)?;
    let log = Log::open(create.log.clone())?;
    let mut channels = open_channels(folder, &spec, create.stdin)?;
    let pid = build(dir, create, &mut channels)?;
    if let Some(v2) = cgroup.unified() {
        let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
        device::confine(v2, resources.and_then(|r| r.devices().as_deref()).unwrap_or_default())?;
    }
    // From here on a failure has a process to clean up: dropping out of this
    // function leads to `clean_up`, which kills the cgroup.
    for procs in &create.extra_cgroup_procs {
        fs::write(procs, pid.to_string()).map_err(Error::file("join cgroup", procs))?;
    }
    if let Some(score) = create.oom_score_adj {
        set_oom_score(&format!("/proc/{pid}/oom_score_adj"), score);
    }
    let Channels { mut outputs, writers, stdin, console, report } = channels;
    drop((writers, report.1));
    if let Some((listener, path)) = console {
        outputs.push(terminal_output(&listener)?);
        let _ = fs::remove_file(path);
    }
    notify_start(dir, &create.id)?;
    wait_for_exec(&report.0)?;
    let live = Live {
        outputs,
        log,
        _stdin: stdin.map(|(_, write)| write),
        bundle: create.bundle.clone(),
        extra_cgroup_procs: create.extra_cgroup_procs.clone(),
        oom_score_adj: create.oom_score_adj,
        termination_message: create.termination_message.clone(),
        message_from_log: create.message_from_log,
    };
    Ok((pid, live))
}

fn build(dir: &Path, create: &CreateContainer, channels: &mut Channels) -> Result<Pid, Error> {
    let executor = InitExecutor { report: channels.report.1.as_raw_fd() };
    let mut builder = ContainerBuilder::new(create.id.as_str().to_owned(), SyscallType::default())
        .with_executor(executor)
        .with_root_path(state_root(dir))
        .map_err(|error| Error::Libcontainer(chain(&error)))?
        .with_console_socket(channels.console.as_ref().map(|(_, path)| path.clone()));
    let mut writers = std::mem::take(&mut channels.writers).into_iter();
    (builder.stdout, builder.stderr) = (writers.next(), writers.next());
    if let Some((read, _)) = &channels.stdin {
        builder.stdin = Some(read.try_clone().map_err(Error::call("dup"))?);
    }
    let diagnosis = Diagnosis::start()?;
    let container = builder.as_init(&create.bundle).with_systemd(false).with_detach(true).build();
    let container = container.map_err(|error| {
        let text = chain(&error);
        command_error(&text).unwrap_or_else(|| Error::Libcontainer(format!("{text}: {}", diagnosis.text())))
    })?;
    container.pid().map(|pid| Pid::from_raw(pid.as_raw())).ok_or_else(|| Error::Libcontainer("no process".into()))
}

/// What `Container::start` of libcontainer does, without reading its state and
/// configuration back and writing them again: tells the waiting init to go on.
fn notify_start(dir: &Path, id: &ContainerId) -> Result<(), Error> {
    let path = state_root(dir).join(id.as_str()).join("notify.sock");
    libcontainer::notify_socket::NotifySocket::new(path)
        .notify_container_start()
        .map_err(|error| Error::Libcontainer(chain(&error)))
}

/// For the caller that must end a process without waiting for it.
pub fn signal(pid: Pid, number: i32) -> Result<(), Error> {
    let signal = Signal::try_from(number).map_err(|_| Error::Request(format!("{number} is not a signal")))?;
    match kill(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call("kill")(errno)),
    }
}
