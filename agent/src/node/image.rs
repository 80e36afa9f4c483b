//! Images for pods: on the node already, in the folder of images, or in a registry.

use super::{Node, PodObjects, import_images};
use crate::pod::{Origin, StepError};
use orlop_image::{ImageError, ImageRecord, Keyring, PullDecision, PullError, PullEvent, decide_pull};
use orlop_model::{EventKind, ImageRef, PodDesired, PullPolicy};
use std::sync::Arc;

impl Node {
    /// Finds or pulls an image, or says with the kubelet's reason why the pod waits for it.
    pub async fn ensure_image(
        self: &Arc<Self>,
        pod: &PodDesired,
        image: &ImageRef,
        origin: &Origin,
    ) -> Result<ImageRecord, StepError> {
        let (node, name) = (Arc::clone(self), image.clone());
        let found = tokio::task::spawn_blocking(move || node.find_image(&name)).await;
        let found = found.map_err(|error| StepError::new("ErrImagePull", &error))?;
        let present = match found {
            Ok(record) => Some(record),
            Err(ImageError::NotPresent { .. }) => None,
            Err(ImageError::Reference { text, problem }) => {
                let error = PullError::InvalidName { text, problem: problem.to_owned() };
                self.tell(pod, image, &PullEvent::InvalidName(&error));
                return Err(StepError::text(error.reason(), error.waiting_message(image.as_str())));
            }
            Err(error) => {
                let message = format!("Failed to inspect image {:?}: {}", image.as_str(), crate::pod::chain(&error));
                self.image_event(pod, image, EventKind::Warning, "InspectFailed", message.clone());
                return Err(StepError::text("ImageInspectError", message));
            }
        };
        match (decide_pull(policy_of(pod, image), present.is_some()), present) {
            (PullDecision::Use, Some(record)) => {
                self.tell(pod, image, &PullEvent::Present);
                Ok(record)
            }
            (PullDecision::Refuse, _) => {
                self.tell(pod, image, &PullEvent::NeverPull);
                let message = PullEvent::NeverPull.message(image.as_str());
                Err(StepError::text("ErrImageNeverPull", message))
            }
            (PullDecision::Pull | PullDecision::Use, _) => self.pull(pod, image, origin).await,
        }
    }

    /// On the node, or put into the folder of images since. Blocks.
    fn find_image(&self, image: &ImageRef) -> Result<ImageRecord, ImageError> {
        self.image(image).or_else(|error| match (&error, &self.config.images) {
            (ImageError::NotPresent { .. }, Some(folder)) => {
                import_images(&self.images, folder, &self.events);
                self.image(image)
            }
            _ => Err(error),
        })
    }

    async fn pull(
        self: &Arc<Self>,
        pod: &PodDesired,
        image: &ImageRef,
        origin: &Origin,
    ) -> Result<ImageRecord, StepError> {
        let failed = |error: &PullError| {
            self.tell(pod, image, &PullEvent::Failed(error));
            StepError::text(error.reason(), error.waiting_message(image.as_str()))
        };
        // Whoever waits for the API server waits for the image, too.
        let objects = self.objects_of(pod, origin).await;
        let objects = objects.map_err(|error| StepError::text("ErrImagePull", error.message))?;
        let keyring = self.pull_secrets(pod, &objects).map_err(|error| failed(&error))?;
        self.tell(pod, image, &PullEvent::Pulling);
        let pulled = self.puller.pull(image, &keyring).await.map_err(|error| failed(&error))?;
        let size_bytes = pulled.record.size;
        let (took, with_waiting) = (pulled.took, pulled.with_waiting);
        self.tell(pod, image, &PullEvent::Pulled { took, with_waiting, size_bytes });
        self.show_images();
        Ok(pulled.record)
    }

    /// The pod's own credentials. Secrets that are not there are told of once: the
    /// image may be a public one.
    fn pull_secrets(&self, pod: &PodDesired, objects: &PodObjects) -> Result<Keyring, PullError> {
        let secrets = objects.pull_secrets(pod);
        let absent = |name: &&String| !secrets.iter().any(|secret| secret.name == **name);
        let missing: Vec<&str> = pod.pull_secrets.iter().filter(absent).map(String::as_str).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            let message = format!(
                "Unable to retrieve some image pull secrets ({missing}); attempting to pull the image may not succeed."
            );
            if !self.pod_events(pod).iter().any(|event| event.message == message) {
                self.pod_event(pod, EventKind::Warning, "FailedToRetrieveImagePullSecret", message);
            }
        }
        let mut keyring = Keyring::new();
        keyring.add_secrets(
            secrets
                .into_iter()
                .map(|secret| (secret.name, secret.kind, secret.data.iter().map(|(key, bytes)| (key.as_str(), bytes)))),
        )?;
        Ok(keyring)
    }

    fn tell(&self, pod: &PodDesired, image: &ImageRef, event: &PullEvent<'_>) {
        let kind = if event.is_warning() { EventKind::Warning } else { EventKind::Normal };
        self.image_event(pod, image, kind, event.reason(), event.message(image.as_str()));
    }

    /// An event about an image, of the first container that needs it.
    pub fn image_event(
        &self,
        pod: &PodDesired,
        image: &ImageRef,
        kind: EventKind,
        reason: &str,
        message: impl Into<String>,
    ) {
        match pod.containers.iter().find(|container| container.image == *image) {
            Some(container) => self.container_event(pod, &container.name, kind, reason, message),
            None => self.pod_event(pod, kind, reason, message),
        }
    }
}

/// The strictest of the containers that use the image decides: `Never` forbids to
/// pull, `Always` demands it.
fn policy_of(pod: &PodDesired, image: &ImageRef) -> PullPolicy {
    let policies = || pod.containers.iter().filter(|c| c.image == *image).map(|c| c.pull_policy);
    if policies().any(|policy| policy == PullPolicy::Never) {
        PullPolicy::Never
    } else if policies().any(|policy| policy == PullPolicy::Always) {
        PullPolicy::Always
    } else {
        PullPolicy::IfNotPresent
    }
}
