//! What a worker is told: another spec, an end, news of probes and objects.

use super::done::Done;
use super::{Message, Worker};
use crate::node::Node;
use crate::pod::facts::{self, StepError};
use crate::pod::source::{Origin, PodSource};
use jiff::Timestamp;
use orlop_model::{Deletion, EventKind, PodDesired};
use orlop_pod::{Lifecycle, Step};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// First wait after files could not be brought up to date; it doubles.
const REFRESH_AGAIN_MIN: Duration = Duration::from_secs(2);
/// Longest wait.
const REFRESH_AGAIN_MAX: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) fn hear(&mut self, message: Message) {
        match message {
            Message::Want(want, source) => self.change(*want, &source),
            Message::Delete { grace_secs } => self.delete(grace_secs),
            Message::Probe(name, id, results) => {
                let seen = self.container(&name);
                if matches!(&seen.life, Lifecycle::Running { id: running, .. } if *running == id) {
                    seen.probes = results;
                    self.save_probes(&name);
                }
            }
            Message::ObjectsChanged => {
                facts::retry_now(&mut self.seen);
                self.refresh_volumes();
            }
            Message::ImagesChanged => facts::retry_images_now(&mut self.seen),
            Message::Look => {}
        }
    }

    /// Labels, annotations, an image: what may change while the pod runs.
    fn change(&mut self, want: PodDesired, source: &PodSource) {
        for (name, why) in orlop_pod::redefined(&self.want, &want) {
            let seen = self.container(&name);
            if matches!(seen.life, Lifecycle::Running { .. }) {
                seen.probes.kill = Some(why);
            }
        }
        self.want = PodDesired { deletion: self.want.deletion, ..want };
        (self.record.pod, self.record.origin) = (source.pod.clone(), source.origin.clone());
        self.save_record();
        self.refresh_volumes();
    }

    /// Files made of objects, or of the pod itself, follow them.
    pub(super) fn refresh_volumes(&mut self) {
        if matches!(self.seen.volumes, Step::Ready) && self.want.deletion.is_none() {
            self.end_refresh();
            let (node, want, origin) = (Arc::clone(&self.node), self.want.clone(), self.record.origin.clone());
            let task = self.steps.spawn(async move {
                refresh(&node, &want, &origin).await;
                Done::Refreshed
            });
            self.refreshing = Some(task);
        }
    }

    fn end_refresh(&mut self) {
        if let Some(task) = self.refreshing.take() {
            task.abort();
        }
    }

    fn delete(&mut self, grace_secs: Option<u64>) {
        let asked = grace_secs.unwrap_or(self.want.termination_grace_secs);
        let begun = self.want.deletion;
        if begun.is_some_and(|begun| begun.grace_secs <= asked) {
            return;
        }
        let at = begun.map_or_else(Timestamp::now, |begun| begun.at);
        let deletion = Deletion { at, grace_secs: asked };
        self.end_pulls();
        self.end_refresh();
        self.want.deletion = Some(deletion);
        self.record.deletion = Some(deletion);
        self.save_record();
        // What was told to end already has less time now.
        for stopping in self.seen.containers.values_mut().filter_map(|c| c.stopping.as_mut()) {
            stopping.grace_secs = stopping.grace_secs.min(asked);
        }
        // One that had ended by itself still has its logs and its record.
        if begun.is_none() && matches!(self.seen.teardown, Step::Ready) {
            self.seen.teardown = Step::Absent;
        }
    }
}

/// Has the pod's volumes set up.
pub(super) async fn volumes(
    node: &Arc<Node>,
    want: &PodDesired,
    origin: &Origin,
) -> Result<BTreeMap<String, PathBuf>, StepError> {
    let objects = node.objects_of(want, origin).await?;
    let (node, want) = (Arc::clone(node), want.clone());
    let done = tokio::task::spawn_blocking(move || node.set_up_volumes(&want, &objects)).await;
    done.map_err(|error| StepError::new("FailedMount", &error))?
}

/// Brings the files of a running pod up to date, and keeps trying: the API server may be
/// away, an object gone for a while.
async fn refresh(node: &Arc<Node>, want: &PodDesired, origin: &Origin) {
    let mut wait = REFRESH_AGAIN_MIN;
    while !refresh_once(node, want, origin).await {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(REFRESH_AGAIN_MAX);
    }
}

/// Whether everything is up to date.
async fn refresh_once(node: &Arc<Node>, want: &PodDesired, origin: &Origin) -> bool {
    let objects = match node.objects_of(want, origin).await {
        Ok(objects) => objects,
        Err(error) => {
            node.pod_event(want, EventKind::Warning, &error.reason, error.message);
            return false;
        }
    };
    let (node, want) = (Arc::clone(node), want.clone());
    match tokio::task::spawn_blocking(move || node.refresh_volumes(&want, &objects)).await {
        Ok(whole) => whole,
        Err(error) => {
            tracing::error!(%error, "refreshing a pod's volumes panicked");
            true
        }
    }
}
