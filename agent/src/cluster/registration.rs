//! The Node object: registered, kept true, registered again when somebody deleted it.
//!
//! ```text
//!   register ──▶ watch of the own Node ──▶ Cluster::registered, pod CIDRs, Ready put right
//!       ▲                │
//!       └── deleted ─────┤
//!   every 10 s, woken ───┴──▶ measure ──▶ status_patch ──▶ PATCH nodes/NAME/status
//!   a task of its own ──▶ Lease
//! ```

mod facts;
mod lease;
mod limit;
mod ranges;
mod settings;

pub(crate) use ranges::{leases_file, remembered};
pub(crate) use settings::NodeSettings;

use super::Cluster;
use crate::node::Node;
use crate::pod::chain;
use facts::Measured;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as ApiNode;
use orlop_apiclient::{ApiError, Client, NODES, Object, Patch, Selectors, WatchEvent, WatchOptions, watch};
use orlop_model::EventKind;
use orlop_node::{NodeEvent, NodeFacts, PressureMemory, ReportSchedule, Severity, Update};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// Between two tries to register, at first and at most (the kubelet's).
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(7);
/// Tries of one status report (kubelet `nodeStatusUpdateRetry`).
const REPORT_TRIES: u32 = 5;
/// What somebody else wrote into the status is put right at once, but not more often than this.
const CORRECT_EVERY: Duration = Duration::from_secs(1);
/// Whose events these are.
const NODE_EVENTS: &str = "Node";

/// What others need of the registration.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    wake: Notify,
    /// What was written of the node.
    pub counters: NodeCounters,
}

/// How often the API server was told of the node; for metrics.
#[derive(Debug, Default)]
pub(crate) struct NodeCounters {
    /// The Node was made, or found when the agent started.
    pub registrations: AtomicU64,
    /// Status patches that the API server took.
    pub status_updates: AtomicU64,
    /// Status patches that failed.
    pub status_failures: AtomicU64,
    /// Lease renewals, the first one included.
    pub lease_renewals: AtomicU64,
    /// Requests for the Lease that failed.
    pub lease_failures: AtomicU64,
}

impl Registration {
    /// Something that the Node shows has changed: it is reported now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// A number of a counter more.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// From 0 to 1, by chance.
#[allow(clippy::cast_precision_loss)]
fn chance() -> f64 {
    RandomState::new().hash_one("chance") as f64 / u64::MAX as f64
}

/// Keeps the Node and its Lease for ever.
pub(super) async fn follow(node: Arc<Node>, cluster: Arc<Cluster>) {
    node.events.record(NODE_EVENTS, EventKind::Normal, "Starting", "Starting kubelet.");
    tokio::spawn(limit::enforce(Arc::clone(&node)));
    tokio::spawn(lease::renew(Arc::clone(&node), Arc::clone(&cluster)));
    let mut reporter = Reporter::new(node, Arc::clone(&cluster));
    reporter.register().await;
    let options = WatchOptions::new(Selectors::name(&reporter.node.config.node_name));
    let mut own = watch(&cluster.client, NODES.everywhere(), options);
    let mut tick = tokio::time::interval(reporter.node.settings.update_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = tokio::select! {
            Some(event) = own.next() => reporter.take(event).await,
            _ = tick.tick() => true,
            () = cluster.registration.wake.notified() => true,
        };
        if due {
            reporter.report().await;
        }
    }
}

struct Reporter {
    node: Arc<Node>,
    cluster: Arc<Cluster>,
    client: Client,
    object: Object,
    schedule: ReportSchedule,
    pressure: PressureMemory,
    /// The last report, whether the API server took it or not.
    last: Option<Instant>,
    /// What Ready was in it.
    ready: Option<bool>,
    /// The list under way has the Node.
    listed: bool,
    /// The API server could not be told last time.
    failing: bool,
}

impl Reporter {
    fn new(node: Arc<Node>, cluster: Arc<Cluster>) -> Self {
        let object = NODES.named(&node.config.node_name);
        let schedule = ReportSchedule::new(node.settings.report_every);
        // The kubelet's heartbeat client: a report that takes longer than until the next is given up.
        let client = cluster.client.with_timeout(node.settings.update_every);
        let pressure = PressureMemory::default();
        Self {
            node,
            cluster,
            client,
            object,
            schedule,
            pressure,
            last: None,
            ready: None,
            listed: false,
            failing: false,
        }
    }

    /// The Node as the API server has it.
    fn held(&self) -> Option<Arc<ApiNode>> {
        self.cluster.registered.borrow().clone()
    }

    /// Takes what the API server has now; whether that is to be reported on at once.
    fn hold(&self, stored: ApiNode) -> bool {
        let new_ranges = ranges::take(&self.node, &stored);
        let wrong = self.ready.is_some_and(|ready| is_ready(&stored) != ready);
        self.cluster.registered.send_replace(Some(Arc::new(stored)));
        new_ranges || (wrong && self.last.is_none_or(|last| last.elapsed() >= CORRECT_EVERY))
    }

    /// An event of the watch; whether a report is due.
    async fn take(&mut self, event: WatchEvent<ApiNode>) -> bool {
        match event {
            WatchEvent::Begin => {
                self.listed = false;
                false
            }
            WatchEvent::Item(stored) => {
                self.listed = true;
                self.changed(stored)
            }
            WatchEvent::Done if self.listed => true,
            WatchEvent::Done => self.register_again().await,
            WatchEvent::Applied(stored) if is_older(&stored, self.held().as_deref()) => false,
            WatchEvent::Applied(stored) => {
                self.listed = true;
                self.changed(stored)
            }
            // The end of one that was made again already says nothing.
            WatchEvent::Deleted(stored) if is_another(&stored, self.held().as_deref()) => false,
            WatchEvent::Deleted(_) => self.register_again().await,
        }
    }

    fn changed(&self, stored: ApiNode) -> bool {
        if let Some(before) = self.held() {
            // What others did to its conditions is no event of this node.
            let told = orlop_node::events(&before, &stored);
            self.tell(told.into_iter().filter(|event| event.reason.ends_with("Schedulable")));
        }
        self.hold(stored)
    }

    async fn register_again(&mut self) -> bool {
        let name = &self.node.config.node_name;
        tracing::warn!(node = %name, "the Node object was deleted, registering again");
        self.register().await;
        true
    }

    /// Tries until the Node is there. Pods go on meanwhile.
    async fn register(&mut self) {
        let (mut wait, mut told) = (RETRY_MIN, false);
        loop {
            let facts = self.measure().await.facts;
            match self.try_register(&facts).await {
                Ok(stored) => {
                    count(&self.cluster.registration.counters.registrations);
                    tracing::info!(node = %self.node.config.node_name, "the node is registered");
                    self.tell_beginning(&facts);
                    self.schedule = ReportSchedule::new(self.node.settings.report_every);
                    self.hold(stored);
                    return;
                }
                Err(error) if std::mem::replace(&mut told, true) => {
                    tracing::debug!(node = %self.node.config.node_name, err = %chain(&error), retry_in = ?wait, "the node could not be registered");
                }
                Err(error) => {
                    tracing::warn!(node = %self.node.config.node_name, err = %chain(&error), "the node could not be registered, trying on");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn try_register(&self, facts: &NodeFacts) -> Result<ApiNode, ApiError> {
        match self.client.get(&self.object).await {
            Ok(existing) => match orlop_node::reconcile(&existing, facts) {
                Some(patch) => self.patch(patch.as_value()).await,
                None => Ok(existing),
            },
            Err(error) if error.is_not_found() && self.node.settings.register => {
                let made = orlop_node::register(facts, Timestamp::now());
                self.client.create(&NODES.everywhere(), &made).await
            }
            Err(error) => Err(error),
        }
    }

    async fn patch(&self, patch: &serde_json::Value) -> Result<ApiNode, ApiError> {
        self.client.patch(&self.object.clone().subresource("status"), Patch::Strategic, patch).await
    }

    /// Tells the API server how the node is, if it does not know.
    async fn report(&mut self) {
        let measured = self.measure().await;
        self.pressure = measured.pressure;
        for _ in 0..REPORT_TRIES {
            let Some(existing) = self.held() else { return };
            let now = Timestamp::now();
            let Some(update) = orlop_node::status_patch(&existing, &measured.facts, &self.schedule, now) else {
                return;
            };
            self.last = Some(Instant::now());
            self.ready = Some(is_ready(&update.node));
            match self.patch(update.patch.as_value()).await {
                Ok(stored) => return self.reported(&existing, &update, stored),
                Err(error) if error.is_not_found() => return self.register().await,
                Err(error) => {
                    count(&self.cluster.registration.counters.status_failures);
                    if !self.read_again(&error).await {
                        return self.failed(&error);
                    }
                }
            }
        }
    }

    /// After a conflict, what the API server has is read; whether it could be.
    async fn read_again(&self, error: &ApiError) -> bool {
        if !error.is_conflict() {
            return false;
        }
        match self.client.get(&self.object).await {
            Ok(stored) => {
                self.hold(stored);
                true
            }
            Err(_) => false,
        }
    }

    fn reported(&mut self, before: &ApiNode, update: &Update, stored: ApiNode) {
        count(&self.cluster.registration.counters.status_updates);
        if std::mem::take(&mut self.failing) {
            tracing::info!(node = %self.node.config.node_name, "the node's status is reported again");
        }
        self.schedule.reported(update.changed, Timestamp::now(), chance());
        self.tell(orlop_node::events(before, &update.node));
        self.hold(stored);
    }

    /// Every ten seconds is often enough to try; once is often enough to say so.
    fn failed(&mut self, error: &ApiError) {
        if !std::mem::replace(&mut self.failing, true) {
            let name = &self.node.config.node_name;
            tracing::warn!(node = %name, err = %chain(error), "the node's status could not be reported, trying on");
        }
    }

    /// As the kubelet at each start: how the conditions of the Node are at first.
    fn tell_beginning(&self, facts: &NodeFacts) {
        let first = orlop_node::register(facts, Timestamp::now());
        let nothing = ApiNode { metadata: first.metadata.clone(), ..ApiNode::default() };
        self.tell(orlop_node::events(&nothing, &first));
    }

    fn tell(&self, events: impl IntoIterator<Item = NodeEvent>) {
        for event in events {
            let kind = match event.severity {
                Severity::Normal => EventKind::Normal,
                Severity::Warning => EventKind::Warning,
            };
            self.node.events.record(NODE_EVENTS, kind, event.reason, event.message);
        }
    }

    async fn measure(&self) -> Measured {
        let (node, before) = (Arc::clone(&self.node), self.pressure.clone());
        let measured = tokio::task::spawn_blocking(move || facts::measure(&node, &before)).await;
        measured.unwrap_or_else(|error| {
            tracing::error!(%error, "the node could not be measured");
            Measured { facts: self.node.known_facts(), pressure: self.pressure.clone() }
        })
    }
}

fn is_ready(node: &ApiNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Not the object that is held, but one that had its name.
fn is_another(node: &ApiNode, held: Option<&ApiNode>) -> bool {
    held.is_none_or(|held| held.metadata.uid != node.metadata.uid)
}

/// An answer to a patch overtook the watch. Versions of one kind are ordered (KEP 5504).
fn is_older(node: &ApiNode, held: Option<&ApiNode>) -> bool {
    let version = |node: &ApiNode| node.metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    match held {
        Some(held) if held.metadata.uid == node.metadata.uid => version(node) < version(held),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
