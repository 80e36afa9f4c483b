//! The store: every object under one counter of resource versions, and the history of
//! changes that watches and consistent pages read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::resource::Resource;

/// Where an object is: (prefix, namespace, name), in the order that lists have.
pub(crate) type Key = (&'static str, String, String);

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was removed; the object is its last state.
    Deleted,
}

impl Change {
    /// `ADDED`, `MODIFIED` or `DELETED`, as a watch says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One entry of the history.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) change: Change,
    /// The object after the change; for a removal its last state with the new version.
    pub(crate) object: Arc<Value>,
    pub(crate) previous: Option<Arc<Value>>,
}

/// All objects at one moment: see `ApiServer::snapshot`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<Key, Arc<Value>>,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Entry>,
    /// Changes up to and including this version are no longer known.
    pub(crate) compacted: u64,
    history_max: usize,
    /// Counts restores: a watch of an earlier epoch ends.
    pub(crate) epoch: u64,
}

impl State {
    pub(crate) fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.objects.get(&(resource.stored_as, namespace.to_owned(), name.to_owned()))
    }

    /// Writes an object under the next version, which is put into it.
    pub(crate) fn put(&mut self, resource: &Resource, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let key = key_of(resource, &object);
        let object = Arc::new(object);
        let previous = self.objects.insert(key.clone(), Arc::clone(&object));
        let change = if previous.is_some() { Change::Modified } else { Change::Added };
        self.record(Entry { revision: self.revision, key, change, object: Arc::clone(&object), previous });
        object
    }

    /// Removes an object; gives its last state under the version of the removal.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let previous = self.objects.remove(key)?;
        self.revision += 1;
        let mut object = (*previous).clone();
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        self.record(Entry {
            revision: self.revision,
            key: key.clone(),
            change: Change::Deleted,
            object: Arc::clone(&object),
            previous: Some(previous),
        });
        Some(object)
    }

    fn record(&mut self, entry: Entry) {
        self.history.push_back(entry);
        while self.history.len() > self.history_max {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = oldest.revision;
            }
        }
    }

    /// The changes after `revision`, oldest first; nothing when they are compacted.
    pub(crate) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Entry>> {
        if revision < self.compacted {
            return None;
        }
        let from = self.history.partition_point(|entry| entry.revision <= revision);
        Some(self.history.range(from..))
    }

    /// The objects of a resource, in the order of lists.
    pub(crate) fn of<'a>(&'a self, stored_as: &'static str) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects
            .range((stored_as, String::new(), String::new())..)
            .take_while(move |((prefix, _, _), _)| *prefix == stored_as)
    }

    /// The objects of a resource as they were at `revision`; nothing when that is compacted.
    pub(crate) fn of_at(&self, stored_as: &'static str, revision: u64) -> Option<BTreeMap<Key, Arc<Value>>> {
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.of(stored_as).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        let later: Vec<&Entry> = self.since(revision)?.filter(|entry| entry.key.0 == stored_as).collect();
        for entry in later.into_iter().rev() {
            match &entry.previous {
                Some(previous) => objects.insert(entry.key.clone(), Arc::clone(previous)),
                None => objects.remove(&entry.key),
            };
        }
        Some(objects)
    }
}

/// The key of an object by its metadata.
pub(crate) fn key_of(resource: &Resource, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (resource.stored_as, if resource.namespaced { text("namespace") } else { String::new() }, text("name"))
}

/// The store that requests, watches and controllers share.
pub(crate) struct Store {
    state: Mutex<State>,
    changed: Condvar,
    revision: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new(first_revision: u64, history_max: usize) -> Self {
        let state = State {
            revision: first_revision,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: first_revision,
            history_max,
            epoch: 0,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), revision: watch::Sender::new(first_revision) }
    }

    /// Reads under the lock.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Writes under the lock and wakes whoever waits for a change.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = (state.revision, state.epoch);
        let result = change(&mut state);
        if (state.revision, state.epoch) != before {
            self.revision.send_replace(state.revision);
            self.changed.notify_all();
        }
        result
    }

    /// Is marked changed by every write.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Wakes the watches without a change, so that they look at what else may concern them.
    pub(crate) fn nudge(&self) {
        self.revision.send_modify(|_| {});
    }

    /// Waits until `look` gives something, at most `limit`.
    pub(crate) fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = until.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn compact(&self) {
        let mut state = self.lock();
        state.history.clear();
        state.compacted = state.revision;
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.read(|state| Snapshot { revision: state.revision, objects: state.objects.clone() })
    }

    pub(crate) fn restore(&self, snapshot: &Snapshot) {
        self.write(|state| {
            state.revision = snapshot.revision;
            state.objects = snapshot.objects.clone();
            state.history.clear();
            state.compacted = snapshot.revision;
            state.epoch += 1;
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test's closure must not hide behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
