//! Events of every object, aggregated as the kubelet's recorder does it: the same
//! reason and message only raises the count. In a cluster those of pods and of the
//! node also go to the API server.

use crate::cluster::{EventCounters, EventSender};
use jiff::Timestamp;
use orlop_events::{Occurrence, Regarding};
use orlop_model::{ContainerDesired, Event, EventKind, PodDesired, PodKey, ServiceKey};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

/// Events kept an object; the oldest goes first.
const EVENTS_PER_OBJECT_MAX: usize = 50;
/// Objects with events; past that the one with the oldest last event goes.
const OBJECTS_MAX: usize = 1_000;

/// Events by object, named as `Pod default/web (uid)` or `Service default/web`.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    objects: Mutex<BTreeMap<String, Vec<Event>>>,
    api: OnceLock<Api>,
}

/// Where events go besides.
#[derive(Debug)]
struct Api {
    sender: EventSender,
    node: String,
    /// The Node's UID, without which `kubectl describe node` shows no event; events of
    /// the node wait for it.
    uid: Mutex<Result<String, Vec<Occurrence>>>,
}

impl Api {
    fn node_event(&self, kind: EventKind, reason: &str, message: &str) {
        let mut uid = self.uid.lock().expect("no panic while it is held");
        let known = uid.as_ref().ok().map(String::as_str);
        let regarding = Regarding::node(&self.node, known);
        let event = Occurrence { regarding, kind, reason: reason.to_owned(), message: message.to_owned() };
        match &mut *uid {
            Ok(_) => self.sender.send(event),
            Err(waiting) if waiting.len() < EVENTS_PER_OBJECT_MAX => waiting.push(event),
            Err(_) => {}
        }
    }
}

/// The name of the node's own events here.
pub(crate) const NODE: &str = "Node";

/// A pod, a container of it, or a Service.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// The pod's name here.
    object: String,
    /// The container, for messages that do not name it.
    container: Option<String>,
    regarding: Regarding,
}

impl About {
    /// The pod.
    pub fn pod(pod: &PodDesired) -> Self {
        let (namespace, name) = (pod.key.namespace(), pod.key.name());
        let regarding = Regarding::pod(namespace, name, pod.uid.as_str());
        Self { object: crate::node::pod_object(pod), container: None, regarding }
    }

    /// A pod that was not admitted.
    pub fn refused(key: &PodKey, uid: &str) -> Self {
        let regarding = Regarding::pod(key.namespace(), key.name(), uid);
        Self { object: format!("Pod {key}"), container: None, regarding }
    }

    /// A Service.
    pub fn service(key: &ServiceKey) -> Self {
        let regarding = Regarding { namespace: key.namespace().to_owned(), ..Regarding::v1("Service", key.name()) };
        Self { object: format!("Service {key}"), container: None, regarding }
    }

    /// A container of it.
    pub fn container(pod: &PodDesired, container: &ContainerDesired) -> Self {
        let name = container.name.as_str();
        let of = Self::pod(pod);
        Self {
            container: Some(name.to_owned()),
            regarding: of.regarding.container(container.role, name),
            object: of.object,
        }
    }
}

impl EventLog {
    /// From now on events of pods and of the node go to the API server as well; the
    /// node's once it is registered.
    pub fn forward(&self, sender: EventSender, node: &str) {
        // Once: there is one API server.
        let _ = self.api.set(Api { sender, node: node.to_owned(), uid: Mutex::new(Err(Vec::new())) });
    }

    /// What has become of the events for the API server.
    pub fn counters(&self) -> EventCounters {
        self.api.get().map(|api| api.sender.counters()).unwrap_or_default()
    }

    /// The Node is registered, perhaps anew.
    pub fn registered(&self, uid: &str) {
        let Some(api) = self.api.get() else { return };
        let before = std::mem::replace(&mut *api.uid.lock().expect("no panic while it is held"), Ok(uid.to_owned()));
        for mut event in before.err().into_iter().flatten() {
            uid.clone_into(&mut event.regarding.uid);
            api.sender.send(event);
        }
    }

    /// Records an event of a pod or container.
    pub fn tell(&self, about: &About, kind: EventKind, reason: &str, message: impl Into<String>) {
        let message = message.into();
        if let Some(api) = self.api.get() {
            let (regarding, reason) = (about.regarding.clone(), reason.to_owned());
            api.sender.send(Occurrence { regarding, kind, reason, message: message.clone() });
        }
        // In the API the container stands in the object's field path.
        let here = match &about.container {
            Some(name) if !message.contains(name.as_str()) => format!("{name}: {message}"),
            _ => message,
        };
        self.note(&about.object, kind, reason, here);
    }

    /// Records an event of another object.
    pub fn record(&self, object: &str, kind: EventKind, reason: &str, message: impl Into<String>) {
        let message = message.into();
        if let (NODE, Some(api)) = (object, self.api.get()) {
            api.node_event(kind, reason, &message);
        }
        self.note(object, kind, reason, message);
    }

    /// Keeps an event, and logs it the first time.
    fn note(&self, object: &str, kind: EventKind, reason: &str, message: String) {
        let now = Timestamp::now();
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
