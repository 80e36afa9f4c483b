//! Events of every object, aggregated as the kubelet's recorder does it: the same
//! reason and message only raises the count.

use jiff::Timestamp;
use orlop_model::{Event, EventKind};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Events kept an object; the oldest goes first.
const EVENTS_PER_OBJECT_MAX: usize = 50;
/// Objects with events; past that the one with the oldest last event goes.
const OBJECTS_MAX: usize = 1_000;

/// Events by object, named as `Pod default/web (uid)` or `Service default/web`.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    objects: Mutex<BTreeMap<String, Vec<Event>>>,
}

impl EventLog {
    /// Records an event and logs it the first time.
    pub fn record(&self, object: &str, kind: EventKind, reason: &str, message: impl Into<String>) {
        let (message, now) = (message.into(), Timestamp::now());
        let mut objects = self.objects.lock().expect("no panic while the log is held");
        let events = objects.entry(object.to_owned()).or_default();
        if let Some(known) = events.iter_mut().find(|e| e.reason == reason && e.message == message) {
            known.count += 1;
            known.last = now;
            return;
        }
        match kind {
            EventKind::Normal => tracing::info!(object, reason, message, "event"),
            EventKind::Warning => tracing::warn!(object, reason, message, "event"),
        }
        if events.len() == EVENTS_PER_OBJECT_MAX {
            events.remove(0);
        }
        events.push(Event { kind, reason: reason.to_owned(), message, count: 1, first: now, last: now });
        if objects.len() > OBJECTS_MAX {
            let last_seen = |events: &Vec<Event>| events.iter().map(|e| e.last).max();
            let oldest = objects.iter().min_by_key(|(_, events)| last_seen(events)).map(|(name, _)| name.clone());
            oldest.and_then(|name| objects.remove(&name));
        }
    }

    /// Events of one object, oldest first.
    pub fn of(&self, object: &str) -> Vec<Event> {
        self.objects.lock().expect("no panic while the log is held").get(object).cloned().unwrap_or_default()
    }

    /// Events of all objects whose name starts so.
    pub fn starting_with(&self, prefix: &str) -> BTreeMap<String, Vec<Event>> {
        let objects = self.objects.lock().expect("no panic while the log is held");
        objects.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(n, e)| (n.clone(), e.clone())).collect()
    }

    /// Forgets an object.
    pub fn forget(&self, object: &str) {
        self.objects.lock().expect("no panic while the log is held").remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_is_counted_not_repeated() {
        let log = EventLog::default();
        for _ in 0..3 {
            log.record("Pod a/b", EventKind::Warning, "BackOff", "again");
        }
        log.record("Pod a/b", EventKind::Normal, "Started", "started");
        let events = log.of("Pod a/b");
        assert_eq!(events.iter().map(|e| e.count).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn a_loud_object_keeps_its_newest_events_and_others_theirs() {
        let log = EventLog::default();
        log.record("Pod a/quiet", EventKind::Normal, "Started", "started");
        for n in 0..200 {
            log.record("Pod a/loud", EventKind::Warning, "Unhealthy", format!("failure {n}"));
        }
        assert_eq!(log.of("Pod a/loud").len(), EVENTS_PER_OBJECT_MAX);
        assert_eq!(log.of("Pod a/loud").last().unwrap().message, "failure 199");
        assert_eq!(log.of("Pod a/quiet").len(), 1);
    }
}
