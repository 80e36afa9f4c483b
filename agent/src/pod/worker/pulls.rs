//! Images that the pod waits for.

use super::Worker;
use crate::pod::facts::StepError;
use jiff::Timestamp;
use orlop_image::{ImageRecord, PullEvent};
use orlop_model::{EventKind, ImageRef};
use orlop_pod::{PodPlan, Step};

impl Worker {
    /// Takes what came of looking for an image.
    pub(super) fn image(&mut self, image: ImageRef, result: Result<ImageRecord, StepError>, now: Timestamp) {
        self.pulls.remove(&image);
        match result {
            Ok(found) => {
                self.images.insert(image.clone(), found);
                self.seen.image_errors.remove(&image);
                self.succeeded(image.as_str());
                self.seen.images.insert(image, Step::Ready);
            }
            Err(error) => {
                self.node.image_event(
                    &self.want,
                    &image,
                    EventKind::Warning,
                    "Failed",
                    format!("Error: {}", error.reason),
                );
                let step = self.failed_step(image.as_str(), error.clone(), now);
                self.seen.image_errors.insert(image.clone(), (error.reason, error.message));
                self.seen.images.insert(image, step);
            }
        }
    }

    /// Told once a failure, when the error itself has been shown.
    pub(super) fn tell_pull_backoffs(&mut self, plan: &PodPlan) {
        for (name, _) in plan.waiting.iter().filter(|(_, waiting)| waiting.reason == "ImagePullBackOff") {
            let Some(image) = self.want.container(name).map(|container| &container.image) else { continue };
            let Some(Step::Failed { at, .. }) = self.seen.images.get(image) else { continue };
            if self.told_backoffs.insert(name.clone(), *at) != Some(*at) {
                let message = PullEvent::BackOff.message(image.as_str());
                self.container_event(name, EventKind::Normal, PullEvent::BackOff.reason(), message);
                self.container_event(name, EventKind::Warning, "Failed", "Error: ImagePullBackOff");
            }
        }
    }

    /// Nobody will start a container any more.
    pub(super) fn end_pulls(&mut self) {
        for (image, task) in std::mem::take(&mut self.pulls) {
            task.abort();
            self.seen.images.remove(&image);
        }
    }
}
