//! Strategic merge as the API server does it for a Node, enough to apply this crate's patches.

use serde_json::{Map, Value};

/// Applies a patch to an object.
pub fn apply(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (key, change) in patch {
        let fields = object.as_object_mut().unwrap();
        match (key.as_str(), change) {
            (_, Value::Null) => drop(fields.remove(key)),
            ("addresses" | "conditions", Value::Array(changes)) => {
                let list = fields.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
                merge_by_type(list.as_array_mut().unwrap(), changes);
            }
            _ => apply(fields.entry(key.clone()).or_insert(Value::Null), change),
        }
    }
}

fn merge_by_type(list: &mut Vec<Value>, changes: &[Value]) {
    if changes.iter().any(|change| change["$patch"] == "replace") {
        *list = changes.iter().filter(|change| change.get("$patch").is_none()).cloned().collect();
        return;
    }
    for change in changes {
        let at = list.iter().position(|item| item["type"] == change["type"]);
        match (at, change["$patch"] == "delete") {
            (Some(at), true) => drop(list.remove(at)),
            (None, true) => {}
            (Some(at), false) => apply(&mut list[at], change),
            (None, false) => list.push(change.clone()),
        }
    }
}

/// A Node's JSON with its conditions in order of their types, which is how they are compared.
pub fn sorted(mut node: Value) -> Value {
    if let Some(list) = node.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        list.sort_by_key(|condition| condition["type"].to_string());
    }
    node
}
