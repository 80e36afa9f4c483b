//! The node's pods as the API server has them.

use crate::pod::{Origin, PodSource};
use k8s_openapi::api::core::v1::Pod;
use orlop_apiclient::WatchEvent;
use orlop_model::{PodKey, PodUid};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// One pod that is to run.
struct ApiPod {
    /// What is wanted; another one only when that changed.
    source: Arc<PodSource>,
    /// The newest object.
    object: Arc<Pod>,
}

#[derive(Default)]
struct State {
    /// A list was whole once.
    known: bool,
    /// By UID.
    pods: BTreeMap<String, ApiPod>,
    /// Mirror pods, by `namespace/name`.
    mirrors: BTreeMap<String, Arc<Pod>>,
    /// UIDs met since a list began; `None` outside of one.
    listed: Option<Vec<String>>,
}

/// See the module's text.
pub(crate) struct ApiPods {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// What an event changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// What is wanted.
    pub wanted: bool,
    /// Mirror pods.
    pub mirrors: bool,
    /// Pods whose status is made anew: they are known only now, or somebody has set a condition
    /// that one of their readiness gates asks for.
    pub look: Vec<PodUid>,
}

impl Change {
    fn of(wanted: bool, mirrors: bool) -> Self {
        Self { wanted, mirrors, look: Vec::new() }
    }

    /// Another change too.
    pub fn and(&mut self, other: Self) {
        self.wanted |= other.wanted;
        self.mirrors |= other.mirrors;
        self.look.extend(other.look);
    }

    fn looking(mut self, uid: &str) -> Self {
        self.look.extend(PodUid::new(uid).ok());
        self
    }
}

impl Default for ApiPods {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl ApiPods {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the API server's pods are held")
    }

    /// Counts up with every change of any object.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether the API server has ever said what it wants.
    pub fn known(&self) -> bool {
        self.lock().known
    }

    /// All pods that are to run, by namespace and name.
    pub fn wanted(&self) -> Vec<Arc<PodSource>> {
        let mut all: Vec<_> = self.lock().pods.values().map(|pod| Arc::clone(&pod.source)).collect();
        all.sort_by_key(|source| key(&source.pod));
        all
    }

    /// A pod by its UID.
    pub fn object(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        self.lock().pods.get(uid.as_str()).map(|pod| Arc::clone(&pod.object))
    }

    /// The mirror of a static pod: of this very one, not of another spec under its name.
    pub fn mirror(&self, of: &PodKey, uid: &PodUid) -> Option<Arc<Pod>> {
        let mirror = self.lock().mirrors.get(&of.to_string()).cloned();
        mirror.filter(|mirror| orlop_pod::mirrored_uid(mirror) == Some(uid.as_str()))
    }

    /// All mirrors, by `namespace/name`.
    pub fn mirrors(&self) -> BTreeMap<String, Arc<Pod>> {
        self.lock().mirrors.clone()
    }

    /// Takes an event of the watch.
    pub fn take(&self, event: WatchEvent<Pod>) -> Change {
        let mut state = self.lock();
        let change = match event {
            WatchEvent::Begin => {
                state.listed = Some(Vec::new());
                Change::default()
            }
            WatchEvent::Item(pod) | WatchEvent::Applied(pod) => {
                if let (Some(listed), Some(uid)) = (&mut state.listed, &pod.metadata.uid) {
                    listed.push(uid.clone());
                }
                state.put(pod, true)
            }
            WatchEvent::Deleted(pod) => state.remove(&pod),
            WatchEvent::Done => state.listed(),
        };
        drop(state);
        self.changes.send_modify(|count| *count += 1);
        change
    }

    /// Takes what came back from writing an object, unless the watch was faster.
    pub fn written(&self, pod: Pod) {
        self.lock().put(pod, false);
        self.changes.send_modify(|count| *count += 1);
    }

    /// The API server does not know this object any more, whatever the watch says.
    pub fn gone(&self, pod: &Pod) -> Change {
        let change = self.lock().remove(pod);
        self.changes.send_modify(|count| *count += 1);
        change
    }
}

impl State {
    /// `new`: of the watch, which alone brings objects in.
    fn put(&mut self, mut pod: Pod, new: bool) -> Change {
        pod.metadata.managed_fields = None;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        // A list is what is so, also when the server came back with an older state.
        let listed = new && self.listed.is_some();
        if orlop_pod::is_mirror(&pod) {
            let key = key(&pod);
            let known = self.mirrors.get(&key);
            if known.is_some_and(|known| !listed && is_older(&pod, known)) || (!new && known.is_none()) {
                return Change::default();
            }
            let other = known.is_none_or(|known| known.metadata.uid != pod.metadata.uid);
            self.mirrors.insert(key, Arc::new(pod));
            return Change::of(false, other);
        }
        let wanted = Pod { status: None, ..pod.clone() };
        match self.pods.get_mut(&uid) {
            Some(known) if !listed && is_older(&pod, &known.object) => Change::default(),
            Some(known) => {
                let changed = !is_same(&known.source.pod, &wanted);
                let gates = gates(&pod) != gates(&known.object);
                if changed {
                    known.source = Arc::new(PodSource { uid: uid.clone(), origin: Origin::Api, pod: wanted });
                }
                known.object = Arc::new(pod);
                let change = Change::of(changed, false);
                if gates { change.looking(&uid) } else { change }
            }
            None if !new => Change::default(),
            None => {
                let source = Arc::new(PodSource { uid: uid.clone(), origin: Origin::Api, pod: wanted });
                let change = Change::of(true, false).looking(&uid);
                self.pods.insert(uid, ApiPod { source, object: Arc::new(pod) });
                change
            }
        }
    }

    fn remove(&mut self, pod: &Pod) -> Change {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let key = key(pod);
        if self.mirrors.get(&key).is_some_and(|mirror| mirror.metadata.uid.as_deref() == Some(uid)) {
            self.mirrors.remove(&key);
            return Change::of(false, true);
        }
        Change::of(self.pods.remove(uid).is_some(), false)
    }

    /// A list is whole: what was not in it is gone.
    fn listed(&mut self) -> Change {
        let Some(listed) = self.listed.take() else { return Change::default() };
        self.known = true;
        self.pods.retain(|uid, _| listed.contains(uid));
        self.mirrors.retain(|_, pod| pod.metadata.uid.as_ref().is_some_and(|uid| listed.contains(uid)));
        Change::of(true, true)
    }
}

/// `namespace/name`.
fn key(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Whether the versions say so. They are numbers that grow (KEP-5504); what is not a
/// number cannot be compared and is taken as newer.
fn is_older(pod: &Pod, than: &Pod) -> bool {
    let version = |pod: &Pod| pod.metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    let same = pod.metadata.uid == than.metadata.uid;
    same && matches!((version(pod), version(than)), (Some(one), Some(other)) if one < other)
}

/// The conditions that the pod's readiness gates ask for, as somebody has set them.
fn gates(pod: &Pod) -> Vec<Option<&str>> {
    let asked = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let conditions = || pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let status = |kind: &str| conditions().find(|one| one.type_ == kind).map(|one| one.status.as_str());
    asked.map(|gate| status(&gate.condition_type)).collect()
}

/// Whether nothing changed that a node acts on.
fn is_same(one: &Pod, other: &Pod) -> bool {
    let told = |pod: &Pod| {
        let meta = &pod.metadata;
        (meta.deletion_timestamp.clone(), meta.deletion_grace_period_seconds, meta.generation)
    };
    told(one) == told(other)
        && one.metadata.labels == other.metadata.labels
        && one.metadata.annotations == other.metadata.annotations
        && one.spec == other.spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, uid: &str, version: u64, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": uid, "resourceVersion": version.to_string()},
            "spec": {"containers": [{"name": "c"}]}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn phase(pods: &ApiPods, uid: &str) -> Option<String> {
        pods.object(&PodUid::new(uid).unwrap())?.status.clone()?.phase
    }

    const A: &str = "00000000-0000-0000-0000-00000000000a";
    const B: &str = "00000000-0000-0000-0000-00000000000b";

    #[test]
    fn a_list_is_the_truth_once_it_is_whole() {
        let pods = ApiPods::default();
        for event in [
            WatchEvent::Begin,
            WatchEvent::Item(pod("a", A, 1, "Pending")),
            WatchEvent::Item(pod("b", B, 2, "Pending")),
        ] {
            pods.take(event);
        }
        assert!(!pods.known());
        assert_eq!(pods.take(WatchEvent::Done), Change::of(true, true));
        assert!(pods.known());
        // The API server was away and b went meanwhile.
        pods.take(WatchEvent::Begin);
        pods.take(WatchEvent::Item(pod("a", A, 1, "Pending")));
        assert_eq!(pods.wanted().len(), 2);
        pods.take(WatchEvent::Done);
        assert_eq!(pods.wanted().iter().map(|one| one.uid.as_str()).collect::<Vec<_>>(), [A]);
    }

    #[test]
    fn a_status_alone_wants_nothing_new_and_old_news_are_dropped() {
        let pods = ApiPods::default();
        assert!(pods.take(WatchEvent::Applied(pod("a", A, 5, "Pending"))).wanted);
        let before = pods.wanted();
        pods.written(pod("a", A, 7, "Running"));
        assert_eq!(pods.take(WatchEvent::Applied(pod("a", A, 6, "Pending"))), Change::default());
        assert_eq!(phase(&pods, A).as_deref(), Some("Running"));
        assert!(Arc::ptr_eq(&before[0], &pods.wanted()[0]));
        let mut labelled = pod("a", A, 8, "Running");
        labelled.metadata.labels = Some([("k".to_owned(), "v".to_owned())].into());
        assert!(pods.take(WatchEvent::Applied(labelled)).wanted);
        assert!(pods.take(WatchEvent::Deleted(pod("a", A, 9, "Running"))).wanted);
        // An answer that comes late brings nothing back.
        pods.written(pod("a", A, 8, "Running"));
        assert_eq!(phase(&pods, A), None);
    }

    #[test]
    fn a_list_is_believed_also_when_the_server_went_back() {
        let pods = ApiPods::default();
        pods.take(WatchEvent::Applied(pod("a", A, 90, "Running")));
        for event in [WatchEvent::Begin, WatchEvent::Item(pod("a", A, 10, "Pending")), WatchEvent::Done] {
            pods.take(event);
        }
        assert_eq!(phase(&pods, A).as_deref(), Some("Pending"));
        pods.take(WatchEvent::Applied(pod("a", A, 11, "Running")));
        assert_eq!(phase(&pods, A).as_deref(), Some("Running"));
    }

    #[test]
    fn a_worker_looks_again_for_its_gates_only() {
        let pods = ApiPods::default();
        let gated = |version, status: &str| {
            let mut pod = pod("a", A, version, "Running");
            let conditions = json!([{"type": "on", "status": status}, {"type": "else", "status": version.to_string()}]);
            pod.spec.as_mut().unwrap().readiness_gates = serde_json::from_value(json!([{"conditionType": "on"}])).ok();
            pod.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).ok();
            pod
        };
        let look = |event| pods.take(event).look.len();
        assert_eq!(look(WatchEvent::Applied(gated(1, "False"))), 1, "it is known only now");
        assert_eq!(look(WatchEvent::Applied(gated(2, "False"))), 0);
        assert_eq!(look(WatchEvent::Applied(gated(3, "True"))), 1);
    }

    #[test]
    fn mirrors_are_not_run() {
        let pods = ApiPods::default();
        let mut mirror = pod("web-n1", A, 1, "Pending");
        mirror.metadata.annotations = Some([("kubernetes.io/config.mirror".to_owned(), B.to_owned())].into());
        assert_eq!(pods.take(WatchEvent::Applied(mirror.clone())), Change::of(false, true));
        assert!(pods.wanted().is_empty());
        let found = |uid| pods.mirror(&PodKey::new("n", "web-n1").unwrap(), &PodUid::new(uid).unwrap()).is_some();
        // The one before, which is still ending, must not tell its end in the new one's name.
        assert_eq!((found(B), found(A)), (true, false));
        assert!(pods.take(WatchEvent::Deleted(mirror)).mirrors);
    }
}
