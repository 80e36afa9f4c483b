//! New, again, or too much.

use crate::aggregate::Aggregator;
use crate::bucket::TokenBucket;
use crate::delivery::Delivery;
use crate::digest::{Digest, digest};
use crate::lru::Lru;
use crate::occurrence::Occurrence;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// What an event says that stands for many.
const COMBINED: &str = "(combined from similar events): ";

/// How much is too much. The defaults are client-go's (`tools/record/events_cache.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From so many events on that differ only in their message, they become one.
    pub similar_max: usize,
    /// When there was none for longer than this, counting starts anew.
    pub similar_within: SignedDuration,
    /// Events of one type about one object at once; more are dropped.
    pub object_burst: u32,
    /// One more event of that type about that object every so often.
    pub object_refill: SignedDuration,
    /// So many events, series and objects are remembered, of each.
    pub remembered_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            similar_max: 10,
            similar_within: SignedDuration::from_secs(600),
            object_burst: 25,
            object_refill: SignedDuration::from_secs(300),
            remembered_max: 4096,
        }
    }
}

/// What is to become of an occurrence.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// The server has to know.
    Write(Write),
    /// It does not.
    Dropped(Dropped),
}

/// Why an occurrence is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Too many events of its type about its object. It counts all the same: the next one that is written says so.
    Spam,
}

/// Why an event that should have been written was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It is on the server already, or its namespace is going away.
    Unwanted,
    /// The server did not take it.
    Refused,
    /// No server answered for too long.
    Unreachable,
}

/// An event to be created, or one to be counted again.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    key: Digest,
    event: Box<Event>,
    patch: Option<Value>,
}

impl Write {
    /// The whole event: what to POST when there is no patch, or nothing to apply it to.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// A strategic merge patch for the event of this name, which was written before.
    #[must_use]
    pub fn patch(&self) -> Option<&Value> {
        self.patch.as_ref()
    }

    /// Where the event lives.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.event.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.event.metadata.name.as_deref().unwrap_or_default()
    }
}

/// What has become of everything so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Occurrences taken.
    pub taken: u64,
    /// Of these: counted in an event that stands for many.
    pub combined: u64,
    /// Of these: dropped as spam.
    pub spam: u64,
    /// Events that the server has from us.
    pub created: u64,
    /// Events whose count was raised on the server.
    pub patched: u64,
    /// See [`Failure::Unwanted`].
    pub unwanted: u64,
    /// See [`Failure::Refused`].
    pub refused: u64,
    /// See [`Failure::Unreachable`].
    pub unreachable: u64,
}

/// What was last written about an event.
#[derive(Debug, Clone, Default)]
struct Written {
    count: i32,
    first: Option<Time>,
    name: String,
}

/// Decides what becomes of what happens, as client-go's `EventCorrelator`.
#[derive(Debug)]
pub struct Correlator {
    source: EventSource,
    limits: Limits,
    aggregator: Aggregator,
    written: Lru<Written>,
    objects: Lru<TokenBucket>,
    counters: Counters,
}

impl Correlator {
    /// For events that `component` (such as `kubelet`) reports from the node `host`.
    #[must_use]
    pub fn new(component: &str, host: &str, limits: Limits) -> Self {
        let remembered_max = limits.remembered_max;
        Self {
            source: EventSource { component: Some(component.to_owned()), host: Some(host.to_owned()) },
            aggregator: Aggregator::new(limits.similar_max, limits.similar_within, remembered_max),
            limits,
            written: Lru::new(remembered_max),
            objects: Lru::new(remembered_max),
            counters: Counters::default(),
        }
    }

    /// What is to become of this. `now` is when it happened; `random` names the event where the
    /// object's name cannot.
    pub fn take(&mut self, occurrence: &Occurrence, now: Timestamp, random: u128) -> Taken {
        self.counters.taken += 1;
        let mut event = occurrence.event(&self.source, now, random);
        let key = match self.aggregator.series(occurrence, &self.source, now) {
            Some(series) => {
                self.counters.combined += 1;
                event.message = Some(format!("{COMBINED}{}", occurrence.message));
                series
            }
            None => {
                event.reporting_component.clone_from(&self.source.component);
                event.reporting_instance.clone_from(&self.source.host);
                self.event_key(occurrence)
            }
        };
        let patch = self.count(key, &mut event);
        let limits = &self.limits;
        let object = self.objects.entry(object_key(occurrence, &self.source), || {
            TokenBucket::new(limits.object_refill, limits.object_burst)
        });
        // After counting, so that the next event which passes says how many there were.
        if !object.take(now) {
            self.counters.spam += 1;
            return Taken::Dropped(Dropped::Spam);
        }
        Taken::Write(Write { key, event: Box::new(event), patch })
    }

    /// The server has it, as `stored`.
    pub fn written(&mut self, delivery: &Delivery, stored: &Event) {
        *match delivery.patch() {
            Some(_) => &mut self.counters.patched,
            None => &mut self.counters.created,
        } += 1;
        let written = self.written.entry(delivery.write().key, Written::default);
        // Whoever else counts it: the server knows best.
        written.count = stored.count.unwrap_or(written.count);
        written.first.clone_from(&stored.first_timestamp);
        written.name = stored.metadata.name.clone().unwrap_or_default();
    }

    /// The server does not have it.
    pub fn failed(&mut self, why: Failure) {
        *match why {
            Failure::Unwanted => &mut self.counters.unwanted,
            Failure::Refused => &mut self.counters.refused,
            Failure::Unreachable => &mut self.counters.unreachable,
        } += 1;
    }

    /// For metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Makes an event that was written before one more of the same, and says how to write that.
    fn count(&mut self, key: Digest, event: &mut Event) -> Option<Value> {
        let written = self.written.entry(key, Written::default);
        let again = written.count > 0;
        if again {
            event.metadata.name = Some(written.name.clone());
            event.first_timestamp.clone_from(&written.first);
            event.count = Some(written.count.saturating_add(1));
        }
        written.count = event.count.unwrap_or(1);
        written.first.clone_from(&event.first_timestamp);
        written.name = event.metadata.name.clone().unwrap_or_default();
        again.then(|| patch(event))
    }

    fn event_key(&self, of: &Occurrence) -> Digest {
        let object = &of.regarding;
        digest(&[
            "event",
            self.source.component.as_deref().unwrap_or_default(),
            self.source.host.as_deref().unwrap_or_default(),
            &object.kind,
            &object.namespace,
            &object.name,
            &object.field_path,
            &object.uid,
            &object.api_version,
            of.kind_text(),
            &of.reason,
            &of.message,
        ])
    }
}

/// What client-go's patch changes: the count, the last time, and the message of a combined event.
fn patch(event: &Event) -> Value {
    json!({
        "count": event.count,
        "lastTimestamp": event.last_timestamp,
        "message": event.message,
    })
}

/// By source, object and type: neither by reason nor by part of the object.
fn object_key(of: &Occurrence, source: &EventSource) -> Digest {
    let object = &of.regarding;
    digest(&[
        "object",
        source.component.as_deref().unwrap_or_default(),
        source.host.as_deref().unwrap_or_default(),
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.api_version,
        of.kind_text(),
    ])
}
