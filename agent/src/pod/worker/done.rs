//! What came of the steps: results become facts, events and records.

use super::Worker;
use crate::pod::container::Started;
use crate::pod::facts::{self, StepError};
use crate::pod::sandbox::Sandbox;
use jiff::Timestamp;
use orlop_image::ImageRecord;
use orlop_model::{ContainerName, EventKind, ImageRef};
use orlop_pod::{SandboxState, Step};
use orlop_wire::ContainerStatus;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A sandbox that is lost before this age, in seconds, is not made again at once.
const YOUNG_SANDBOX_SECS: i64 = 10;

/// How a step ended.
pub(super) enum Done {
    Sandbox(Result<Box<Sandbox>, StepError>),
    BrokenRemoved(Result<(), StepError>),
    Volumes(Result<BTreeMap<String, PathBuf>, StepError>),
    Image(ImageRef, Result<ImageRecord, StepError>),
    Started {
        name: ContainerName,
        result: Result<Box<Started>, StepError>,
    },
    Signalled,
    Refreshed,
    /// `whole` when its logs and its record went as well, because it was to be deleted.
    TornDown {
        whole: bool,
        result: Result<(), StepError>,
    },
}

impl Worker {
    /// Takes a step's result.
    pub(super) fn finish(&mut self, done: Done) {
        let now = Timestamp::now();
        match done {
            Done::Sandbox(Ok(sandbox)) => {
                self.seen.sandbox = SandboxState::Ready { ips: sandbox.ips.clone(), created: sandbox.created };
                self.sandbox = Some(*sandbox);
            }
            Done::Sandbox(Err(error)) => {
                self.trouble("FailedCreatePodSandBox", "Failed to create pod sandbox", &error);
                self.seen.sandbox = SandboxState::Pending(self.failed_step("sandbox", error, now));
            }
            Done::BrokenRemoved(result) => {
                facts::lose_containers(&mut self.seen, now);
                self.seen.sandbox = match result {
                    Ok(()) => SandboxState::Pending(self.after_loss(now)),
                    Err(error) => SandboxState::Broken { removal: self.failed_step("removal", error, now) },
                };
            }
            Done::Volumes(Ok(volumes)) => {
                self.volumes = volumes;
                self.seen.volumes = Step::Ready;
                self.succeeded("volumes");
            }
            Done::Volumes(Err(error)) => {
                self.event(EventKind::Warning, "FailedMount", error.message.clone());
                self.seen.volumes = self.failed_step("volumes", error, now);
            }
            Done::Image(image, result) => self.image(image, result, now),
            Done::Started { name, result } => self.started(&name, result, now),
            Done::Signalled | Done::Refreshed => {}
            // Told to end meanwhile: once more, for its logs and its record.
            Done::TornDown { whole: false, result: Ok(()) } if self.want.deletion.is_some() => {
                self.seen.teardown = Step::Absent;
            }
            Done::TornDown { whole, result: Ok(()) } => {
                self.seen.teardown = Step::Ready;
                if whole {
                    self.node.forget_pod(&self.want);
                }
            }
            Done::TornDown { result: Err(error), .. } => {
                self.trouble("FailedKillPod", "error killing pod", &error);
                self.seen.teardown = self.failed_step("teardown", error, now);
            }
        }
    }

    fn started(&mut self, name: &ContainerName, result: Result<Box<Started>, StepError>, now: Timestamp) {
        match result {
            Ok(started) => {
                self.record.note(&started.record);
                self.save_record();
                if let Some(sandbox) = self.sandbox.as_mut().filter(|_| started.record.attempt == 0) {
                    sandbox.phases.extend(started.phases.iter().cloned());
                }
                match start_failure(&started) {
                    None => {
                        self.container_event(name, EventKind::Normal, "Created", "Container created");
                        self.container_event(name, EventKind::Normal, "Started", "Container started");
                    }
                    Some(why) => {
                        self.container_event(name, EventKind::Normal, "Created", "Container created");
                        self.container_event(name, EventKind::Warning, "Failed", format!("Error: {why}"));
                    }
                }
                self.succeeded(&format!("container {name}"));
                facts::started(self.container(name), &started.record);
            }
            Err(error) => {
                self.container_event(name, EventKind::Warning, "Failed", format!("Error: {}", error.message));
                let failures = self.failed_again(&format!("container {name}"));
                facts::cannot_create(self.container(name), error, now, failures);
            }
        }
    }

    fn trouble(&self, reason: &str, what: &str, error: &StepError) {
        self.event(EventKind::Warning, reason, format!("{what}: {}", error.message));
    }

    /// What follows a lost sandbox: a new one, at once when this one had lived for a
    /// while, else after a back-off.
    fn after_loss(&mut self, now: Timestamp) -> Step {
        let young = |created: Timestamp| now.duration_since(created).as_secs() < YOUNG_SANDBOX_SECS;
        if self.lost_sandbox.take().is_some_and(young) {
            let error = StepError::text("SandboxChanged", "the pod's monitor ended soon after it had started");
            return self.failed_step("sandbox", error, now);
        }
        self.succeeded("sandbox");
        Step::Absent
    }

    /// Counts failures of a step in a row; [`Self::succeeded`] ends the row.
    fn failed_again(&mut self, step: &str) -> u32 {
        let failures = self.failures.entry(step.to_owned()).or_insert(0);
        *failures += 1;
        *failures
    }

    pub(super) fn succeeded(&mut self, step: &str) {
        self.failures.remove(step);
    }

    pub(super) fn failed_step(&mut self, step: &str, error: StepError, now: Timestamp) -> Step {
        let failures = self.failed_again(step);
        Step::Failed { reason: error.reason, message: error.message, at: now, failures }
    }
}

fn start_failure(started: &Started) -> Option<String> {
    match &started.record.status {
        ContainerStatus::Failed(why) => Some(why.message.clone()),
        ContainerStatus::Running { .. } | ContainerStatus::Exited { .. } => None,
    }
}
