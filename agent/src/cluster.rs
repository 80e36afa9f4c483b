//! The node as part of a cluster: what it takes from an API server and what it tells it.
//!
//! ```text
//!   watch of pods ──▶ ApiPods ──▶ Pods::reconcile          (static pods of the manifests beside them)
//!   watches of objects, tokens ──▶ pods' volumes and variables
//!   watches of Services and EndpointSlices ──▶ Services
//!   watch of Nodes ──▶ Nodes
//!   PodSnapshot ──▶ report ──▶ one status patch a change, the last DELETE
//!   Node, Lease ◀── registration
//! ```
//!
//! All of it waits out an API server that is away: pods and Services go on as they were
//! told last.

mod events;
mod mirrors;
mod nodes;
mod objects;
mod pods;
mod registration;
mod report;
mod services;
mod tokens;

pub(crate) use events::{EventCounters, EventSender};
pub(crate) use objects::Held;
pub(crate) use registration::{NodeSettings, leases_file, remembered};
pub(crate) use report::{Subject, reject, remove};

use crate::api::ClusterView;
use crate::node::Node;
use crate::pod::PodSnapshot;
use events::{EventLimits, EventWriter};
use k8s_openapi::api::core::v1::Node as ApiNode;
use objects::ObjectCache;
use orlop_apiclient::{Client, PODS, Selectors, WatchOptions, watch};
use orlop_model::PodUid;
use pods::ApiPods;
use registration::Registration;
use report::ReportCounters;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokens::Tokens;
use tokio::sync::{mpsc, watch as signal};

/// See the module's text.
pub(crate) struct Cluster {
    /// Talks to the API server.
    pub client: Client,
    /// Pods as the API server has them.
    pub pods: ApiPods,
    /// ConfigMaps and Secrets of pods.
    pub objects: ObjectCache,
    /// Service-account tokens of pods.
    pub tokens: Tokens,
    /// What was written of pods.
    pub report: ReportCounters,
    /// The Node and its Lease.
    pub registration: Registration,
    /// Services were listed once.
    pub services_known: signal::Sender<bool>,
    /// The Node object, once it is registered.
    pub registered: signal::Sender<Option<Arc<ApiNode>>>,
    /// Pods that a task writes of, and whether something else wanted to meanwhile.
    writing: Mutex<BTreeMap<PodUid, bool>>,
    /// Pods whose objects or tokens changed.
    changed: Mutex<Option<mpsc::UnboundedReceiver<PodUid>>>,
}

impl Cluster {
    /// Nothing is asked of the API server yet.
    pub fn new(client: Client) -> Arc<Self> {
        let (tell, changed) = mpsc::unbounded_channel();
        Arc::new(Self {
            pods: ApiPods::default(),
            objects: ObjectCache::new(client.clone(), tell.clone()),
            tokens: Tokens::new(client.clone(), tell),
            report: ReportCounters::default(),
            registration: Registration::default(),
            services_known: signal::Sender::new(false),
            registered: signal::Sender::new(None),
            writing: Mutex::default(),
            changed: Mutex::new(Some(changed)),
            client,
        })
    }

    /// Begins to follow the cluster, for ever.
    pub fn follow(self: &Arc<Self>, node: &Arc<Node>) {
        let name = &node.config.node_name;
        let kubelet = &node.config.kubelet;
        let limits =
            EventLimits { qps: kubelet.event_record_qps, burst: kubelet.event_burst, ..EventLimits::default() };
        node.events.forward(EventWriter::start(self.client.clone(), name, limits), name);
        tokio::spawn(name_node_events(Arc::clone(node), self.registered.subscribe()));
        tokio::spawn(registration::follow(Arc::clone(node), Arc::clone(self)));
        tokio::spawn(follow_pods(Arc::clone(node), Arc::clone(self)));
        tokio::spawn(services::follow(Arc::clone(node), self.client.clone(), self.services_known.clone()));
        tokio::spawn(nodes::follow(Arc::clone(node), self.client.clone()));
        tokio::spawn(mirrors::follow(Arc::clone(node), Arc::clone(self)));
        let cluster = Arc::clone(self);
        tokio::spawn(async move { cluster.tokens.renew().await });
        let changed = self.changed.lock().expect("no panic while it is taken").take();
        let node = Arc::clone(node);
        tokio::spawn(async move {
            let Some(mut changed) = changed else { return };
            while let Some(uid) = changed.recv().await {
                node.pods.objects_of_changed(&uid);
            }
        });
    }

    /// What was written, for people and for metrics.
    pub fn view(&self, events: EventCounters) -> ClusterView {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (report, node) = (&self.report, &self.registration.counters);
        let sent = events.correlator;
        ClusterView {
            registered: self.registered.borrow().is_some(),
            pods: self.pods.known().then(|| self.pods.wanted().len()),
            pod_status_patches: read(&report.patches),
            pod_status_failures: read(&report.failures),
            node_status_patches: read(&node.status_updates),
            node_status_failures: read(&node.status_failures),
            lease_renewals: read(&node.lease_renewals),
            lease_failures: read(&node.lease_failures),
            events_created: sent.created,
            events_patched: sent.patched,
            events_dropped: events.queue_full + sent.spam + sent.unwanted + sent.refused + sent.unreachable,
        }
    }

    /// A pod has a worker now: its status is told until the worker ends.
    pub fn report(self: &Arc<Self>, node: &Arc<Node>, subject: Subject, show: signal::Receiver<Arc<PodSnapshot>>) {
        self.begin(&subject.uid);
        let (node, cluster) = (Arc::clone(node), Arc::clone(self));
        tokio::spawn(async move {
            let uid = subject.uid.clone();
            report::follow(Arc::clone(&node), subject, show).await;
            cluster.end(&node, &uid);
        });
    }

    /// The pod's worker has ended: nothing of it is followed any more.
    pub fn release(&self, uid: &PodUid) {
        self.objects.release(uid);
        self.tokens.release(uid);
    }

    /// Does something about a pod without a worker. While somebody still writes of the pod nothing is
    /// done: what is wanted is looked at again afterwards.
    pub fn once<F: Future<Output = ()> + Send + 'static>(self: &Arc<Self>, node: &Arc<Node>, uid: &PodUid, work: F) {
        if !self.begin(uid) {
            return;
        }
        let (node, cluster, uid) = (Arc::clone(node), Arc::clone(self), uid.clone());
        tokio::spawn(async move {
            work.await;
            cluster.end(&node, &uid);
        });
    }

    /// Whether somebody writes of the pod; if so, what is wanted is looked at again afterwards.
    pub fn is_writing(&self, uid: &PodUid) -> bool {
        self.writing().get_mut(uid).map(|again| *again = true).is_some()
    }

    fn writing(&self) -> MutexGuard<'_, BTreeMap<PodUid, bool>> {
        self.writing.lock().expect("no panic while it is held")
    }

    fn begin(&self, uid: &PodUid) -> bool {
        match self.writing().entry(uid.clone()) {
            Entry::Vacant(free) => {
                free.insert(false);
                true
            }
            Entry::Occupied(mut taken) => {
                taken.insert(true);
                false
            }
        }
    }

    fn end(&self, node: &Node, uid: &PodUid) {
        let again = self.writing().remove(uid);
        if again == Some(true) {
            node.pods.look_again();
        }
    }
}

/// Events of the node bear its UID.
async fn name_node_events(node: Arc<Node>, mut registered: signal::Receiver<Option<Arc<ApiNode>>>) {
    loop {
        let uid = registered.borrow_and_update().as_ref().and_then(|node| node.metadata.uid.clone());
        if let Some(uid) = uid {
            node.events.registered(&uid);
        }
        if registered.changed().await.is_err() {
            return;
        }
    }
}

/// Follows the pods that are bound to this node.
async fn follow_pods(node: Arc<Node>, cluster: Arc<Cluster>) {
    // Who may run here is decided with the Node's labels and taints, as the kubelet waits for them.
    let mut registered = cluster.registered.subscribe();
    if registered.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let selectors = Selectors::fields(format!("spec.nodeName={}", node.config.node_name));
    let mut events = watch(&cluster.client, PODS.everywhere(), WatchOptions::new(selectors));
    while let Some(event) = events.next().await {
        let mut change = cluster.pods.take(event);
        while let Some(event) = events.try_next() {
            change.and(cluster.pods.take(event));
        }
        if change.wanted {
            node.pods.reconcile(&node);
        }
        for uid in change.look {
            node.pods.look(&uid);
        }
    }
}
