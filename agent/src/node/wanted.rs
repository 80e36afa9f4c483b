//! What is wanted of the node, and what becomes of what it cannot run.

use super::Node;
use crate::cluster::{Cluster, Subject, reject, remove};
use crate::events::About;
use crate::pod::{Given, Origin, PodRecord, PodSnapshot, PodSource};
use jiff::Timestamp;
use orlop_model::{EventKind, PodDesired, PodUid, Taint, TaintEffect};
use orlop_pod::Refusal;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

impl Node {
    /// All that is wanted now: of the manifests, and of the API server if there is one.
    pub fn given(&self) -> Given {
        let set = self.manifests();
        let mut given = Given { pods: Vec::new(), problems: set.problems.clone(), api_known: true };
        match &self.cluster {
            None => given.pods.extend(set.pods.values().cloned()),
            Some(cluster) => {
                self.follow_manifests(&set.pods);
                given.pods.extend(self.static_pods().into_values());
                given.pods.extend(cluster.pods.wanted());
                given.api_known = cluster.pods.known();
            }
        }
        given
    }

    /// Manifests as static pods, by `namespace/name`.
    pub fn static_pods(&self) -> BTreeMap<String, Arc<PodSource>> {
        self.static_pods.borrow().clone()
    }

    fn follow_manifests(&self, manifests: &BTreeMap<String, Arc<PodSource>>) {
        let known = self.static_pods();
        let mut now = BTreeMap::new();
        for source in manifests.values() {
            let Ok(uid) = PodUid::new(source.uid.clone()) else { continue };
            let pod = orlop_pod::static_pod(&source.pod, &uid, &self.config.node_name, self.started);
            let meta = &pod.metadata;
            let key = format!(
                "{}/{}",
                meta.namespace.as_deref().unwrap_or("default"),
                meta.name.as_deref().unwrap_or_default()
            );
            let fresh = PodSource { pod, ..PodSource::clone(source) };
            let kept = known.get(&key).filter(|known| ***known == fresh).cloned();
            now.insert(key, kept.unwrap_or_else(|| Arc::new(fresh)));
        }
        // Only what changed wakes who keeps the mirrors.
        self.static_pods.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// Whether a pod that is new here may run here. If not, whoever wants it is told.
    pub fn admits(self: &Arc<Self>, source: &Arc<PodSource>, want: &PodDesired, others: &[PodDesired]) -> bool {
        let Some(cluster) = &self.cluster else { return true };
        if cluster.is_writing(&want.uid) || (source.origin == Origin::Api && self.is_over(cluster, want)) {
            return false;
        }
        let registered = cluster.registered.borrow().clone();
        let labels = registered.as_ref().and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
        let facts = orlop_pod::NodeFacts {
            name: &self.config.node_name,
            labels: &labels,
            taints: &taints(registered.as_deref()),
            allocatable: self.allocatable(),
        };
        match orlop_pod::admit_to_node(&source.pod, want, &facts, others.iter()) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(cluster, source, &refusal);
                false
            }
        }
    }

    /// Whether a pod without a worker has ended already, or is to: nothing runs, so
    /// it can go when it is to go.
    fn is_over(self: &Arc<Self>, cluster: &Arc<Cluster>, want: &PodDesired) -> bool {
        if want.deletion.is_some() {
            let (cluster_too, subject) = (Arc::clone(cluster), Subject::of(want, Origin::Api));
            cluster.once(self, &want.uid, async move { remove(&cluster_too, &subject).await });
            return true;
        }
        let status = cluster.pods.object(&want.uid).and_then(|pod| pod.status.clone());
        matches!(status.and_then(|status| status.phase).as_deref(), Some("Succeeded" | "Failed"))
    }

    fn refuse(self: &Arc<Self>, cluster: &Arc<Cluster>, source: &PodSource, refusal: &Refusal) {
        let Some(subject) = Subject::of_source(source) else { return };
        let about = About::refused(&subject.key, subject.uid.as_str());
        self.events.tell(&about, EventKind::Warning, &refusal.reason, refusal.message.clone());
        let status = refusal.status(source.pod.metadata.generation, Timestamp::now());
        let cluster_too = Arc::clone(cluster);
        cluster.once(self, &subject.uid.clone(), reject(cluster_too, subject, status));
    }

    /// A pod of the API server that this node does not understand or cannot run yet.
    pub fn reject(self: &Arc<Self>, uid: &str, reason: &str, message: &str) {
        let Some(cluster) = &self.cluster else { return };
        let wanted = cluster.pods.wanted();
        let Some(source) = wanted.iter().find(|source| source.uid == uid) else { return };
        let Ok(of) = PodUid::new(uid) else { return };
        // One that was refused before, perhaps by an earlier agent, has been told.
        let phase = cluster.pods.object(&of).and_then(|pod| pod.status.clone()).and_then(|status| status.phase);
        if matches!(phase.as_deref(), Some("Succeeded" | "Failed")) {
            return;
        }
        let refusal = Refusal { reason: reason.to_owned(), message: message.to_owned() };
        self.refuse(cluster, source, &refusal);
    }

    /// A pod has a worker: the API server hears how it is.
    pub fn report(self: &Arc<Self>, record: &PodRecord, want: &PodDesired, show: watch::Receiver<Arc<PodSnapshot>>) {
        if let Some(cluster) = &self.cluster {
            cluster.report(self, Subject::of(want, record.origin.clone()), show);
        }
    }

    /// Whether all that a pod's status is made with is here.
    pub fn knows(&self, uid: &PodUid, origin: &Origin) -> bool {
        let object = || self.cluster.as_ref().and_then(|cluster| cluster.pods.object(uid));
        *origin != Origin::Api || object().is_some()
    }

    /// Whether a pod reads its objects from the manifests.
    pub fn is_of_manifests(&self, origin: &Origin) -> bool {
        self.cluster.is_none() || matches!(origin, Origin::File(_))
    }
}

fn taints(node: Option<&k8s_openapi::api::core::v1::Node>) -> Vec<Taint> {
    let taints = node.and_then(|node| node.spec.as_ref()).and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let own = taints.iter().filter_map(|taint| {
        let effect = match taint.effect.as_str() {
            "NoSchedule" => TaintEffect::NoSchedule,
            "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
            "NoExecute" => TaintEffect::NoExecute,
            _ => return None,
        };
        Some(Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default(), effect })
    });
    own.collect()
}
