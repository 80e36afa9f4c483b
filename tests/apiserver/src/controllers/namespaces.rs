//! Namespaces: what each has, and the emptying of deleted ones.

use serde_json::{Value, json};

use super::{all, call, make, text};
use crate::cluster::Core;
use crate::removal::{self, DeleteOptions};
use crate::resource::{self, RESOURCES};

pub(super) fn reconcile(core: &Core) {
    for namespace in all(core, "namespaces") {
        let name = text(&namespace, "/metadata/name");
        if !namespace["metadata"]["deletionTimestamp"].is_null() {
            empty(core, name, &namespace);
            continue;
        }
        let has = |plural: &str, object: &str| {
            core.store.read(|state| state.get(resource::named(plural), name, object).is_some())
        };
        if !has("serviceaccounts", "default") {
            make(core, "serviceaccounts", name, json!({"metadata": {"name": "default"}}));
        }
        if !has("configmaps", "kube-root-ca.crt") {
            let data = json!({"ca.crt": core.authority.pem()});
            make(core, "configmaps", name, json!({"metadata": {"name": "kube-root-ca.crt"}, "data": data}));
        }
    }
}

/// Deletes what is in a namespace; when nothing is left, the namespace too.
fn empty(core: &Core, name: &str, namespace: &Value) {
    let mut left = false;
    for resource in RESOURCES.iter().filter(|resource| resource.namespaced) {
        let names: Vec<String> = core.store.read(|state| {
            state.of(resource.stored_as).filter(|(key, _)| key.1 == name).map(|(key, _)| key.2.clone()).collect()
        });
        for object in names {
            let _ = removal::delete(core, &call(&resource.qualified(), name, &object), &DeleteOptions::default());
        }
        left |= core.store.read(|state| state.of(resource.stored_as).any(|(key, _)| key.1 == name));
    }
    if !left {
        core.store.write(|state| removal::finish(core, state, resource::named("namespaces"), namespace));
    }
}
