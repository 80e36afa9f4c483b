//! All pods of the node: which are wanted, which run, which wait for another of
//! their name to end, and which were refused.

use super::judge::{Refused, judge};
use super::record::PodRecord;
use super::source::{Origin, PodSource};
use super::view::PodSnapshot;
use super::worker::{Beginning, Message, Worker};
use crate::node::Node;
use orlop_model::{EventKind, PodDesired, PodUid, QosClass};
use orlop_pod::{PodObserved, SandboxState, Step};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, watch};

/// One pod's worker.
struct Handle {
    /// As it was given last.
    want: PodDesired,
    /// With an API server, what it calls a manifest is another's business.
    origin: Origin,
    /// Grace in seconds with which it was told to end.
    deleting: Option<u64>,
    tell: mpsc::UnboundedSender<Message>,
    show: watch::Receiver<Arc<PodSnapshot>>,
}

impl Handle {
    fn delete(&mut self, grace_secs: Option<u64>) {
        let asked = grace_secs.unwrap_or(self.want.termination_grace_secs);
        if self.deleting.is_none_or(|told| asked < told) {
            self.deleting = Some(asked);
            let _ = self.tell.send(Message::Delete { grace_secs });
        }
    }

    /// It holds what it asked for.
    fn is_active(&self) -> bool {
        let phase = self.show.borrow().status.phase.clone();
        !matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
    }
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Pods {
    handles: Mutex<BTreeMap<PodUid, Handle>>,
    /// What was given last, so that what did not change is not judged again.
    judged: Mutex<BTreeMap<PodUid, (Arc<PodSource>, PodDesired)>>,
    refused: Mutex<BTreeMap<String, Refused>>,
    ended: Notify,
}

impl Pods {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodUid, Handle>> {
        self.handles.lock().expect("no panic while pods are held")
    }

    /// Snapshots of all pods, by namespace and name.
    pub fn snapshots(&self) -> Vec<Arc<PodSnapshot>> {
        let mut pods: Vec<_> = self.lock().values().map(|h| h.show.borrow().clone()).collect();
        pods.sort_by(|a, b| (&a.want.key, a.want.deletion.is_some()).cmp(&(&b.want.key, b.want.deletion.is_some())));
        pods
    }

    /// A pod by name; one that is not ending before one that is.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<PodSnapshot>> {
        self.snapshots().into_iter().find(|p| p.want.key.namespace() == namespace && p.want.key.name() == name)
    }

    /// A refused manifest by `namespace/name`.
    pub fn refused(&self) -> Vec<Refused> {
        self.refused.lock().expect("no panic while refusals are held").values().cloned().collect()
    }

    /// Waits until some pod has ended.
    pub async fn some_ended(&self) {
        self.ended.notified().await;
    }

    /// Images were loaded.
    pub fn images_changed(&self) {
        self.tell_all(|| Message::ImagesChanged);
    }

    /// ConfigMaps or Secrets changed.
    pub fn objects_changed(&self) {
        self.tell_all(|| Message::ObjectsChanged);
    }

    /// An object that this pod uses changed, or one of its tokens is due.
    pub fn objects_of_changed(&self, uid: &PodUid) {
        if let Some(handle) = self.lock().get(uid) {
            let _ = handle.tell.send(Message::ObjectsChanged);
        }
    }

    /// The API server has something new to make this pod's status with.
    pub fn look(&self, uid: &PodUid) {
        if let Some(handle) = self.lock().get(uid) {
            let _ = handle.tell.send(Message::Look);
        }
    }

    /// What is wanted is looked at again.
    pub fn look_again(&self) {
        self.ended.notify_one();
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        for handle in self.lock().values() {
            // A worker that has ended hears nothing, rightly.
            let _ = handle.tell.send(message());
        }
    }

    /// Starts a worker for what was found of a pod after a restart.
    pub fn adopt(&self, node: &Arc<Node>, record: PodRecord, want: PodDesired, found: Found) {
        self.spawn(node, record, want, found);
    }

    /// Makes the pods be what is wanted now.
    pub fn reconcile(&self, node: &Arc<Node>) {
        let given = node.given();
        let mut last = self.judged.lock().expect("no panic while judgements are held");
        let judged = judge(&given, &node.admit_context(), &last);
        for (object, message) in judged.warnings {
            node.events.record(&object, EventKind::Warning, "UnsupportedField", message);
        }
        self.refuse(node, judged.refused);
        self.end_unwanted(&judged.pods, given.api_known);
        for (uid, (source, want)) in &judged.pods {
            self.want(node, uid, source, want);
        }
        *last = judged.pods;
        drop(last);
        self.share_cpu(node);
    }

    fn refuse(&self, node: &Arc<Node>, refused: BTreeMap<String, Refused>) {
        let mut known = self.refused.lock().expect("no panic while refusals are held");
        for refused in refused.values().filter(|refused| known.get(&refused.key) != Some(*refused)) {
            match &refused.origin {
                Origin::File(path) => {
                    let message = format!("{}: {}", path.display(), refused.message);
                    node.events.record(
                        &format!("Pod {}", refused.key),
                        EventKind::Warning,
                        "FailedValidation",
                        message,
                    );
                }
                Origin::Api => node.reject(&refused.uid, refused.reason, &refused.message),
            }
        }
        *known = refused;
    }

    /// Burstable pods together get the CPU share of their requests, as the kubelet's
    /// QoS container manager gives it.
    fn share_cpu(&self, node: &Node) {
        let burstable = |pod: &&PodDesired| pod.qos == QosClass::Burstable;
        let requests =
            self.lock().values().map(|h| &h.want).filter(burstable).map(|p| p.resources.cpu_request_milli).sum();
        if let Err(error) = node.cgroups.set_qos_cpu(QosClass::Burstable, requests) {
            node.events.record("Node", EventKind::Warning, "FailedSetQosCpu", super::chain(&error));
        }
    }

    fn end_unwanted(&self, wanted: &BTreeMap<PodUid, (Arc<PodSource>, PodDesired)>, api_known: bool) {
        for (uid, handle) in self.lock().iter_mut() {
            // Until the API server has said what it wants, its pods stay.
            let known = api_known || handle.origin != Origin::Api;
            if known && !wanted.contains_key(uid) && handle.deleting.is_none() {
                handle.delete(None);
            }
        }
    }

    fn want(&self, node: &Arc<Node>, uid: &PodUid, source: &Arc<PodSource>, want: &PodDesired) {
        let mut handles = self.lock();
        if let Some(handle) = handles.get_mut(uid) {
            // A pod that was told to end and came back with the same spec ends
            // first; `some_ended` brings it here again.
            if handle.deleting.is_none() && handle.want != *want {
                handle.want = want.clone();
                let _ = handle.tell.send(Message::Want(Box::new(want.clone()), Arc::clone(source)));
            }
            if let Some(deletion) = want.deletion {
                handle.delete(Some(deletion.grace_secs));
            }
            return;
        }
        if handles.values().any(|other| other.want.key == want.key) {
            return;
        }
        let others: Vec<PodDesired> = handles.values().filter(|h| h.is_active()).map(|h| h.want.clone()).collect();
        drop(handles);
        if !node.admits(source, want, &others) {
            return;
        }
        if let Origin::File(path) = &source.origin {
            node.own_event(want, EventKind::Normal, "Accepted", format!("Accepted from {}", path.display()));
        }
        let record = PodRecord::new(source);
        if let Err(error) = record.save(&node.config.record(uid.as_str())) {
            node.own_event(want, EventKind::Warning, "FailedSaveRecord", format!("{error:#}"));
        }
        let seen = PodObserved {
            accepted: record.accepted,
            sandbox: SandboxState::Pending(Step::Absent),
            volumes: Step::Absent,
            images: BTreeMap::new(),
            image_errors: BTreeMap::new(),
            containers: BTreeMap::new(),
            failed: None,
            teardown: Step::Absent,
        };
        self.spawn(node, record, want.clone(), Found { seen, sandbox: None, volumes: BTreeMap::new() });
    }

    fn spawn(&self, node: &Arc<Node>, record: PodRecord, want: PodDesired, found: Found) {
        let (tell, inbox) = mpsc::unbounded_channel();
        let snapshot = PodSnapshot {
            want: want.clone(),
            seen: found.seen.clone(),
            status: k8s_openapi::api::core::v1::PodStatus::default(),
            origin: record.origin.clone(),
            whole: false,
            monitor: None,
            pids: BTreeMap::new(),
            phases: Vec::new(),
        };
        let (publish, show) = watch::channel(Arc::new(snapshot));
        let deleting = record.deletion.map(|deletion| deletion.grace_secs);
        let origin = record.origin.clone();
        node.report(&record, &want, show.clone());
        let handle = Handle { want: want.clone(), origin, deleting, tell: tell.clone(), show };
        self.lock().insert(want.uid.clone(), handle);
        let beginning = Beginning {
            record,
            want,
            seen: found.seen,
            sandbox: found.sandbox,
            volumes: found.volumes,
            inbox,
            own: tell,
            publish,
        };
        let uid = beginning.want.uid.clone();
        let worker = Worker::new(Arc::clone(node), beginning);
        let node = Arc::clone(node);
        tokio::spawn(async move {
            if let Err(error) = tokio::spawn(worker.run()).await {
                tracing::error!(pod_uid = %uid, %error, "the pod's worker panicked; it is started again from what is observed");
                crate::pod::readopt(&node, &uid).await;
                return;
            }
            node.pods.lock().remove(&uid);
            if let Some(cluster) = &node.cluster {
                cluster.release(&uid);
            }
            node.pods.ended.notify_one();
        });
    }
}

/// What was found of a pod.
pub(crate) struct Found {
    /// As seen.
    pub seen: PodObserved,
    /// Its sandbox, if it stands.
    pub sandbox: Option<super::sandbox::Sandbox>,
    /// Volumes that are set up.
    pub volumes: BTreeMap<String, std::path::PathBuf>,
}
