//! What becomes of series of events; the cases are those of client-go's `events_cache_test.go`
//! and `event_test.go`, and more.

mod correlation;
mod delivery;
mod properties;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use orlop_events::{Answer, Correlator, Delivery, Limits, Next, Occurrence, Regarding, TRY_PAUSE, Taken, Write};
use orlop_model::EventKind;

/// When all tests begin: 2024-01-02T03:04:05Z.
fn start() -> Timestamp {
    "2024-01-02T03:04:05Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn correlator() -> Correlator {
    Correlator::new("kubelet", "n1", Limits::default())
}

fn pod(name: &str) -> Regarding {
    Regarding::pod("shop", name, "c934d34a")
}

fn happened(regarding: Regarding, reason: &str, message: &str) -> Occurrence {
    Occurrence { regarding, kind: EventKind::Normal, reason: reason.to_owned(), message: message.to_owned() }
}

/// A server that takes everything; gives what it has then, or nothing for spam.
fn through(correlator: &mut Correlator, of: &Occurrence, now: Timestamp) -> Option<Event> {
    let Taken::Write(write) = correlator.take(of, now, 0) else { return None };
    let event = write.event().clone();
    stored(correlator, write);
    Some(event)
}

/// The server takes it as it is.
fn stored(correlator: &mut Correlator, write: Write) {
    let mut delivery = Delivery::new(write, TRY_PAUSE);
    let event = delivery.write().event().clone();
    let Next::Written(event) = delivery.answered(Answer::Stored(Box::new(event)), 0) else {
        panic!("it was stored");
    };
    correlator.written(&delivery, &event);
}
