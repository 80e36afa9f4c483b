//! The difference between two Nodes as a strategic merge patch.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A strategic merge patch (`application/strategic-merge-patch+json`) for a node's `status`
/// sub-resource: `metadata.labels`, `metadata.annotations` and `status` alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch(Value);

impl Patch {
    /// The patch as JSON.
    #[must_use]
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    /// The patch as the body of a request.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }
}

/// What makes `before` into `after`; `None` when labels, annotations and status are equal.
/// Applied to a Node that others have changed meanwhile, it leaves their keys, their
/// conditions and their resources as they are.
#[must_use]
pub fn diff(before: &Node, after: &Node) -> Option<Patch> {
    let (old_meta, new_meta) = (metadata(before), metadata(after));
    let (old_status, new_status) = (status(before), status(after));
    let mut patch = Map::new();
    if let Some(change) = merge(&old_meta, &new_meta) {
        patch.insert("metadata".to_owned(), change);
    }
    let mut change = match merge(&without_lists(&old_status), &without_lists(&new_status)) {
        Some(Value::Object(change)) => change,
        _ => Map::new(),
    };
    if let Some(addresses) = replaced(&old_status, &new_status, "addresses") {
        change.insert("addresses".to_owned(), addresses);
    }
    if let Some(conditions) = merged_by_type(&old_status, &new_status) {
        change.insert("conditions".to_owned(), conditions);
    }
    if !change.is_empty() {
        patch.insert("status".to_owned(), Value::Object(change));
    }
    (!patch.is_empty()).then_some(Patch(Value::Object(patch)))
}

/// Labels and annotations. A map that is missing is an empty one: taking its last key away
/// must not take those that others add meanwhile.
fn metadata(node: &Node) -> Value {
    let empty = BTreeMap::new();
    let parts = [("labels", &node.metadata.labels), ("annotations", &node.metadata.annotations)];
    let maps = parts.map(|(name, map)| (name.to_owned(), json!(map.as_ref().unwrap_or(&empty))));
    Value::Object(maps.into_iter().collect())
}

/// The status; lists of resources are maps that others write too.
fn status(node: &Node) -> Value {
    // Serializing plain data to a JSON value fails only for maps whose keys are no strings.
    let status = node.status.as_ref().and_then(|status| serde_json::to_value(status).ok());
    let mut status = status.unwrap_or_else(|| json!({}));
    for list in ["capacity", "allocatable"] {
        if status[list].is_null() {
            status[list] = json!({});
        }
    }
    status
}

fn without_lists(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("addresses");
        fields.remove("conditions");
    }
    status
}

/// Maps key by key, `null` for a key that goes; everything else as a whole, which is how
/// the API treats the lists of a Node's status other than addresses and conditions.
fn merge(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut change = Map::new();
            for (key, value) in new {
                let difference = match old.get(key) {
                    Some(old) => merge(old, value),
                    None => Some(value.clone()),
                };
                change.extend(difference.map(|difference| (key.clone(), difference)));
            }
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            change.extend(gone.map(|key| (key.clone(), Value::Null)));
            (!change.is_empty()).then_some(Value::Object(change))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new.clone()),
    }
}

/// Addresses merge by type in the API's schema, which loses the second of two InternalIPs:
/// like the kubelet, replace the list.
fn replaced(before: &Value, after: &Value, list: &str) -> Option<Value> {
    let (old, new) = (items(before, list), items(after, list));
    if old == new {
        return None;
    }
    let mut patch = new.to_vec();
    patch.push(json!({"$patch": "replace"}));
    Some(Value::Array(patch))
}

/// Conditions merge by `type`: only those that differ, with only their fields that differ.
fn merged_by_type(before: &Value, after: &Value) -> Option<Value> {
    let (old, new) = (items(before, "conditions"), items(after, "conditions"));
    let find = |list: &[Value], kind: &Value| list.iter().find(|item| &item["type"] == kind).cloned();
    let mut patch = Vec::new();
    for item in new {
        let kind = &item["type"];
        let change = match find(old, kind) {
            Some(old) => merge(&old, item),
            None => Some(item.clone()),
        };
        if let Some(mut change) = change {
            change["type"] = kind.clone();
            patch.push(change);
        }
    }
    for gone in old.iter().filter(|item| find(new, &item["type"]).is_none()) {
        patch.push(json!({"type": gone["type"], "$patch": "delete"}));
    }
    (!patch.is_empty()).then_some(Value::Array(patch))
}

fn items<'a>(status: &'a Value, list: &str) -> &'a [Value] {
    status.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
