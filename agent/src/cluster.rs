//! The node as part of a cluster: what it takes from an API server and what it tells it.
//!
//! ```text
//!   watch of pods ──▶ ApiPods ──▶ Pods::reconcile          (static pods of the manifests beside them)
//!   watches of objects, tokens ──▶ pods' volumes and variables
//!   watches of Services and EndpointSlices ──▶ Services
//!   PodSnapshot ──▶ report ──▶ one status patch a change, the last DELETE
//!   Node, Lease ◀── registration
//! ```
//!
//! All of it waits out an API server that is away: pods and Services go on as they were
//! told last.

mod events;
mod mirrors;
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
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
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
    /// Pods that a task of their own finishes at the API server.
    finishing: Mutex<BTreeSet<PodUid>>,
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
            finishing: Mutex::default(),
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
        let (node, cluster) = (Arc::clone(node), Arc::clone(self));
        tokio::spawn(async move {
            let uid = subject.uid.clone();
            report::follow(Arc::clone(&node), subject, show).await;
            if node.pods.follow(&uid).is_none() {
                cluster.objects.release(&uid);
                cluster.tokens.release(&uid);
            }
        });
    }

    /// Does something about a pod without a worker, once.
    pub fn once<F: Future<Output = ()> + Send + 'static>(self: &Arc<Self>, uid: &PodUid, work: F) {
        if !self.finishing.lock().expect("no panic while it is held").insert(uid.clone()) {
            return;
        }
        let (cluster, uid) = (Arc::clone(self), uid.clone());
        tokio::spawn(async move {
            work.await;
            cluster.finishing.lock().expect("no panic while it is held").remove(&uid);
        });
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
    let selectors = Selectors::fields(format!("spec.nodeName={}", node.config.node_name));
    let mut events = watch(&cluster.client, PODS.everywhere(), WatchOptions::new(selectors));
    while let Some(event) = events.next().await {
        let mut change = cluster.pods.take(event);
        while let Some(event) = events.try_next() {
            let more = cluster.pods.take(event);
            change.wanted |= more.wanted;
            change.mirrors |= more.mirrors;
        }
        if change.wanted {
            node.pods.reconcile(&node);
        }
    }
}
