//! All pods of the node: which are wanted, which run, which wait for another of
//! their name to end, and which were refused.

use super::record::PodRecord;
use super::view::PodSnapshot;
use super::worker::{Beginning, Message, Worker};
use crate::manifest::{ManifestSet, PodManifest};
use crate::node::Node;
use orlop_model::{EventKind, PodDesired, PodUid, Protocol, QosClass};
use orlop_pod::{AdmitContext, PodObserved, SandboxState, Step};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, watch};

/// One pod's worker.
struct Handle {
    want: PodDesired,
    deleting: bool,
    tell: mpsc::UnboundedSender<Message>,
    show: watch::Receiver<Arc<PodSnapshot>>,
}

/// A manifest that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `namespace/name`.
    pub key: String,
    /// Its file.
    pub file: String,
    /// Why, with the field.
    pub message: String,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Pods {
    handles: Mutex<BTreeMap<PodUid, Handle>>,
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

    /// Makes the pods be what the manifests say.
    pub fn reconcile(&self, node: &Arc<Node>, set: &ManifestSet) {
        let judged = judge(set, &node.admit_context());
        for (object, message) in judged.warnings {
            node.events.record(&object, EventKind::Warning, "UnsupportedField", message);
        }
        let known = std::mem::take(&mut *self.refused.lock().expect("no panic while refusals are held"));
        for refused in judged.refused.values().filter(|refused| known.get(&refused.key) != Some(*refused)) {
            let message = format!("{}: {}", refused.file, refused.message);
            node.events.record(&format!("Pod {}", refused.key), EventKind::Warning, "FailedValidation", message);
        }
        *self.refused.lock().expect("no panic while refusals are held") = judged.refused;
        self.end_unwanted(&judged.pods);
        for (uid, (manifest, want)) in judged.pods {
            self.want(node, uid, manifest, want);
        }
        self.share_cpu(node);
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

    fn end_unwanted(&self, wanted: &BTreeMap<PodUid, (PodManifest, PodDesired)>) {
        for (uid, handle) in self.lock().iter_mut() {
            if !wanted.contains_key(uid) && !handle.deleting {
                handle.deleting = true;
                let _ = handle.tell.send(Message::Delete);
            }
        }
    }

    fn want(&self, node: &Arc<Node>, uid: PodUid, manifest: PodManifest, want: PodDesired) {
        let mut handles = self.lock();
        if let Some(handle) = handles.get_mut(&uid) {
            // A pod that was told to end and came back with the same spec ends
            // first; `some_ended` brings it here again.
            if !handle.deleting && handle.want != want {
                handle.want = want.clone();
                let _ = handle.tell.send(Message::Want(Box::new(want), Box::new(manifest)));
            }
            return;
        }
        if handles.values().any(|other| other.want.key == want.key) {
            return;
        }
        drop(handles);
        node.pod_event(&want, EventKind::Normal, "Accepted", format!("Accepted from {}", manifest.file.display()));
        let record = PodRecord::new(&manifest);
        if let Err(error) = record.save(&node.config.record(uid.as_str())) {
            node.pod_event(&want, EventKind::Warning, "FailedSaveRecord", format!("{error:#}"));
        }
        let seen = PodObserved {
            accepted: record.accepted,
            sandbox: SandboxState::Pending(Step::Absent),
            volumes: Step::Absent,
            images: BTreeMap::new(),
            containers: BTreeMap::new(),
            failed: None,
            teardown: Step::Absent,
        };
        self.spawn(node, record, want, Found { seen, sandbox: None, volumes: BTreeMap::new() });
    }

    fn spawn(&self, node: &Arc<Node>, record: PodRecord, want: PodDesired, found: Found) {
        let (tell, inbox) = mpsc::unbounded_channel();
        let snapshot = PodSnapshot {
            want: want.clone(),
            seen: found.seen.clone(),
            status: k8s_openapi::api::core::v1::PodStatus::default(),
            file: record.file.clone(),
            monitor: None,
            pids: BTreeMap::new(),
            phases: Vec::new(),
        };
        let (publish, show) = watch::channel(Arc::new(snapshot));
        let deleting = record.deletion.is_some();
        let handle = Handle { want: want.clone(), deleting, tell: tell.clone(), show };
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

/// Manifests judged: those that may run and those that may not.
#[derive(Debug, Default)]
struct Judged {
    pods: BTreeMap<PodUid, (PodManifest, PodDesired)>,
    refused: BTreeMap<String, Refused>,
    warnings: Vec<(String, String)>,
}

/// Admits what can be admitted. Pods come in the order of their names, and the
/// first to ask for a port of the node has it.
fn judge(set: &ManifestSet, cx: &AdmitContext) -> Judged {
    let mut judged = Judged::default();
    for problem in &set.problems {
        let Some(key) = problem.object.as_deref().and_then(|object| object.strip_prefix("Pod ")) else { continue };
        judged.refuse(key, &problem.file, problem.message.clone());
    }
    let mut ports = BTreeMap::new();
    for (key, manifest) in &set.pods {
        let uid = match PodUid::new(manifest.uid.clone()) {
            Ok(uid) => uid,
            Err(error) => {
                judged.refuse(key, &manifest.file, error.to_string());
                continue;
            }
        };
        match orlop_pod::admit(&manifest.pod, uid.clone(), cx) {
            Err(rejection) => judged.refuse(key, &manifest.file, rejection.to_string()),
            Ok(admitted) => {
                if let Some(clash) = port_clash(&admitted.pod, &mut ports) {
                    judged.refuse(key, &manifest.file, clash);
                    continue;
                }
                let object = crate::node::pod_object(&admitted.pod);
                // Who says nothing about DNS need not hear that the node has no cluster DNS.
                let silent = manifest.pod.spec.as_ref().is_some_and(|spec| spec.dns_policy.is_none());
                let told = admitted.warnings.iter().filter(|w| !(silent && w.path == "spec.dnsPolicy"));
                judged.warnings.extend(told.map(|w| (object.clone(), w.to_string())));
                judged.pods.insert(uid, (manifest.clone(), admitted.pod));
            }
        }
    }
    judged
}

impl Judged {
    fn refuse(&mut self, key: &str, file: &Path, message: String) {
        let refused = Refused { key: key.to_owned(), file: file.display().to_string(), message };
        self.refused.insert(key.to_owned(), refused);
    }
}

/// Ports of the node that pods have asked for, and who was first.
type NodePorts = BTreeMap<(u16, Protocol), String>;

/// Claims the pod's ports on the node, or says whose they are.
fn port_clash(pod: &PodDesired, taken: &mut NodePorts) -> Option<String> {
    let mut claims = Vec::new();
    for (index, container) in pod.containers.iter().enumerate() {
        for (at, port) in container.ports.iter().enumerate() {
            let on_node = port.host_port.or(pod.host_network.then_some(port.container_port));
            let Some(number) = on_node else { continue };
            if let Some(owner) = taken.get(&(number, port.protocol)) {
                return Some(format!(
                    "spec.containers[{index}].ports[{at}].hostPort: Invalid value: {number}: \
                     node didn't have free ports for the requested pod ports: {number}/{} belongs to pod {owner}",
                    port.protocol
                ));
            }
            claims.push((number, port.protocol));
        }
    }
    taken.extend(claims.into_iter().map(|claim| (claim, pod.key.to_string())));
    None
}
