//! One task a pod tells the API server how the pod is, and in the end that nothing
//! is left of it.
//!
//! Only the newest status is sent: what changes while a patch is under way goes with
//! the next one. Failures wait and are tried again with what is true by then.

use super::Cluster;
use crate::node::Node;
use crate::pod::{Origin, PodSnapshot, PodSource};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use orlop_apiclient::{ApiError, DeleteOptions, Object, PODS, Patch};
use orlop_model::{PodDesired, PodKey, PodUid};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// First wait after a failure; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest wait.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// So long a pod that has only begun to start is given to get further before the API
/// server hears of it: most run by then, and it hears that instead.
const GATHER: Duration = Duration::from_millis(100);

/// What was written; for metrics.
#[derive(Debug, Default)]
pub(crate) struct ReportCounters {
    /// Status patches that the API server took.
    pub patches: AtomicU64,
    /// Status patches that failed.
    pub failures: AtomicU64,
}

/// Whom the status belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The pod here.
    pub uid: PodUid,
    /// Its name there.
    pub key: PodKey,
    /// A static pod's status is its mirror's.
    pub origin: Origin,
}

impl Subject {
    /// Of an admitted pod.
    pub fn of(pod: &PodDesired, origin: Origin) -> Self {
        Self { uid: pod.uid.clone(), key: pod.key.clone(), origin }
    }

    /// Of a pod that may not be admitted; `None` when it has no usable name.
    pub fn of_source(source: &PodSource) -> Option<Self> {
        let meta = &source.pod.metadata;
        let key = PodKey::new(meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref()?).ok()?;
        Some(Self { uid: PodUid::new(source.uid.clone()).ok()?, key, origin: source.origin.clone() })
    }

    fn object(&self) -> Object {
        PODS.within(self.key.namespace()).named(self.key.name())
    }

    fn at(&self, cluster: &Cluster) -> Option<Arc<Pod>> {
        match self.origin {
            Origin::Api => cluster.pods.object(&self.uid),
            Origin::File(_) => cluster.pods.mirror(&self.key, &self.uid),
        }
    }
}

/// Follows a pod until its worker has ended.
pub(crate) async fn follow(node: Arc<Node>, subject: Subject, mut show: watch::Receiver<Arc<PodSnapshot>>) {
    let Some(cluster) = node.cluster.clone() else { return };
    let mut changes = cluster.pods.changes();
    let mut wait = RETRY_MIN;
    loop {
        changes.borrow_and_update();
        let snapshot = show.borrow_and_update().clone();
        let sent = match due(&cluster, &subject, &snapshot) {
            Some((at, body)) if is_young(&at, &body) && gather(&mut show).await => continue,
            Some((_, body)) => send(&cluster, &subject, &body).await,
            None => true,
        };
        wait = if sent { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
        tokio::select! {
            changed = show.changed() => if changed.is_err() { break },
            _ = changes.changed() => {}
            () = tokio::time::sleep(wait), if !sent => {}
        }
    }
    let last = show.borrow().clone();
    finish(&cluster, &subject, last).await;
}

/// The object to patch and the patch, when the API server has something else than is so.
fn due(cluster: &Cluster, subject: &Subject, snapshot: &PodSnapshot) -> Option<(Arc<Pod>, serde_json::Value)> {
    if !snapshot.whole {
        return None;
    }
    snapshot.status.phase.as_ref()?;
    let at = subject.at(cluster)?;
    let uid = PodUid::new(at.metadata.uid.clone()?).ok()?;
    let none = PodStatus::default();
    let old = at.status.as_ref().unwrap_or(&none);
    let merged = orlop_pod::merge_status(old, &snapshot.status, orlop_pod::may_run(&snapshot.seen));
    let body = orlop_pod::status_patch(&uid, old, &merged)?;
    Some((at, body))
}

/// Nothing was told of the pod yet, and nothing is wrong: it only begins to start.
fn is_young(at: &Pod, body: &serde_json::Value) -> bool {
    let told = at.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let waits = body["status"]["containerStatuses"].as_array().into_iter().flatten().all(|container| {
        let reason = container["state"]["waiting"]["reason"].as_str();
        matches!(reason, Some("ContainerCreating" | "PodInitializing"))
    });
    !told && waits && body["status"]["phase"].as_str().is_none_or(|phase| phase == "Pending")
}

/// Whether something changed within [`GATHER`].
async fn gather(show: &mut watch::Receiver<Arc<PodSnapshot>>) -> bool {
    matches!(tokio::time::timeout(GATHER, show.changed()).await, Ok(Ok(())))
}

/// Whether nothing is left to send of this.
async fn send(cluster: &Cluster, subject: &Subject, body: &serde_json::Value) -> bool {
    let object = subject.object().subresource("status");
    match cluster.client.patch::<Pod>(&object, Patch::Strategic, body).await {
        Ok(pod) => {
            cluster.report.patches.fetch_add(1, Ordering::Relaxed);
            cluster.pods.written(pod);
            true
        }
        // Whether the pod is gone is for the watch to say, which also ends what runs of it.
        Err(error) if error.is_not_found() => {
            tracing::debug!(pod = %subject.key, pod_uid = %subject.uid, err = %crate::pod::chain(&error), "the API server has no such pod");
            true
        }
        // Somebody wrote at the same time, or another pod has the name.
        Err(error) if error.is_conflict() => {
            tracing::debug!(pod = %subject.key, pod_uid = %subject.uid, err = %crate::pod::chain(&error), "pod status not written, trying again");
            false
        }
        Err(error) => {
            cluster.report.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(pod = %subject.key, err = %crate::pod::chain(&error), "pod status not written, trying again");
            false
        }
    }
}

/// The worker has ended: the last status first, then the object goes, if that is what was asked for.
async fn finish(cluster: &Cluster, subject: &Subject, last: Arc<PodSnapshot>) {
    let mut wait = RETRY_MIN;
    while let Some((_, body)) = due(cluster, subject, &last) {
        if send(cluster, subject, &body).await {
            break;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
    // A worker that panicked has ended nothing: another one goes on.
    let ended = last.want.deletion.is_some() && matches!(last.seen.teardown, orlop_pod::Step::Ready);
    if subject.origin == Origin::Api && ended {
        remove(cluster, subject).await;
    }
}

/// Deletes the object for good, if it was told to go: nothing is left of the pod.
pub(crate) async fn remove(cluster: &Cluster, subject: &Subject) {
    let mut wait = RETRY_MIN;
    while let Some(at) = subject.at(cluster).filter(|at| at.metadata.deletion_timestamp.is_some()) {
        let gone = |error: &ApiError| error.is_not_found() || error.is_conflict();
        match cluster.client.delete(&subject.object(), &DeleteOptions::at_once(subject.uid.as_str())).await {
            Ok(()) => drop(cluster.pods.gone(&at)),
            Err(error) if gone(&error) => drop(cluster.pods.gone(&at)),
            Err(error) => {
                tracing::warn!(pod = %subject.key, err = %crate::pod::chain(&error), "pod not deleted from the API server, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Writes the status of a pod that this node refuses. One that was to go already goes.
pub(crate) async fn reject(cluster: Arc<Cluster>, subject: Subject, status: PodStatus) {
    tell_refusal(&cluster, &subject, status).await;
    remove(&cluster, &subject).await;
}

async fn tell_refusal(cluster: &Cluster, subject: &Subject, status: PodStatus) {
    let mut wait = RETRY_MIN;
    while let Some(at) = subject.at(cluster) {
        let none = PodStatus::default();
        let old = at.status.as_ref().unwrap_or(&none);
        let merged = orlop_pod::merge_status(old, &status, false);
        let Some(body) = orlop_pod::status_patch(&subject.uid, old, &merged) else { return };
        if send(cluster, subject, &body).await {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}
