//! Events that differ only in what they say become one.

use crate::digest::{Digest, digest};
use crate::lru::Lru;
use crate::occurrence::Occurrence;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::EventSource;

/// Finds series of similar events, as client-go's `EventAggregator`.
#[derive(Debug)]
pub(crate) struct Aggregator {
    similar_max: usize,
    similar_within: SignedDuration,
    series: Lru<Series>,
}

#[derive(Debug, Default)]
struct Series {
    /// What was said, each once.
    messages: Vec<Digest>,
    last: Option<Timestamp>,
}

impl Aggregator {
    pub(crate) fn new(similar_max: usize, similar_within: SignedDuration, remembered_max: usize) -> Self {
        Self { similar_max: similar_max.max(1), similar_within, series: Lru::new(remembered_max) }
    }

    /// The key of the series that this event is to be counted in, if it is one too many to stand by itself.
    pub(crate) fn series(&mut self, of: &Occurrence, source: &EventSource, now: Timestamp) -> Option<Digest> {
        let key = series_key(of, source);
        let series = self.series.entry(key, Series::default);
        if series.last.is_some_and(|last| now.duration_since(last) > self.similar_within) {
            series.messages.clear();
        }
        series.last = Some(now);
        let message = digest(&[&of.message]);
        if series.messages.contains(&message) {
            return None;
        }
        if series.messages.len() + 1 < self.similar_max {
            series.messages.push(message);
            return None;
        }
        // client-go forgets any one message here. We forget this one: those that have an
        // event of their own go on counting there.
        Some(key)
    }
}

/// By source, object, type and reason: neither by message nor by part of the object.
fn series_key(of: &Occurrence, source: &EventSource) -> Digest {
    let (component, host) = (source.component.as_deref(), source.host.as_deref());
    let object = &of.regarding;
    digest(&[
        "series",
        component.unwrap_or_default(),
        host.unwrap_or_default(),
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.api_version,
        of.kind_text(),
        &of.reason,
    ])
}
