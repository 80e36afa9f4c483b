//! One task a pod: facts in, a plan, actions out.
//!
//! ```text
//!   manifests ──▶ inbox ─┐
//!   monitor   ──▶ events ├─▶ facts (PodObserved) ─▶ orlop_pod::plan ─▶ begin(action)
//!   probers   ──▶ inbox ─┤                                              │ spawned steps
//!   steps     ──▶ done  ─┘◀──────────────────────────────────────────────┘
//! ```
//!
//! Nothing is decided here: `begin` starts what the plan says and notes it as under
//! way, so that the same plan does not ask for it again. What comes of a step is in
//! `done`.

mod done;
mod hear;
mod pulls;

use self::done::Done;
use self::hear::volumes;
use super::container::{self, StartRequest};
use super::facts;
use super::probing::Probers;
use super::record::PodRecord;
use super::sandbox::{self, Sandbox};
use super::source::PodSource;
use super::view::PodSnapshot;
use crate::node::Node;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use orlop_image::ImageRecord;
use orlop_model::{ContainerId, ContainerName, EventKind, ImageRef, PodDesired};
use orlop_pod::{Backoff, PodAction, PodObserved, PodPlan, ProbeResults, SandboxState, Step, Stopping};
use orlop_runtime::MonitorEvent;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// The pod changed in what may change in place.
    Want(Box<PodDesired>, Arc<PodSource>),
    /// End, gracefully; again to end sooner.
    Delete {
        /// Seconds; the pod's own when nothing is said.
        grace_secs: Option<u64>,
    },
    /// A prober has news about an attempt.
    Probe(ContainerName, ContainerId, ProbeResults),
    /// ConfigMaps or Secrets changed.
    ObjectsChanged,
    /// Images were loaded.
    ImagesChanged,
    /// The status is to be made anew.
    Look,
}

/// See the module's text.
pub(crate) struct Worker {
    node: Arc<Node>,
    record: PodRecord,
    want: PodDesired,
    seen: PodObserved,
    sandbox: Option<Sandbox>,
    images: BTreeMap<ImageRef, ImageRecord>,
    /// Images that are being looked for.
    pulls: BTreeMap<ImageRef, AbortHandle>,
    /// Brings files up to date with their objects, until it has.
    refreshing: Option<AbortHandle>,
    /// The attempts after which containers were last told to back off.
    told_crashes: BTreeMap<ContainerName, Option<u32>>,
    /// The failures that containers were last told to back off from.
    told_backoffs: BTreeMap<ContainerName, Timestamp>,
    volumes: BTreeMap<String, PathBuf>,
    probers: Probers,
    steps: JoinSet<Done>,
    inbox: mpsc::UnboundedReceiver<Message>,
    publish: watch::Sender<Arc<PodSnapshot>>,
    status: PodStatus,
    /// Failures in a row, by step.
    failures: BTreeMap<String, u32>,
    /// When the sandbox that was lost last had been made.
    lost_sandbox: Option<Timestamp>,
}

/// What a worker starts with: a new pod, or what was found of one.
pub(crate) struct Beginning {
    /// Its record.
    pub record: PodRecord,
    /// As admitted.
    pub want: PodDesired,
    /// As seen.
    pub seen: PodObserved,
    /// Its sandbox, if it stands.
    pub sandbox: Option<Sandbox>,
    /// Volumes that are set up.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Where it hears.
    pub inbox: mpsc::UnboundedReceiver<Message>,
    /// The other end of its inbox, for its probers.
    pub own: mpsc::UnboundedSender<Message>,
    /// Where it shows itself.
    pub publish: watch::Sender<Arc<PodSnapshot>>,
}

impl Worker {
    /// Ready to run.
    pub fn new(node: Arc<Node>, from: Beginning) -> Self {
        Self {
            probers: Probers::new(from.own),
            node,
            record: from.record,
            want: from.want,
            seen: from.seen,
            sandbox: from.sandbox,
            images: BTreeMap::new(),
            pulls: BTreeMap::new(),
            refreshing: None,
            told_crashes: BTreeMap::new(),
            told_backoffs: BTreeMap::new(),
            volumes: from.volumes,
            steps: JoinSet::new(),
            inbox: from.inbox,
            publish: from.publish,
            status: PodStatus::default(),
            failures: BTreeMap::new(),
            lost_sandbox: None,
        }
    }

    /// Works until the pod is gone.
    pub async fn run(mut self) {
        // Objects may have changed, and tokens run out, while there was no agent.
        self.refresh_volumes();
        loop {
            let now = Timestamp::now();
            let mut plan = orlop_pod::plan(&self.want, &self.seen, now);
            for action in std::mem::take(&mut plan.actions) {
                tracing::debug!(pod = %self.want.key, ?action, "action");
                self.begin(action, now);
            }
            self.follow_probes();
            self.show(&plan, now);
            if matches!(self.seen.teardown, Step::Ready) && self.want.deletion.is_some() {
                return;
            }
            let wake = plan.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            tokio::select! {
                Some(message) = self.inbox.recv() => self.hear(message),
                Some(done) = self.steps.join_next(), if !self.steps.is_empty() => match done {
                    Ok(done) => self.finish(done),
                    // A pull that nobody wants any more.
                    Err(error) if error.is_cancelled() => {}
                    // The registry starts another worker from what is observed.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                event = next_event(&mut self.sandbox) => self.monitor_said(event),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            }
        }
    }

    fn begin(&mut self, action: PodAction, now: Timestamp) {
        let (node, want) = (Arc::clone(&self.node), self.want.clone());
        match action {
            PodAction::CreateSandbox => {
                self.seen.sandbox = facts::in_progress(&self.seen.sandbox);
                self.steps.spawn(async move { Done::Sandbox(sandbox::create(&node, &want).await.map(Box::new)) });
            }
            PodAction::RemoveBrokenSandbox => {
                self.seen.sandbox = SandboxState::Broken { removal: Step::InProgress };
                let sandbox = self.sandbox.take();
                self.steps.spawn(async move { Done::BrokenRemoved(sandbox::remove(&node, &want, sandbox).await) });
            }
            PodAction::SetUpVolumes => {
                self.seen.volumes = Step::InProgress;
                let origin = self.record.origin.clone();
                self.steps.spawn(async move { Done::Volumes(volumes(&node, &want, &origin).await) });
            }
            PodAction::EnsureImage(image) => {
                self.seen.images.insert(image.clone(), Step::InProgress);
                let (origin, key) = (self.record.origin.clone(), image.clone());
                let task = self.steps.spawn(async move {
                    let found = node.ensure_image(&want, &image, &origin).await;
                    Done::Image(image, found)
                });
                self.pulls.insert(key, task);
            }
            PodAction::StartContainer { name, attempt, backoff } => self.begin_start(name, attempt, backoff),
            PodAction::StopContainer { id, name, grace_secs, why } => {
                self.container_event(&name, EventKind::Normal, "Killing", why);
                let stopping = Stopping { since: now, grace_secs, killed: false };
                self.container(&name).stopping = Some(stopping);
                // Out of the Services before it hears of its end.
                self.show_endpoint();
                self.signal(id, nix::libc::SIGTERM, false);
            }
            PodAction::KillContainer { id, name } => {
                let stopping = Stopping { since: now, grace_secs: 0, killed: true };
                self.container(&name).stopping.get_or_insert(stopping).killed = true;
                self.show_endpoint();
                self.signal(id, nix::libc::SIGKILL, true);
            }
            PodAction::TearDown => {
                self.seen.teardown = Step::InProgress;
                self.probers.stop_all();
                self.end_pulls();
                if self.want.deletion.is_none() {
                    self.record.finished = true;
                    self.save_record();
                }
                let sandbox = self.sandbox.take();
                let whole = want.deletion.is_some();
                self.steps.spawn(async move {
                    let result = sandbox::tear_down(&node, &want, sandbox).await;
                    Done::TornDown { whole, result }
                });
            }
            PodAction::Fail { reason, message } => {
                self.event(EventKind::Normal, &reason, message.clone());
                self.record.failed = Some((reason.clone(), message.clone()));
                self.seen.failed = Some((reason, message));
                self.save_record();
            }
        }
    }

    fn begin_start(&mut self, name: ContainerName, attempt: u32, backoff: Option<Backoff>) {
        let Some(container) = self.want.container(&name).cloned() else { return };
        let (Some(sandbox), Some(image)) = (&self.sandbox, self.images.get(&container.image).cloned()) else {
            tracing::error!(pod = %self.want.key, container = %name, "the plan starts a container without sandbox or image");
            return;
        };
        let request = StartRequest {
            pod: self.want.clone(),
            container,
            attempt,
            backoff,
            image,
            volumes: self.volumes.clone(),
            monitor: sandbox.monitor.clone(),
            ips: sandbox.ips.clone(),
            outdated: self.record.take_outdated(&name, attempt),
            origin: self.record.origin.clone(),
        };
        // The next start asks for the image again: with `Always` the registry, with the
        // others the node, where someone may have removed it.
        self.seen.images.remove(&request.container.image);
        facts::starting(self.container(&name), attempt, backoff);
        let node = Arc::clone(&self.node);
        self.steps.spawn(async move {
            let result = container::start(&node, request).await.map(Box::new);
            Done::Started { name, result }
        });
    }

    fn signal(&mut self, id: ContainerId, signal: i32, all: bool) {
        let Some(sandbox) = &self.sandbox else { return };
        let (monitor, key) = (sandbox.monitor.clone(), self.want.key.clone());
        self.steps.spawn(async move {
            if let Err(error) = monitor.signal(&id, signal, all).await {
                // A monitor that cannot be asked is noticed as gone; the plan goes on from there.
                tracing::warn!(pod = %key, container = %id, signal, err = %facts::chain(&error), "signal not sent");
            }
            Done::Signalled
        });
    }

    fn monitor_said(&mut self, event: Option<MonitorEvent>) {
        match event {
            Some(MonitorEvent::Exited(record)) => {
                self.record.note(&record);
                self.save_record();
                let name = record.name.clone();
                self.probers.stop(&name);
                facts::exited(self.container(&name), &record);
            }
            Some(MonitorEvent::LogTrouble { id, message, lost_bytes }) => {
                let text = format!("container {id}: {message} ({lost_bytes} bytes of its log are lost)");
                self.node.own_event(&self.want, EventKind::Warning, "LogWriteFailed", text);
            }
            Some(MonitorEvent::Gone) | None => {
                self.event(
                    EventKind::Normal,
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                );
                self.probers.stop_all();
                if let SandboxState::Ready { created, .. } = self.seen.sandbox {
                    self.lost_sandbox = Some(created);
                }
                self.seen.sandbox = SandboxState::Broken { removal: Step::Absent };
                if let Some(sandbox) = &mut self.sandbox {
                    sandbox.events = None;
                }
            }
        }
    }

    fn follow_probes(&mut self) {
        let monitor = self.sandbox.as_ref().map(|s| (&s.monitor, s.ips.first().copied()));
        let Some((monitor, Some(ip))) = monitor else { return };
        self.probers.follow(&self.want, &self.seen, monitor, ip, &self.node.events);
    }

    fn show(&mut self, plan: &PodPlan, now: Timestamp) {
        for (name, waiting) in &plan.waiting {
            if waiting.reason == "CrashLoopBackOff" {
                let (key, uid) = (&self.want.key, &self.want.uid);
                let pod = format!("{}_{}({uid})", key.name(), key.namespace());
                let message = format!("Back-off restarting failed container {name} in pod {pod}");
                self.backs_off(name, message);
            }
        }
        self.tell_pull_backoffs(plan);
        self.status = self.node.status(&self.want, &self.seen, plan, &self.status, now);
        self.show_endpoint();
        let snapshot = PodSnapshot {
            want: self.want.clone(),
            seen: self.seen.clone(),
            status: self.status.clone(),
            origin: self.record.origin.clone(),
            whole: self.node.knows(&self.want.uid, &self.record.origin),
            monitor: self.sandbox.as_ref().map(|s| s.monitor.clone()),
            pids: self.record.pids(),
            phases: self.sandbox.as_ref().map(|s| s.phases.clone()).unwrap_or_default(),
        };
        self.publish.send_if_modified(|old| {
            let changed = **old != snapshot;
            if changed {
                *old = Arc::new(snapshot);
            }
            changed
        });
    }

    fn show_endpoint(&self) {
        self.node.show_endpoint(&self.want, &self.seen);
    }

    fn container(&mut self, name: &ContainerName) -> &mut orlop_pod::ContainerObserved {
        self.seen.containers.entry(name.clone()).or_default()
    }

    fn event(&self, kind: EventKind, reason: &str, message: impl Into<String>) {
        self.node.pod_event(&self.want, kind, reason, message);
    }

    fn container_event(&self, name: &ContainerName, kind: EventKind, reason: &str, message: impl Into<String>) {
        self.node.container_event(&self.want, name, kind, reason, message);
    }

    /// Told once an attempt, however often the plan says so.
    fn backs_off(&mut self, name: &ContainerName, message: String) {
        let attempt = self.seen.containers.get(name).and_then(|seen| seen.attempt);
        if self.told_crashes.insert(name.clone(), attempt) != Some(attempt) {
            self.container_event(name, EventKind::Warning, "BackOff", message);
        }
    }

    fn save_probes(&mut self, name: &ContainerName) {
        if facts::save_probes(&mut self.record, &self.seen, name) {
            self.save_record();
        }
    }

    fn save_record(&self) {
        if let Err(error) = self.record.save(&self.node.config.record(self.want.uid.as_str())) {
            self.node.own_event(&self.want, EventKind::Warning, "FailedSaveRecord", format!("{error:#}"));
        }
    }
}

/// The next word of the monitor; never, while there is none to listen to.
async fn next_event(sandbox: &mut Option<Sandbox>) -> Option<MonitorEvent> {
    match sandbox.as_mut().and_then(|s| s.events.as_mut()) {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}
