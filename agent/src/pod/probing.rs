//! Runs the probes of running containers: one task a container, which asks
//! `orlop_pod::Prober` when to probe and tells the worker when a result changed.

use super::worker::Message;
use crate::events::{About, EventLog};
use jiff::Timestamp;
use orlop_model::{ContainerDesired, ContainerId, ContainerName, EventKind, PodDesired, Probe, ProbeAction, ProbeKind};
use orlop_pod::{Lifecycle, PodObserved, ProbeEffect, Prober};
use orlop_probe::Get;
use orlop_runtime::Monitor;
use orlop_wire::{Exec, ExecUser};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Bytes of an exec probe's output kept for its event, as the kubelet keeps.
const OUTPUT_BYTES_MAX: u64 = 10 << 10;
/// How long a probe's process may outlive its timeout before it is given up.
const EXEC_SLACK: Duration = Duration::from_secs(5);

/// The probers of one pod.
pub(crate) struct Probers {
    tell: mpsc::UnboundedSender<Message>,
    running: BTreeMap<ContainerName, (ContainerId, AbortHandle)>,
}

/// What a prober works with.
struct Subject {
    about: About,
    container: ContainerDesired,
    id: ContainerId,
    ip: IpAddr,
    monitor: Monitor,
    events: Arc<EventLog>,
}

impl Probers {
    /// None runs yet.
    pub fn new(tell: mpsc::UnboundedSender<Message>) -> Self {
        Self { tell, running: BTreeMap::new() }
    }

    /// Starts probers for containers that run and have none.
    pub fn follow(
        &mut self,
        want: &PodDesired,
        seen: &PodObserved,
        monitor: &Monitor,
        ip: IpAddr,
        events: &Arc<EventLog>,
    ) {
        for container in &want.containers {
            if container.startup.is_none() && container.liveness.is_none() && container.readiness.is_none() {
                continue;
            }
            let Some(observed) = seen.containers.get(&container.name) else { continue };
            let Lifecycle::Running { id, started } = &observed.life else { continue };
            if self.running.get(&container.name).is_some_and(|(probed, _)| probed == id) {
                continue;
            }
            self.stop(&container.name);
            let prober = Prober::resumed(container, *started, observed.probes.clone());
            let subject = Subject {
                about: About::container(want, container),
                container: container.clone(),
                id: id.clone(),
                ip,
                monitor: monitor.clone(),
                events: Arc::clone(events),
            };
            let task = tokio::spawn(run(Arc::new(subject), prober, self.tell.clone()));
            self.running.insert(container.name.clone(), (id.clone(), task.abort_handle()));
        }
    }

    /// Ends a container's prober.
    pub fn stop(&mut self, name: &ContainerName) {
        if let Some((_, task)) = self.running.remove(name) {
            task.abort();
        }
    }

    /// Ends all.
    pub fn stop_all(&mut self) {
        for (_, task) in std::mem::take(&mut self.running).into_values() {
            task.abort();
        }
    }
}

impl Drop for Probers {
    fn drop(&mut self) {
        self.stop_all();
    }
}

async fn run(subject: Arc<Subject>, mut prober: Prober, tell: mpsc::UnboundedSender<Message>) {
    let mut probes = JoinSet::new();
    loop {
        for (kind, probe) in prober.due(Timestamp::now()) {
            let subject = Arc::clone(&subject);
            probes.spawn(async move { (kind, carry_out(&subject, &probe).await) });
        }
        let wait = prober.next().map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
        if wait.is_none() && probes.is_empty() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            Some(done) = probes.join_next(), if !probes.is_empty() => {
                let Ok((kind, result)) = done else { continue };
                let ok = judge(&subject, kind, result);
                if let ProbeEffect::Changed(results) = prober.record(kind, ok) {
                    let message = Message::Probe(subject.container.name.clone(), subject.id.clone(), results);
                    if tell.send(message).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Why a probe did not succeed.
enum Trouble {
    /// It failed: the container's fault.
    Failed(String),
    /// It could not be carried out: nobody's result.
    Errored(String),
}

fn judge(subject: &Subject, kind: ProbeKind, result: Result<(), Trouble>) -> Option<bool> {
    let event = |message: String| subject.events.tell(&subject.about, EventKind::Warning, "Unhealthy", message);
    match result {
        Ok(()) => Some(true),
        Err(Trouble::Failed(why)) => {
            event(format!("{} probe failed: {why}", kind.as_str()));
            Some(false)
        }
        Err(Trouble::Errored(why)) => {
            event(format!("{} probe errored and resulted in unknown state: {why}", kind.as_str()));
            None
        }
    }
}

async fn carry_out(subject: &Subject, probe: &Probe) -> Result<(), Trouble> {
    let timeout = Duration::from_secs(u64::from(probe.timeout_secs.max(1)));
    let own = subject.ip.to_string();
    let failed = |error: orlop_probe::ProbeFailure| Trouble::Failed(error.to_string());
    match &probe.action {
        ProbeAction::HttpGet { scheme, host, port, path, headers } => {
            let host = host.as_deref().unwrap_or(&own);
            let get = Get { scheme: *scheme, host, port: *port, path, headers };
            orlop_probe::http(&get, timeout).await.map_err(failed)
        }
        ProbeAction::TcpSocket { host, port } => {
            orlop_probe::tcp(host.as_deref().unwrap_or(&own), *port, timeout).await.map_err(failed)
        }
        ProbeAction::Exec { command } => exec(subject, command, timeout).await,
    }
}

async fn exec(subject: &Subject, command: &[String], timeout: Duration) -> Result<(), Trouble> {
    let errored = |error: &dyn std::error::Error| Trouble::Errored(super::chain(error));
    let (output, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| errored(&e))?;
    let null: OwnedFd = File::open("/dev/null").map_err(|e| errored(&e))?.into();
    let also = write.try_clone().map_err(|e| errored(&e))?;
    let request = Exec {
        id: subject.id.clone(),
        exec_id: 0,
        args: command.to_vec(),
        env: Vec::new(),
        cwd: None,
        tty: false,
        user: ExecUser::default(),
        timeout_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    // A command that cannot be executed is a failed probe, as the kubelet has it.
    let handle = match subject.monitor.exec(request, Some([null, write, also])).await {
        Ok(handle) => handle,
        Err(error) => return Err(Trouble::Failed(super::chain(&error))),
    };
    let reader = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        let _ = File::from(output).take(OUTPUT_BYTES_MAX).read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim_end().to_owned()
    });
    let exit = match tokio::time::timeout(timeout + EXEC_SLACK, handle.exit).await {
        Ok(Ok(exit)) => exit,
        Ok(Err(_)) => return Err(Trouble::Errored("the pod's monitor is gone".to_owned())),
        Err(_) => return Err(Trouble::Errored(format!("the command did not end {EXEC_SLACK:?} after its timeout"))),
    };
    if exit.timed_out {
        return Err(Trouble::Failed(format!("command timed out: {command:?} timed out after {}s", timeout.as_secs())));
    }
    if exit.code == 0 {
        return Ok(());
    }
    // A grandchild may hold the pipe; what it has written by now has to do.
    let text = tokio::time::timeout(Duration::from_millis(100), reader).await;
    Err(Trouble::Failed(text.ok().and_then(Result::ok).unwrap_or_default()))
}
