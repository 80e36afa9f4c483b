//! What a test does without a socket, as an administrator, and how it waits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::auth::{Attributes, User};
use crate::controllers::ReplicaSet;
use crate::operations::{self, Call};
use crate::patch::Patch;
use crate::removal::{self, DeleteOptions};
use crate::requests::Request;
use crate::resource;
use crate::server::ApiServer;
use crate::status::Status;
use crate::store::Change;
use crate::subresources;

/// How long a test waits for a condition before it fails.
const WAIT: Duration = Duration::from_secs(30);

/// The namespace of an object that does not say one.
fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or("default")
}

impl ApiServer {
    fn call(resource: &str, namespace: &str, name: &str, sub: &str) -> Call {
        let resource = resource::named(resource);
        let namespace = if resource.namespaced { namespace } else { "" };
        let asked = Attributes {
            verb: "direct".into(),
            group: resource.group.into(),
            resource: resource.plural.into(),
            subresource: sub.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        };
        Call { user: User::admin(), asked, resource, manager: "test".into() }
    }

    /// An object; `namespace` is not looked at for cluster-wide kinds.
    #[must_use]
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let call = Self::call(resource, namespace, name, "");
        self.core
            .store
            .read(|state| state.get(call.resource, &call.asked.namespace, name).map(|object| (**object).clone()))
    }

    /// All objects of a resource, by namespace and name.
    #[must_use]
    pub fn list(&self, resource: &str) -> Vec<Value> {
        let resource = resource::named(resource);
        self.core.store.read(|state| state.of(resource.stored_as).map(|(_, object)| (**object).clone()).collect())
    }

    /// Creates an object through defaulting and admission; gives it as stored.
    ///
    /// # Errors
    /// As the API server refuses it.
    pub fn create(&self, resource: &str, object: Value) -> Result<Value, Status> {
        let call = Self::call(resource, namespace_of(&object), "", "");
        operations::create(&self.core, &call, object)
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// As the API server refuses it.
    pub fn update(&self, resource: &str, object: Value) -> Result<Value, Status> {
        self.update_within(resource, "", object)
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// As the API server refuses it.
    pub fn update_status(&self, resource: &str, object: Value) -> Result<Value, Status> {
        self.update_within(resource, "status", object)
    }

    fn update_within(&self, resource: &str, sub: &str, object: Value) -> Result<Value, Status> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let call = Self::call(resource, namespace_of(&object), &name, sub);
        operations::update(&self.core, &call, object)
    }

    /// Patches an object; `resource` may name a sub-resource: `pods/status`.
    ///
    /// # Errors
    /// As the API server refuses it.
    pub fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Patch) -> Result<Value, Status> {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        operations::patch(&self.core, &Self::call(resource, namespace, name, sub), patch)
    }

    /// Deletes an object, gracefully by default; the grace is in seconds.
    ///
    /// # Errors
    /// As the API server refuses it.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str, grace: Option<i64>) -> Result<Value, Status> {
        let options = DeleteOptions { grace, ..DeleteOptions::default() };
        removal::delete(&self.core, &Self::call(resource, namespace, name, ""), &options)
    }

    /// Binds a pod to a node.
    ///
    /// # Errors
    /// As the API server refuses it.
    pub fn bind(&self, namespace: &str, pod: &str, node: &str) -> Result<(), Status> {
        let binding = json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}});
        subresources::bind(&self.core, &Self::call("pods", namespace, pod, "binding"), &binding).map(drop)
    }

    /// Evicts a pod.
    ///
    /// # Errors
    /// As the API server refuses it: 429 when a disruption budget says so.
    pub fn evict(&self, namespace: &str, pod: &str) -> Result<(), Status> {
        let call = Self::call("pods", namespace, pod, "eviction");
        subresources::evict(&self.core, &call, &json!({"metadata": {"name": pod}})).map(drop)
    }

    /// Approves a certificate request; the signer signs it when it runs.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn approve(&self, name: &str) -> Result<(), Status> {
        self.decide(name, "Approved")
    }

    /// Denies a certificate request.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn deny(&self, name: &str) -> Result<(), Status> {
        self.decide(name, "Denied")
    }

    fn decide(&self, name: &str, condition: &str) -> Result<(), Status> {
        let call = Self::call("certificatesigningrequests", "", name, "approval");
        subresources::decide(&self.core, &call, condition).map(drop)
    }

    /// A service account's token, as TokenRequest gives it; bound to a pod when one is named.
    ///
    /// # Errors
    /// As the API server refuses it.
    pub fn service_account_token(&self, namespace: &str, account: &str, pod: Option<&str>) -> Result<String, Status> {
        let mut request = json!({"spec": {"expirationSeconds": 3600}});
        if let Some(pod) = pod {
            request["spec"]["boundObjectRef"] = json!({"kind": "Pod", "apiVersion": "v1", "name": pod});
        }
        let call = Self::call("serviceaccounts", namespace, account, "token");
        let answer = subresources::token(&self.core, &call, request)?;
        Ok(answer["status"]["token"].as_str().unwrap_or_default().to_owned())
    }

    /// Keeps copies of a pod template, as a ReplicaSet of a Deployment does. The same name
    /// again changes it, in the way that its `update` says.
    pub fn replicas(&self, set: ReplicaSet) {
        let key = (set.namespace.clone(), set.name.clone());
        self.core.replicas.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, set);
        self.core.store.nudge();
    }

    /// What happened to objects of a resource after a resource version, oldest first.
    ///
    /// # Panics
    /// When that is compacted.
    #[must_use]
    pub fn history(&self, resource: &str, after: u64) -> Vec<(Change, Value)> {
        let resource = resource::named(resource);
        self.core.store.read(|state| {
            let entries = state.since(after).expect("the history goes back that far");
            let ours = entries.filter(|entry| entry.key.0 == resource.stored_as);
            ours.map(|entry| (entry.change, (*entry.object).clone())).collect()
        })
    }

    /// Waits until `look` finds something in the objects of a resource. It is called again
    /// whenever anything changed, under the store's lock: it must not call the server.
    ///
    /// # Panics
    /// After 30 seconds, with the objects as they are then.
    #[track_caller]
    pub fn wait_until<T>(&self, resource: &str, what: &str, mut look: impl FnMut(&[Arc<Value>]) -> Option<T>) -> T {
        let kind = resource::named(resource);
        let found = self.core.store.wait(WAIT, |state| {
            let objects: Vec<Arc<Value>> = state.of(kind.stored_as).map(|(_, object)| Arc::clone(object)).collect();
            look(&objects)
        });
        match found {
            Some(found) => found,
            None => panic!("waited {WAIT:?} for {what}; {resource} now: {:#}", Value::Array(self.list(resource))),
        }
    }

    /// Waits until one object is as `is` says, and gives it.
    ///
    /// # Panics
    /// After 30 seconds, with the objects as they are then.
    #[track_caller]
    pub fn wait_for(&self, resource: &str, namespace: &str, name: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        let namespaced = resource::named(resource).namespaced;
        self.wait_until(resource, &format!("{resource} {namespace}/{name}"), |objects| {
            let named = |object: &&Arc<Value>| {
                object["metadata"]["name"] == *name && (!namespaced || namespace_of(object) == namespace)
            };
            objects.iter().find(named).filter(|object| is(object)).map(|object| (**object).clone())
        })
    }

    /// Waits until so many requests came that `matches` says yes to, and gives them. It is
    /// called under the requests' lock: it must not call the server.
    ///
    /// # Panics
    /// After 30 seconds, with how many there were.
    #[track_caller]
    pub fn wait_requests(&self, count: usize, matches: impl Fn(&Request) -> bool) -> Vec<Request> {
        let mut found = 0;
        let all = self.core.requests.wait(WAIT, |seen| {
            let ours: Vec<Request> = seen.iter().filter(|one| matches(one)).cloned().collect();
            found = ours.len();
            (found >= count).then_some(ours)
        });
        all.unwrap_or_else(|| panic!("waited {WAIT:?} for {count} requests; there were {found}"))
    }

    /// Waits until an object is gone.
    ///
    /// # Panics
    /// After 30 seconds, with the objects as they are then.
    #[track_caller]
    pub fn wait_gone(&self, resource: &str, namespace: &str, name: &str) {
        let namespaced = resource::named(resource).namespaced;
        self.wait_until(resource, &format!("{resource} {namespace}/{name} to be gone"), |objects| {
            let there = objects.iter().any(|object| {
                object["metadata"]["name"] == *name && (!namespaced || namespace_of(object) == namespace)
            });
            (!there).then_some(())
        });
    }
}
