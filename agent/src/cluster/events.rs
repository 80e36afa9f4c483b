//! Tells the API server what happens to pods and to the node.
//!
//! One event after the other, as client-go's recorder: while the server cannot be reached,
//! those that come later wait in a queue, and when that is full they are dropped and counted.
//! Whoever sends one never waits.

use crate::pod::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use orlop_apiclient::{ApiError, CORE_EVENTS, Client, Patch, Status};
use orlop_events::{
    Answer, Correlator, Counters, Delivery, Dropped, Limits, Next, Occurrence, TRY_PAUSE, Taken, TokenBucket,
};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait to be written (client-go `maxQueuedEvents`).
const QUEUE_MAX: usize = 1_000;
/// Who reports: `kubectl describe` shows it in the column `From`.
const COMPONENT: &str = "kubelet";
/// What the server adds to a refusal when the namespace is going away (`corev1.NamespaceTerminatingCause`).
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// How many events the API server is to be asked to take.
#[derive(Debug, Clone)]
pub(crate) struct EventLimits {
    /// The kubelet's `eventRecordQPS`: requests a second.
    pub qps: u32,
    /// The kubelet's `eventBurst`: requests at once.
    pub burst: u32,
    /// What becomes one event, and what is too much of one object.
    pub correlation: Limits,
    /// Events that wait.
    pub queue_max: usize,
    /// Between two tries of the same event.
    pub pause: Duration,
}

impl Default for EventLimits {
    /// The kubelet's.
    fn default() -> Self {
        Self { qps: 50, burst: 100, correlation: Limits::default(), queue_max: QUEUE_MAX, pause: TRY_PAUSE }
    }
}

/// What has become of all events; for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EventCounters {
    /// Of those that were taken from the queue.
    pub correlator: Counters,
    /// Dropped because the queue was full.
    pub queue_full: u64,
    /// Requests that were sent again because no server answered.
    pub retries: u64,
}

#[derive(Debug, Default)]
struct Shared {
    correlator: Mutex<Counters>,
    queue_full: AtomicU64,
    retries: AtomicU64,
}

/// Takes events to be written; cheap to clone. When the last one is dropped, what waits is still written.
#[derive(Debug, Clone)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<(Timestamp, Occurrence)>,
    shared: Arc<Shared>,
}

impl EventSender {
    /// Has it written, or counts that it was not. Never waits.
    pub fn send(&self, occurrence: Occurrence) {
        // The only other reason is a runtime that ends, and everything with it.
        if self.queue.try_send((Timestamp::now(), occurrence)).is_err() {
            self.shared.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What has become of all events so far.
    pub fn counters(&self) -> EventCounters {
        EventCounters {
            correlator: *self.shared.correlator.lock().expect("no panic while they are copied"),
            queue_full: self.shared.queue_full.load(Ordering::Relaxed),
            retries: self.shared.retries.load(Ordering::Relaxed),
        }
    }
}

/// Writes events; a task of its own.
pub(crate) struct EventWriter {
    client: Client,
    correlator: Correlator,
    rate: TokenBucket,
    pause: Duration,
    shared: Arc<Shared>,
}

impl EventWriter {
    /// Begins to write events of this node.
    pub fn start(client: Client, node_name: &str, limits: EventLimits) -> EventSender {
        let (queue, waiting) = mpsc::channel(limits.queue_max.max(1));
        let shared = Arc::new(Shared::default());
        let writer = Self {
            client,
            correlator: Correlator::new(COMPONENT, node_name, limits.correlation),
            rate: TokenBucket::kubelet(limits.qps, limits.burst),
            pause: limits.pause,
            shared: Arc::clone(&shared),
        };
        tokio::spawn(writer.run(waiting));
        EventSender { queue, shared }
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<(Timestamp, Occurrence)>) {
        while let Some((when, occurrence)) = waiting.recv().await {
            let name = u128::from(random()) << 64 | u128::from(random());
            match self.correlator.take(&occurrence, when, name) {
                Taken::Write(write) => self.deliver(Delivery::new(write, self.pause)).await,
                Taken::Dropped(Dropped::Spam) => {
                    let (object, reason) = (&occurrence.regarding.name, &occurrence.reason);
                    tracing::debug!(object, reason, "too many events about the object; not sent");
                }
            }
            *self.shared.correlator.lock().expect("no panic while they are copied") = self.correlator.counters();
        }
    }

    /// Sends it until it is written or there is no point in going on.
    async fn deliver(&mut self, mut delivery: Delivery) {
        loop {
            self.turn().await;
            let answer = match self.send(&delivery).await {
                Ok(stored) => Answer::Stored(Box::new(stored)),
                Err(error) => {
                    let answer = answer(&error);
                    tell(&delivery, &answer, &error);
                    answer
                }
            };
            match delivery.answered(answer, random()) {
                Next::Again => {}
                Next::After(pause) => {
                    self.shared.retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                }
                Next::Written(stored) => return self.correlator.written(&delivery, &stored),
                Next::Failed(why) => return self.correlator.failed(why),
            }
        }
    }

    /// Waits until the node's rate allows a request.
    async fn turn(&mut self) {
        let wait = self.rate.reserve(Timestamp::now());
        if wait.is_positive() {
            tokio::time::sleep(wait.unsigned_abs()).await;
        }
    }

    async fn send(&self, delivery: &Delivery) -> Result<Event, ApiError> {
        let write = delivery.write();
        let events = CORE_EVENTS.within(write.namespace());
        match delivery.patch() {
            Some(patch) => self.client.patch(&events.named(write.name()), Patch::Strategic, patch).await,
            None => self.client.create(&events, write.event()).await,
        }
    }
}

/// What an error says about the event. client-go gives up on every answer of the server, and so
/// loses events to a proxy whose server restarts or to a token that is just being renewed; these
/// are tried again here.
fn answer(error: &ApiError) -> Answer {
    let terminating = |status: &Status| status.causes.iter().any(|cause| cause.reason == NAMESPACE_TERMINATING);
    match error {
        ApiError::Status { status, .. } => match status.code {
            404 => Answer::NotFound,
            _ if error.is_already_exists() || terminating(status) => Answer::Unwanted,
            401 | 429 | 502..=504 => Answer::Unreachable,
            _ => Answer::Refused,
        },
        // The same request would be made, and fail, the next time.
        ApiError::PathSegment { .. } | ApiError::Encode { .. } => Answer::Refused,
        _ => Answer::Unreachable,
    }
}

fn tell(delivery: &Delivery, answer: &Answer, error: &ApiError) {
    let event = delivery.write().event();
    let object = event.involved_object.name.as_deref().unwrap_or_default();
    let (reason, err) = (event.reason.as_deref().unwrap_or_default(), chain(error));
    match answer {
        Answer::Refused => tracing::warn!(object, reason, err, "the API server does not take the event"),
        Answer::Unreachable if delivery.last_try() => {
            tracing::warn!(object, reason, err, "no API server takes the event; given up");
        }
        Answer::Unreachable => tracing::debug!(object, reason, err, "no API server takes the event; trying again"),
        Answer::Stored(_) | Answer::NotFound | Answer::Unwanted => {
            tracing::debug!(object, reason, err, "event not written");
        }
    }
}

/// Not secret, only different on every node and every time.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
