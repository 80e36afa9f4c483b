//! ConfigMaps and Secrets that pods of this node refer to: one watch an object, as
//! long as some pod uses it.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use orlop_apiclient::{CONFIG_MAPS, Client, SECRETS, Selectors, WatchEvent, WatchOptions, watch};
use orlop_model::{PodDesired, PodUid};
use orlop_pod::Needs;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch as signal};
use tokio::task::AbortHandle;

/// How long a pod waits to hear whether an object is there. The kubelet's watch
/// manager gives up after a second and the pod is tried again; a server that only
/// takes its time is not worth an event.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// An object's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConfigMap,
    Secret,
}

/// Kind, namespace and name.
type Key = (Kind, String, String);

/// An object as it is now.
#[derive(Debug, Clone)]
enum Value {
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Secret>),
}

struct Entry {
    users: BTreeSet<PodUid>,
    /// `None` until the API server has answered; then there is one or not.
    value: Option<Option<Value>>,
    watch: AbortHandle,
}

#[derive(Default)]
struct State(BTreeMap<Key, Entry>);

/// See the module's text.
pub(crate) struct ObjectCache {
    client: Client,
    state: Arc<Mutex<State>>,
    /// Counts answers.
    answers: Arc<signal::Sender<u64>>,
    /// Hears of pods one of whose objects changed.
    changed: mpsc::UnboundedSender<PodUid>,
}

/// What a pod refers to, as it is now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// ConfigMaps that are there.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets that are there.
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

/// The API server has not said whether an object is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the API server has not answered for {0} within {secs} s; the pod waits for it", secs = KNOWN_WITHIN.as_secs())]
pub(crate) struct NotKnown(String);

impl ObjectCache {
    /// Nothing is watched yet. `changed` hears which pods should look again.
    pub fn new(client: Client, changed: mpsc::UnboundedSender<PodUid>) -> Self {
        Self { client, state: Arc::default(), answers: Arc::new(signal::Sender::new(0)), changed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What the pod refers to. From now until [`Self::release`] it hears of changes.
    ///
    /// # Errors
    /// The API server has not answered for an object, there or not.
    pub async fn hold(&self, pod: &PodDesired, needs: &Needs) -> Result<Held, NotKnown> {
        let namespace = pod.key.namespace();
        let keys = |kind, names: &BTreeMap<String, _>| -> Vec<Key> {
            names.keys().map(|name| (kind, namespace.to_owned(), name.clone())).collect()
        };
        let mut keys_all = keys(Kind::ConfigMap, &needs.config_maps);
        keys_all.extend(keys(Kind::Secret, &needs.secrets));
        let mut answers = self.answers.subscribe();
        for key in &keys_all {
            self.watch(key, &pod.uid);
        }
        let end = tokio::time::Instant::now() + KNOWN_WITHIN;
        loop {
            answers.borrow_and_update();
            let unknown = match self.values(&keys_all) {
                Ok(held) => return Ok(held),
                Err(unknown) => unknown,
            };
            if tokio::time::timeout_at(end, answers.changed()).await.is_err() {
                return Err(unknown);
            }
        }
    }

    /// The pod is gone; what nobody else uses is not watched any more.
    pub fn release(&self, pod: &PodUid) {
        self.lock().0.retain(|_, entry| {
            entry.users.remove(pod);
            if entry.users.is_empty() {
                entry.watch.abort();
            }
            !entry.users.is_empty()
        });
    }

    fn values(&self, keys: &[Key]) -> Result<Held, NotKnown> {
        let state = self.lock();
        let mut held = Held::default();
        for key in keys {
            match state.0.get(key).and_then(|entry| entry.value.as_ref()) {
                None => return Err(NotKnown(in_words(key))),
                Some(None) => {}
                Some(Some(Value::ConfigMap(map))) => drop(held.config_maps.insert(key.2.clone(), Arc::clone(map))),
                Some(Some(Value::Secret(secret))) => drop(held.secrets.insert(key.2.clone(), Arc::clone(secret))),
            }
        }
        Ok(held)
    }

    fn watch(&self, key: &Key, user: &PodUid) {
        let mut state = self.lock();
        if let Some(entry) = state.0.get_mut(key) {
            entry.users.insert(user.clone());
            return;
        }
        let follower = Follower {
            key: key.clone(),
            state: Arc::downgrade(&self.state),
            answers: Arc::clone(&self.answers),
            changed: self.changed.clone(),
        };
        let client = self.client.clone();
        let task = match key.0 {
            Kind::ConfigMap => tokio::spawn(follower.run(client, |map| Value::ConfigMap(Arc::new(map)))),
            Kind::Secret => tokio::spawn(follower.run(client, |secret| Value::Secret(Arc::new(secret)))),
        };
        let entry = Entry { users: [user.clone()].into(), value: None, watch: task.abort_handle() };
        state.0.insert(key.clone(), entry);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no panic while objects are held")
}

fn in_words((kind, namespace, name): &Key) -> String {
    match kind {
        Kind::ConfigMap => format!("ConfigMap {namespace}/{name}"),
        Kind::Secret => format!("Secret {namespace}/{name}"),
    }
}

/// Follows one object.
struct Follower {
    key: Key,
    state: Weak<Mutex<State>>,
    answers: Arc<signal::Sender<u64>>,
    changed: mpsc::UnboundedSender<PodUid>,
}

impl Follower {
    async fn run<T: DeserializeOwned + Send + 'static>(self, client: Client, value: fn(T) -> Value) {
        let resource = match self.key.0 {
            Kind::ConfigMap => CONFIG_MAPS,
            Kind::Secret => SECRETS,
        };
        let options = WatchOptions::new(Selectors::name(&self.key.2));
        let mut events = watch::<T>(&client, resource.within(self.key.1.clone()), options);
        let mut found = None;
        while let Some(event) = events.next().await {
            match event {
                WatchEvent::Begin => found = None,
                WatchEvent::Item(object) => found = Some(value(object)),
                WatchEvent::Done => self.tell(found.take()),
                WatchEvent::Applied(object) => self.tell(Some(value(object))),
                WatchEvent::Deleted(_) => self.tell(None),
            }
        }
    }

    fn tell(&self, value: Option<Value>) {
        let Some(state) = self.state.upgrade() else { return };
        let mut state = lock(&state);
        let Some(entry) = state.0.get_mut(&self.key) else { return };
        let first = entry.value.is_none();
        let same = entry.value.as_ref().is_some_and(|old| is_same(old.as_ref(), value.as_ref()));
        entry.value = Some(value);
        if !first && !same {
            for user in &entry.users {
                let _ = self.changed.send(user.clone());
            }
        }
        drop(state);
        self.answers.send_modify(|count| *count += 1);
    }
}

/// Whether the content is the same; a list after a lost watch repeats it.
fn is_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(Value::ConfigMap(one)), Some(Value::ConfigMap(other))) => {
            one.data == other.data && one.binary_data == other.binary_data
        }
        (Some(Value::Secret(one)), Some(Value::Secret(other))) => one.data == other.data && one.type_ == other.type_,
        _ => false,
    }
}
