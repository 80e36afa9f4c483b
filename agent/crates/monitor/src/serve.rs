//! The monitor's loop: one thread, one `poll`, everything it owns in one place.

use crate::connection::Connection;
use crate::container::{Container, signal};
use crate::error::{Error, chain};
use crate::process::Processes;
use crate::{exec, sandbox, seccomp};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use orlop_model::ContainerId;
use orlop_wire::{
    AttemptRecord, ContainerStatus, CreateContainer, Exec, Exit, FromMonitor, Reply, Request, SandboxConfig,
    SandboxReady, Snapshot,
};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// How long the pod's processes may take to die at shutdown.
const DIE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes read from a container's output at once.
const READ_BYTES: usize = 16 << 10;

/// All of the monitor's state.
pub struct Monitor {
    /// The pod.
    pub config: SandboxConfig,
    /// As told to the agent.
    pub ready: SandboxReady,
    /// When the sandbox was made.
    pub created: Timestamp,
    /// Attempts, oldest first.
    pub containers: Vec<Container>,
    /// The process that holds a shared PID namespace.
    pub holder: Option<Pid>,
    /// `DIR/monitor.sock`.
    pub listener: UnixListener,
    /// SIGCHLD.
    pub signals: SignalFd,
    processes: Processes,
    connections: Vec<Connection>,
    next_connection: u64,
    buffer: Vec<u8>,
    /// Set by a successful [`Request::Shutdown`].
    over: bool,
}

impl Monitor {
    /// Puts the parts together.
    pub fn new(
        config: SandboxConfig,
        ready: SandboxReady,
        containers: Vec<Container>,
        holder: Option<Pid>,
        (listener, signals): (UnixListener, SignalFd),
    ) -> Self {
        Self {
            config,
            ready,
            created: Timestamp::now(),
            containers,
            holder,
            listener,
            signals,
            processes: Processes::default(),
            connections: Vec::new(),
            next_connection: 0,
            buffer: vec![0; READ_BYTES],
            over: false,
        }
    }

    /// Serves until shut down.
    ///
    /// # Errors
    /// `poll` itself failed: nothing could be served any more.
    pub fn run(mut self) -> Result<(), Error> {
        while !self.over || self.connections.iter().any(Connection::has_output) {
            let ready = self.wait()?;
            if ready.signals {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            for (id, index) in ready.outputs {
                self.read_output(&id, index);
            }
            self.processes.kill_late();
            for number in ready.connections {
                self.serve(number);
            }
            if ready.listener {
                self.accept();
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<Ready, Error> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for connection in &self.connections {
            let out = if connection.has_output() { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(connection.socket().as_fd(), PollFlags::POLLIN | out));
        }
        let mut sources = Vec::new();
        for container in &self.containers {
            // Later outputs first: one that ends is removed and shifts those after it.
            for (index, output) in container.live.iter().flat_map(|l| l.outputs.iter().enumerate()).rev() {
                sources.push((container.id(), index));
                fds.push(PollFd::new(output.fd.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut fds, self.next_deadline()) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(errno) => return Err(Error::call("poll")(errno)),
        }
        let fired = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
        let (connections, outputs) = fds[2..].split_at(self.connections.len());
        Ok(Ready {
            signals: fired(&fds[0]),
            listener: fired(&fds[1]),
            connections: connections
                .iter()
                .zip(&self.connections)
                .filter(|(fd, _)| fired(fd))
                .map(|(_, c)| c.number)
                .collect(),
            outputs: outputs
                .iter()
                .zip(sources)
                .filter(|(fd, _)| fired(fd))
                .map(|(_, (id, i))| (id.clone(), i))
                .collect(),
        })
    }

    fn next_deadline(&self) -> PollTimeout {
        match self.processes.next_deadline() {
            // Rounded up, so that the loop does not spin through the last millisecond.
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            self.next_connection += 1;
            if let Ok(connection) = Connection::new(socket, self.next_connection) {
                self.connections.push(connection);
            }
        }
    }

    fn read_output(&mut self, id: &ContainerId, index: usize) {
        let Some(container) = self.containers.iter_mut().find(|c| c.id() == id) else { return };
        container.read_output(index, &mut self.buffer);
        self.report_log_trouble();
    }

    fn report_log_trouble(&mut self) {
        let mut events = Vec::new();
        for container in &mut self.containers {
            if let Some((message, lost_bytes)) = container.take_log_trouble() {
                events.push(FromMonitor::LogTrouble { id: container.id().clone(), message, lost_bytes });
            }
        }
        events.iter().for_each(|event| self.publish(event));
    }

    fn publish(&mut self, event: &FromMonitor) {
        self.connections.retain_mut(|c| !c.subscribed || c.send(event, Vec::new()).is_ok());
    }

    /// Collects every child that has ended: containers, execs, and whatever was
    /// left to this subreaper.
    fn reap(&mut self) {
        loop {
            let (pid, code, number) = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, number, _)) => (pid, 128 + number as i32, Some(number as i32)),
                Err(Errno::EINTR) => continue,
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some((connection, event)) = self.processes.ended(pid, code, number) {
                self.connections.retain_mut(|c| c.number != connection || c.send(&event, Vec::new()).is_ok());
            } else if let Some(container) = self.containers.iter_mut().find(|c| c.pid() == Some(pid)) {
                // An unwritable record does not change what has happened; the
                // subscribers are told, and a restart finds the process gone.
                let _ = container.ended(code, number, &mut self.buffer);
                let event = FromMonitor::Exited(container.stored.record.clone());
                self.report_log_trouble();
                self.publish(&event);
            }
        }
    }

    fn serve(&mut self, number: u64) {
        loop {
            let Some(at) = self.connections.iter().position(|c| c.number == number) else { return };
            let connection = &mut self.connections[at];
            let request = match connection.flush().and_then(|()| connection.receive()) {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(_) => {
                    // Gone, or not speaking our protocol: nobody to tell.
                    self.connections.remove(at);
                    return;
                }
            };
            let (to_monitor, fds) = request;
            let (reply, fds) = match self.answer(number, to_monitor.request, fds) {
                Ok(answer) => answer,
                Err(error) => (Reply::Error(chain(&error)), Vec::new()),
            };
            let reply = FromMonitor::Reply { seq: to_monitor.seq, reply };
            let mut fds = fds;
            self.connections.retain_mut(|c| c.number != number || c.send(&reply, std::mem::take(&mut fds)).is_ok());
            trim_heap();
            if self.over {
                return;
            }
        }
    }

    fn answer(&mut self, connection: u64, request: Request, fds: Vec<OwnedFd>) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let reply = match request {
            Request::Subscribe => {
                if let Some(c) = self.connections.iter_mut().find(|c| c.number == connection) {
                    c.subscribed = true;
                }
                Reply::Snapshot(self.snapshot())
            }
            Request::Create(create) => Reply::Container(self.create(create)?),
            Request::Signal { id, signal: number, all } => {
                self.signal(&id, number, all)?;
                Reply::Done
            }
            Request::Exec(request) => return self.exec(connection, &request, fds),
            Request::Remove { id } => {
                self.remove(&id)?;
                Reply::Done
            }
            Request::Shutdown => {
                self.shut_down()?;
                Reply::Done
            }
        };
        Ok((reply, Vec::new()))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            ready: self.ready.clone(),
            created: self.created,
            config: self.config.clone(),
            containers: self.containers.iter().map(|c| c.stored.record.clone()).collect(),
        }
    }

    fn create(&mut self, create: CreateContainer) -> Result<AttemptRecord, Error> {
        if self.containers.iter().any(|c| c.id() == &create.id) {
            return Err(Error::Request(format!("container {} exists already", create.id)));
        }
        let container = Container::create(&self.config.dir, create)?;
        let record = container.stored.record.clone();
        self.containers.push(container);
        Ok(record)
    }

    fn find(&self, id: &ContainerId) -> Result<&Container, Error> {
        self.containers.iter().find(|c| c.id() == id).ok_or_else(|| Error::Request(format!("no container {id}")))
    }

    fn signal(&mut self, id: &ContainerId, number: i32, all: bool) -> Result<(), Error> {
        let container = self.find(id)?;
        let Some(pid) = container.pid() else { return Ok(()) };
        if all {
            let signal = Signal::try_from(number).map_err(|_| Error::Request(format!("{number} is not a signal")))?;
            container.stored.cgroup.signal(signal);
            return Ok(());
        }
        signal(pid, number)
    }

    fn exec(&mut self, connection: u64, request: &Exec, fds: Vec<OwnedFd>) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let container = self.find(&request.id)?;
        let (Some(init), Some(live)) = (container.pid(), &container.live) else {
            return Err(Error::Request(format!("container {} is not running", request.id)));
        };
        let stdio = match (request.tty, <[OwnedFd; 3]>::try_from(fds)) {
            (true, _) => None,
            (false, Ok(three)) => Some(three),
            (false, Err(fds)) => {
                return Err(Error::Request(format!(
                    "an exec without a terminal needs 3 descriptors, got {}",
                    fds.len()
                )));
            }
        };
        let spec = exec::load_spec(&live.bundle)?;
        let filter = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        let extra = live.extra_cgroup_procs.iter().cloned();
        let plan = exec::Plan {
            process: exec::process_for(&spec, request)?,
            seccomp: filter.map(|profile| seccomp::for_container(container.folder(), profile)).transpose()?,
            rlimits: spec.process().as_ref().and_then(|p| p.rlimits().clone()).unwrap_or_default(),
            init: exec::pidfd(init)?,
            namespaces: exec::namespaces_of(init, &spec)?,
            cgroups: exec::open_cgroups(container.stored.cgroup.procs_files().chain(extra))?,
            oom_score_adj: live.oom_score_adj,
            stdio,
        };
        let started = exec::start(plan)?;
        self.processes.add(started.pid, request.exec_id, connection, request.timeout_ms.map(Duration::from_millis));
        Ok((Reply::Exec { pid: started.pid.as_raw() as u32 }, started.master.into_iter().collect()))
    }

    fn remove(&mut self, id: &ContainerId) -> Result<(), Error> {
        if self.find(id)?.pid().is_some() {
            return Err(Error::Request(format!("container {id} still runs")));
        }
        let dir = &self.config.dir;
        let found = self.containers.iter_mut().find(|c| c.id() == id);
        found.map_or(Ok(()), |container| container.remove(dir))?;
        self.containers.retain(|c| c.id() != id);
        Ok(())
    }

    fn shut_down(&mut self) -> Result<(), Error> {
        let until = Instant::now() + DIE_WITHIN;
        loop {
            for container in self.containers.iter().filter(|c| c.pid().is_some()) {
                container.stored.cgroup.signal(Signal::SIGKILL);
                container.pid().map_or(Ok(()), |pid| signal(pid, Signal::SIGKILL as i32))?;
            }
            self.reap();
            if self.containers.iter().all(|c| c.pid().is_none()) {
                break;
            }
            if Instant::now() > until {
                return Err(Error::Request(format!("containers are still alive {DIE_WITHIN:?} after SIGKILL")));
            }
            wait_readable(&self.signals, Duration::from_millis(100));
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
        let mut outcome = Ok(());
        for container in &mut self.containers {
            outcome = outcome.and(container.remove(&self.config.dir));
        }
        self.containers.clear();
        if let Some(holder) = self.holder.take() {
            let _ = nix::sys::signal::kill(holder, Signal::SIGKILL);
            let _ = waitpid(holder, None);
        }
        outcome = outcome.and(sandbox::unpin(&self.config.dir));
        for folder in ["containers", "oci"] {
            let path = self.config.dir.join(folder);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    outcome = outcome.and(Err(Error::file("remove", &path)(error)));
                }
                _ => {}
            }
        }
        outcome?;
        let _ = fs::remove_file(self.config.dir.join("monitor.sock"));
        self.over = true;
        Ok(())
    }

    /// Ends what an earlier monitor left running.
    ///
    /// # Errors
    /// Its processes do not die.
    pub fn end_inherited(&mut self) -> Result<(), Error> {
        for container in &mut self.containers {
            if !matches!(container.stored.record.status, ContainerStatus::Running { .. }) {
                continue;
            }
            container.stored.cgroup.kill_all()?;
            let exit = Exit {
                code: 137,
                signal: Some(Signal::SIGKILL as i32),
                oom_killed: false,
                timed_out: false,
                at: Timestamp::now(),
                message: "the pod's monitor ended unexpectedly; its containers were killed".into(),
            };
            container.set_exit(exit)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Ready {
    signals: bool,
    listener: bool,
    connections: Vec<u64>,
    outputs: Vec<(ContainerId, usize)>,
}

fn wait_readable(fd: &SignalFd, at_most: Duration) {
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
}

/// Gives free memory back to the kernel: a node has a monitor for each of its pods.
pub fn trim_heap() {
    // SAFETY: glibc's malloc_trim takes an integer and touches only free memory.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
