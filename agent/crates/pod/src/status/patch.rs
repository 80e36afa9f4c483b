//! The strategic merge patch from one status to another.

use k8s_openapi::api::core::v1::PodStatus;
use orlop_model::PodUid;
use serde_json::{Map, Value, json};

/// Lists of a pod's status whose items are merged by a key; all others are replaced
/// (`patchMergeKey` in the API's types).
const MERGED: [(&str, &str); 4] =
    [("conditions", "type"), ("hostIPs", "ip"), ("podIPs", "ip"), ("resourceClaimStatuses", "name")];

/// The patch for the `status` sub-resource of the pod, with its UID as a precondition,
/// as the kubelet's `PatchPodStatus` makes it. `None` when nothing changed.
///
/// `old` is what the API server has, so that what others add meanwhile stays.
#[must_use]
pub fn status_patch(uid: &PodUid, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        // A status is a map of texts and numbers: it always becomes an object.
        Ok(_) | Err(_) => Map::new(),
    };
    let changed = between(&object(old), &object(new), &MERGED);
    (!changed.is_empty()).then(|| json!({"metadata": {"uid": uid.as_str()}, "status": changed}))
}

/// What turns `old` into `new`: `null` removes.
fn between(old: &Map<String, Value>, new: &Map<String, Value>, merged: &[(&str, &str)]) -> Map<String, Value> {
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in new {
        match (old.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(key.clone(), Value::Object(between(old, new, &[])));
            }
            (Some(Value::Array(old)), Value::Array(new)) => match merged.iter().find(|(list, _)| list == key) {
                Some((_, by)) => lists(&mut patch, key, by, old, new),
                None => drop(patch.insert(key.clone(), Value::Array(new.clone()))),
            },
            (_, new) => drop(patch.insert(key.clone(), new.clone())),
        }
    }
    patch
}

/// Items that are new or changed, deletions of those that went, and the order of all.
fn lists(patch: &mut Map<String, Value>, list: &str, by: &str, old: &[Value], new: &[Value]) {
    let find = |list: &[Value], key: &Value| list.iter().find(|item| item.get(by) == Some(key)).cloned();
    let mut items = Vec::new();
    let mut order = Vec::new();
    for item in new {
        let key = item.get(by).cloned().unwrap_or_default();
        order.push(json!({by: key}));
        match (find(old, &key), item) {
            (Some(before), item) if before == *item => {}
            (Some(Value::Object(before)), Value::Object(item)) => {
                let mut changed = between(&before, item, &[]);
                changed.insert(by.to_owned(), key);
                items.push(Value::Object(changed));
            }
            (_, item) => items.push(item.clone()),
        }
    }
    for item in old {
        let key = item.get(by).cloned().unwrap_or_default();
        if find(new, &key).is_none() {
            items.push(json!({"$patch": "delete", by: key}));
        }
    }
    patch.insert(format!("$setElementOrder/{list}"), Value::Array(order));
    if !items.is_empty() {
        patch.insert(list.to_owned(), Value::Array(items));
    }
}
