//! Images for pods: on the node already, in the folder of images, or in a registry.

use super::{Node, import_images};
use crate::node::objects::PodObjects;
use crate::pod::StepError;
use orlop_image::{ImageError, ImageRecord, Keyring, PullDecision, PullEvent, decide_pull};
use orlop_model::{EventKind, ImageRef, PodDesired, PullPolicy};
use std::sync::Arc;

impl Node {
    /// Finds or pulls an image, or says with the kubelet's reason why the pod waits for it.
    pub async fn ensure_image(
        self: &Arc<Self>,
        pod: &PodDesired,
        image: &ImageRef,
        objects: &PodObjects,
    ) -> Result<ImageRecord, StepError> {
        let (node, name) = (Arc::clone(self), image.clone());
        let found = tokio::task::spawn_blocking(move || node.find_image(&name)).await;
        let found = found.map_err(|error| StepError::new("ErrImagePull", &error))?;
        let present = match found {
            Ok(record) => Some(record),
            Err(ImageError::NotPresent { .. }) => None,
            Err(error @ ImageError::Reference { .. }) => return Err(StepError::new("InvalidImageName", &error)),
            Err(error) => return Err(StepError::new("ErrImagePull", &error)),
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
            (PullDecision::Pull | PullDecision::Use, _) => self.pull(pod, image, objects).await,
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

    async fn pull(&self, pod: &PodDesired, image: &ImageRef, objects: &PodObjects) -> Result<ImageRecord, StepError> {
        let mut keyring = Keyring::new();
        if let PodObjects::Api(api) = objects
            && let Err(error) = keyring.add_secrets(api.pull_secrets(pod))
        {
            self.pod_event(pod, EventKind::Warning, "FailedToRetrieveImagePullSecret", error.chain());
        }
        self.tell(pod, image, &PullEvent::Pulling);
        match self.puller.pull(image, &keyring).await {
            Ok(pulled) => {
                let size_bytes = pulled.record.size;
                let (took, with_waiting) = (pulled.took, pulled.with_waiting);
                self.tell(pod, image, &PullEvent::Pulled { took, with_waiting, size_bytes });
                Ok(pulled.record)
            }
            Err(error) => {
                self.tell(pod, image, &PullEvent::Failed(&error));
                Err(StepError::text(error.reason(), error.waiting_message(image.as_str())))
            }
        }
    }

    fn tell(&self, pod: &PodDesired, image: &ImageRef, event: &PullEvent<'_>) {
        let kind = if event.is_warning() { EventKind::Warning } else { EventKind::Normal };
        self.pod_event(pod, kind, event.reason(), event.message(image.as_str()));
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
