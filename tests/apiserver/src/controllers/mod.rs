//! Small controllers: each looks at the store after a change and does what is missing.

mod bind;
mod cidr;
mod endpoints;
mod namespaces;
mod replicas;
mod sign;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::auth::{Attributes, User};
use crate::cluster::Core;
use crate::operations::{self, Call};
use crate::options::{Bind, Signing};
use crate::resource;

pub use replicas::{ReplicaSet, Update};

/// The namespaces and classes that every cluster has.
pub(crate) fn seed(core: &Core) {
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        make(core, "namespaces", "", json!({"metadata": {"name": namespace}}));
    }
    for (name, value) in [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)] {
        make(core, "priorityclasses", "", json!({"metadata": {"name": name}, "value": value}));
    }
    if core.options.controllers.namespaces {
        namespaces::reconcile(core);
    }
}

/// Creates an object as a controller; whoever was faster is fine.
fn make(core: &Core, plural: &str, namespace: &str, object: Value) {
    let _ = operations::create(core, &call(plural, namespace, ""), object);
}

/// A call of the controller manager's.
fn call(plural: &str, namespace: &str, name: &str) -> Call {
    let resource = resource::named(plural);
    let asked = Attributes {
        verb: "direct".into(),
        group: resource.group.into(),
        resource: resource.plural.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    };
    Call { user: User::admin(), asked, resource, manager: "kube-controller-manager".into() }
}

/// The objects of a resource.
fn all(core: &Core, plural: &str) -> Vec<Arc<Value>> {
    let resource = resource::named(plural);
    core.store.read(|state| state.of(resource.stored_as).map(|(_, object)| Arc::clone(object)).collect())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Runs the controllers after every change of what they look at, until aborted.
pub(crate) async fn run(core: Arc<Core>) {
    let mut changes = core.store.subscribe();
    let mut seen = 0;
    let mut turn = 0;
    loop {
        let touched = core.store.read(|state| {
            let touched: Option<Vec<&'static str>> =
                state.since(seen).map(|entries| entries.map(|entry| entry.key.0).collect());
            seen = state.revision;
            touched
        });
        // Without a history (at the start, after a compaction) everything is looked at.
        let on = |of: &[&str]| touched.as_ref().is_none_or(|touched| touched.iter().any(|one| of.contains(one)));
        let options = &core.options.controllers;
        replicas::reconcile(&core);
        if options.namespaces && on(&["namespaces", "configmaps", "serviceaccounts", "pods"]) {
            namespaces::reconcile(&core);
        }
        if let (Some(range), true) = (&options.pod_cidr, on(&["nodes"])) {
            cidr::reconcile(&core, range);
        }
        if on(&["nodes"]) {
            cidr::ready_taints(&core);
        }
        if options.bind != Bind::Off && on(&["pods", "nodes"]) {
            bind::reconcile(&core, &options.bind, &mut turn);
        }
        if options.endpoint_slices && on(&["pods", "services", "endpointslices"]) {
            endpoints::reconcile(&core);
        }
        if options.sign != Signing::Off && on(&["certificatesigningrequests"]) {
            sign::reconcile(&core, options.sign);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
