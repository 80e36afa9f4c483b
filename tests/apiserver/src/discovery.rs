//! `/api`, `/apis`, `/version`: what a client looks at before it asks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::resource::{RESOURCES, REVIEWS};

/// The answer to a path that names no resource; text answers are strings.
pub(crate) fn answer(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Some(json!("ok")),
        ["version"] => Some(json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitTreeState": "clean", "platform": "linux/amd64",
            "gitCommit": "", "buildDate": "2026-04-22T00:00:00Z", "goVersion": "", "compiler": "gc",
        })),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["api", "v1"] => Some(resources("")),
        ["apis"] => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if groups().contains(name) => {
            let mut found = group(name);
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            Some(found)
        }
        ["apis", name, "v1"] if groups().contains(name) => Some(resources(name)),
        _ => None,
    }
}

fn groups() -> BTreeSet<&'static str> {
    let stored = RESOURCES.iter().map(|one| one.group);
    stored.chain(REVIEWS.iter().map(|one| one.0)).filter(|group| !group.is_empty()).collect()
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn resources(group: &str) -> Value {
    let mut found = Vec::new();
    for one in RESOURCES.iter().filter(|one| one.group == group) {
        found.push(json!({
            "name": one.plural, "singularName": one.singular(), "namespaced": one.namespaced, "kind": one.kind,
            "shortNames": one.short_names,
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }));
        if one.status {
            found.push(json!({
                "name": format!("{}/status", one.plural), "singularName": "", "namespaced": one.namespaced,
                "kind": one.kind, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    for (_, plural, kind) in REVIEWS.iter().filter(|one| one.0 == group) {
        found.push(json!({"name": plural, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["create"]}));
    }
    if group.is_empty() {
        for (name, kind, group) in [
            ("pods/binding", "Binding", ""),
            ("pods/eviction", "Eviction", "policy"),
            ("serviceaccounts/token", "TokenRequest", "authentication.k8s.io"),
        ] {
            found.push(json!({
                "name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["create"],
                "group": group, "version": "v1",
            }));
        }
    }
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found})
}
