//! The agent's end of a monitor's socket: one connection, one reading task, any
//! number of callers.

use crate::error::Error;
use nix::sys::socket::{Shutdown, shutdown};
use orlop_model::ContainerId;
use orlop_wire::{
    AttemptRecord, CreateContainer, Exec, Exit, FromMonitor, PROTOCOL_VERSION, Reply, Request, SandboxConfig,
    SandboxReady, Snapshot, ToMonitor, frame,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::process::{ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

/// A monitor makes its namespaces in milliseconds; a machine that swaps may need more.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Longest `sandbox ready` line taken, in bytes.
const READY_BYTES_MAX: u64 = 64 << 10;
/// A signal, a snapshot.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// A creation or exec reaches its command within ten seconds or fails; other calls
/// of the same pod may be before it in the queue.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Ending every process of a pod and removing its cgroups.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(60);

/// Frames waiting to be sent, and events waiting to be taken; further ones wait.
const FRAMES_MAX: usize = 64;
const EVENTS_MAX: usize = 256;

/// What happens in a pod without being asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorEvent {
    /// A container has ended.
    Exited(AttemptRecord),
    /// Log bytes are being lost.
    LogTrouble {
        /// The container.
        id: ContainerId,
        /// What happened.
        message: String,
        /// Bytes lost so far.
        lost_bytes: u64,
    },
    /// The connection has ended: the monitor was shut down or has died. The last
    /// event; every call under way fails.
    Gone,
}

/// A process started by [`Monitor::exec`].
#[derive(Debug)]
pub struct ExecHandle {
    /// Process id in the agent's PID namespace.
    pub pid: u32,
    /// The terminal's master, if one was asked for.
    pub master: Option<OwnedFd>,
    /// How it ended; an error if the monitor went away before that.
    pub exit: oneshot::Receiver<Exit>,
}

/// A connection to a pod's monitor. Clones share it; it ends with the last of them,
/// which the monitor does not mind.
#[derive(Debug, Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
    out: mpsc::Sender<Outgoing>,
}

/// A frame on its way. A task of its own sends it, so that a caller that gives up
/// cannot leave half a frame on the socket.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    stream: UnixStream,
    seq: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    gone: bool,
    replies: HashMap<u64, oneshot::Sender<(Reply, Vec<OwnedFd>)>>,
    execs: HashMap<u64, oneshot::Sender<Exit>>,
}

#[derive(Debug)]
struct Received {
    message: FromMonitor,
    fds: Vec<OwnedFd>,
}

impl Monitor {
    /// Writes `DIR/sandbox.json`, starts the monitor and connects to it.
    ///
    /// # Errors
    /// The folder cannot be written, the program cannot be run, or the monitor says
    /// why it cannot make the sandbox.
    pub async fn start(
        program: &Path,
        config: &SandboxConfig,
    ) -> Result<(Self, Snapshot, mpsc::Receiver<MonitorEvent>), Error> {
        let (config, procs) = moved_from_here(config);
        let config = config.as_ref();
        fs::create_dir_all(&config.dir).map_err(Error::file("create", &config.dir))?;
        let path = config.dir.join("sandbox.json");
        let bytes = serde_json::to_vec(config).map_err(|source| Error::Json { what: "sandbox.json", source })?;
        fs::write(&path, bytes).map_err(Error::file("write", &path))?;
        let spawned = Command::new(program)
            .arg(&config.dir)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = spawned.map_err(|source| Error::Spawn { program: program.to_owned(), source })?;
        let pid = child
            .id()
            .ok_or_else(|| Error::Spawn { program: program.to_owned(), source: ErrorKind::NotFound.into() })?;
        let (moved, moving) = oneshot::channel();
        // A thread of its own: many that start at once would fill the pool with waiting.
        let mover = std::thread::Builder::new().name("monitor-cgroup".into());
        let mover = mover.spawn(move || drop(moved.send(move_into(pid, &procs))));
        drop(mover.map_err(|err| warn!(%err, "no thread to be had")));
        let line = match child.stdout.take() {
            Some(stdout) => timeout(READY_WITHIN, first_line(stdout)).await,
            None => Ok(Ok(String::new())),
        };
        if line.is_err() {
            // It hangs; whoever asks again must not find it in the way.
            let _ = child.start_kill();
        }
        // Waits for the child for as long as this agent lives, so that it leaves no
        // zombie; the monitor itself does not mind being left.
        tokio::spawn(async move {
            let outcome = moving.await;
            if !matches!(outcome, Ok(Ok(()))) {
                // It would end with the agent, and its pod with it.
                warn!(pid, ?outcome, "monitor not moved out of the agent's cgroup; it is killed");
                let _ = child.start_kill();
            }
            drop(child.wait().await);
        });
        let line = line
            .map_err(|_| Error::Late { dir: config.dir.clone(), call: "start", after: READY_WITHIN })?
            .map_err(|source| Error::Spawn { program: program.to_owned(), source })?;
        ready(&line, &config.dir)?;
        Self::connect(&config.dir).await
    }

    /// Connects to the monitor of an earlier agent.
    ///
    /// # Errors
    /// Nobody listens, or it speaks a newer protocol.
    pub async fn connect(dir: &Path) -> Result<(Self, Snapshot, mpsc::Receiver<MonitorEvent>), Error> {
        // Through the folder's descriptor: socket paths end at 108 bytes.
        let here = File::open(dir).map_err(Error::file("open", dir))?;
        let short = format!("/proc/self/fd/{}/monitor.sock", here.as_raw_fd());
        let stream = timeout(ANSWER_WITHIN, UnixStream::connect(short))
            .await
            .map_err(|_| Error::Late { dir: dir.to_owned(), call: "connect", after: ANSWER_WITHIN })?
            .map_err(|source| Error::Connect { dir: dir.to_owned(), source })?;
        let shared =
            Arc::new(Shared { dir: dir.to_owned(), stream, seq: AtomicU64::new(1), waiting: Mutex::default() });
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let (out, frames) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(read_loop(Arc::clone(&shared), events_in));
        tokio::spawn(write_loop(Arc::clone(&shared), frames));
        let monitor = Self { shared, out };
        let (reply, _) = monitor.call("subscribe", Request::Subscribe, Vec::new(), ANSWER_WITHIN).await?;
        match reply {
            Reply::Snapshot(snapshot) if snapshot.ready.protocol > PROTOCOL_VERSION => {
                Err(Error::Protocol { dir: dir.to_owned(), theirs: snapshot.ready.protocol, ours: PROTOCOL_VERSION })
            }
            Reply::Snapshot(snapshot) => Ok((monitor, snapshot, events)),
            other => Err(monitor.unexpected("subscribe", &other)),
        }
    }

    /// The monitor's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Creates and starts a container. The record says whether it runs; one that
    /// could not be started is no error here.
    ///
    /// # Errors
    /// The monitor refused or has gone.
    pub async fn create(&self, container: CreateContainer) -> Result<AttemptRecord, Error> {
        match self.call("create", Request::Create(container), Vec::new(), START_WITHIN).await? {
            (Reply::Container(record), _) => Ok(record),
            (other, _) => Err(self.unexpected("create", &other)),
        }
    }

    /// Sends a signal to a container's init, or with `all` to every process of it.
    ///
    /// # Errors
    /// No such container, no such signal, or the monitor has gone. A container that
    /// has ended is no error.
    pub async fn signal(&self, id: &ContainerId, signal: i32, all: bool) -> Result<(), Error> {
        self.done("signal", Request::Signal { id: id.clone(), signal, all }, ANSWER_WITHIN).await
    }

    /// Runs a process in a container: with `stdio`, or with `exec.tty` and none. The
    /// `exec_id` is chosen here. Dropping the handle leaves the process running.
    ///
    /// # Errors
    /// The container does not run, the command cannot be executed, or the monitor
    /// has gone.
    pub async fn exec(&self, mut exec: Exec, stdio: Option<[OwnedFd; 3]>) -> Result<ExecHandle, Error> {
        exec.exec_id = self.shared.seq.fetch_add(1, Ordering::Relaxed);
        let (exit_in, exit) = oneshot::channel();
        let exec_id = exec.exec_id;
        self.shared.lock().execs.insert(exec_id, exit_in);
        let fds = stdio.map_or(Vec::new(), Vec::from);
        match self.call("exec", Request::Exec(exec), fds, START_WITHIN).await {
            Ok((Reply::Exec { pid }, fds)) => Ok(ExecHandle { pid, master: fds.into_iter().next(), exit }),
            other => {
                self.shared.lock().execs.remove(&exec_id);
                let (reply, _) = other?;
                Err(self.unexpected("exec", &reply))
            }
        }
    }

    /// Forgets an ended attempt and removes its state and cgroup.
    ///
    /// # Errors
    /// It still runs, its cgroup cannot be removed, or the monitor has gone.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        self.done("remove", Request::Remove { id: id.clone() }, START_WITHIN).await
    }

    /// Kills what runs, removes everything the monitor has made and ends it.
    ///
    /// # Errors
    /// Something could not be ended or removed: the monitor goes on and it can be
    /// tried again.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.done("shutdown", Request::Shutdown, SHUTDOWN_WITHIN).await
    }

    async fn done(&self, call: &'static str, request: Request, within: Duration) -> Result<(), Error> {
        match self.call(call, request, Vec::new(), within).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(self.unexpected(call, &other)),
        }
    }

    fn unexpected(&self, call: &'static str, reply: &Reply) -> Error {
        match reply {
            Reply::Error(message) => Error::Refused { call, message: message.clone() },
            _ => Error::Unexpected { dir: self.shared.dir.clone(), call },
        }
    }

    async fn call(
        &self,
        call: &'static str,
        request: Request,
        fds: Vec<OwnedFd>,
        within: Duration,
    ) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let shared = &self.shared;
        let seq = shared.seq.fetch_add(1, Ordering::Relaxed);
        let (reply_in, reply) = oneshot::channel();
        let bytes = frame::encode(&ToMonitor { seq, request })
            .map_err(|source| Error::Frame { dir: shared.dir.clone(), source })?;
        {
            let mut waiting = shared.lock();
            if waiting.gone {
                return Err(Error::Gone { dir: shared.dir.clone() });
            }
            waiting.replies.insert(seq, reply_in);
        }
        let gone = || Error::Gone { dir: shared.dir.clone() };
        let answer = async {
            self.out.send(Outgoing { bytes, fds }).await.map_err(|_| gone())?;
            reply.await.map_err(|_| gone())
        };
        let outcome = timeout(within, answer).await;
        shared.lock().replies.remove(&seq);
        outcome.unwrap_or_else(|_| Err(Error::Late { dir: shared.dir.clone(), call, after: within }))
    }
}

/// Takes moving the monitor into its cgroup over from it: the first write to
/// `cgroup.procs` waits for all CPUs (8 to 15 ms), and the sandbox is made meanwhile.
/// A monitor with a child of its own, the holder of a shared PID namespace, has to
/// have moved before it forks and does so itself.
fn moved_from_here(config: &SandboxConfig) -> (Cow<'_, SandboxConfig>, Vec<PathBuf>) {
    if config.share_process_namespace {
        return (Cow::Borrowed(config), Vec::new());
    }
    let left = SandboxConfig { own_cgroup_procs: Vec::new(), ..config.clone() };
    (Cow::Owned(left), config.own_cgroup_procs.clone())
}

fn move_into(pid: u32, procs: &[PathBuf]) -> Result<(), Error> {
    procs.iter().try_for_each(|path| match fs::write(path, pid.to_string()) {
        // It has ended already; whoever waits for it hears why.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
        written => written.map_err(Error::file("join cgroup", path)),
    })
}

async fn first_line(stdout: ChildStdout) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stdout.take(READY_BYTES_MAX)).read_line(&mut line).await?;
    Ok(line)
}

fn ready(line: &str, dir: &Path) -> Result<(), Error> {
    if serde_json::from_str::<SandboxReady>(line).is_ok() {
        return Ok(());
    }
    let said = serde_json::from_str::<HashMap<String, String>>(line).ok();
    let message = said.and_then(|mut map| map.remove("error"));
    Err(Error::Sandbox {
        dir: dir.to_owned(),
        message: message.unwrap_or_else(|| "the monitor ended without a word".into()),
    })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding it; a poisoned map is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, frame: &Outgoing) -> io::Result<()> {
        let raw: Vec<RawFd> = frame.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut sent = 0;
        while sent < frame.bytes.len() {
            let raw = if sent == 0 { &raw[..] } else { &[] };
            let rest = &frame.bytes[sent..];
            let part =
                self.stream.async_io(Interest::WRITABLE, || frame::send_some(self.stream.as_fd(), rest, raw)).await;
            sent += part?;
        }
        Ok(())
    }

    async fn receive(&self) -> Result<Received, frame::FrameError> {
        let mut fds = Vec::new();
        let mut header = [0; 4];
        self.fill(&mut header, &mut fds).await?;
        let mut body = vec![0; frame::decode_length(header)?];
        self.fill(&mut body, &mut fds).await?;
        Ok(Received { message: serde_json::from_slice(&body)?, fds })
    }

    async fn fill(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), frame::FrameError> {
        let mut filled = 0;
        while filled < bytes.len() {
            let part = self
                .stream
                .async_io(Interest::READABLE, || frame::receive_some(self.stream.as_fd(), &mut bytes[filled..], fds))
                .await;
            match part {
                Ok(0) => return Err(frame::FrameError::Closed),
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

async fn write_loop(shared: Arc<Shared>, mut frames: mpsc::Receiver<Outgoing>) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = shared.send(&frame).await {
            warn!(dir = %shared.dir.display(), err = %error, "monitor connection failed");
            break;
        }
    }
    // Ends the reading task, too; it tells whoever still waits.
    let _ = shutdown(shared.stream.as_raw_fd(), Shutdown::Both);
}

async fn read_loop(shared: Arc<Shared>, events: mpsc::Sender<MonitorEvent>) {
    loop {
        let received = match shared.receive().await {
            Ok(received) => received,
            Err(frame::FrameError::Closed) => break,
            Err(error) => {
                warn!(dir = %shared.dir.display(), err = %error, "monitor connection failed");
                break;
            }
        };
        let trouble = matches!(received.message, FromMonitor::LogTrouble { .. });
        let event = match received.message {
            FromMonitor::Reply { seq, reply } => {
                let waiter = shared.lock().replies.remove(&seq);
                if let Some(waiter) = waiter {
                    // A caller that gave up has dropped its end.
                    let _ = waiter.send((reply, received.fds));
                }
                continue;
            }
            FromMonitor::ExecExited { exec_id, exit } => {
                let waiter = shared.lock().execs.remove(&exec_id);
                if let Some(waiter) = waiter {
                    let _ = waiter.send(exit);
                }
                continue;
            }
            FromMonitor::Exited(record) => MonitorEvent::Exited(record),
            FromMonitor::LogTrouble { id, message, lost_bytes } => MonitorEvent::LogTrouble { id, message, lost_bytes },
        };
        if trouble {
            // Its count includes all before it, so one that finds no room may be left out.
            let _ = events.try_send(event);
        } else {
            // A caller that does not want events has dropped its end; replies still come.
            let _ = events.send(event).await;
        }
    }
    {
        let mut waiting = shared.lock();
        waiting.gone = true;
        waiting.replies.clear();
        waiting.execs.clear();
    }
    let _ = events.send(MonitorEvent::Gone).await;
}
