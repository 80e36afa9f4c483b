//! Strategic merge patch: lists merge by their key, with directives.

use serde_json::{Map, Value};

use super::schema::{List, list_at};
use crate::status::Status;

/// The target of a kind after the patch.
pub(crate) fn strategic_merge(kind: &str, target: Value, patch: &Value) -> Result<Value, Status> {
    merge_maps(kind, &[], target, patch)
}

fn unable(message: String) -> Status {
    Status::new(422, "Invalid", message)
}

fn merge_maps(kind: &str, path: &[&str], target: Value, patch: &Value) -> Result<Value, Status> {
    let Value::Object(changes) = patch else { return Ok(patch.clone()) };
    let mut fields = match target {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    match changes.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let mut whole = changes.clone();
            whole.remove("$patch");
            return Ok(Value::Object(whole));
        }
        Some("delete") => return Ok(Value::Object(Map::new())),
        Some("merge") | None => {}
        Some(other) => return Err(unable(format!("unknown patch type found: {other}"))),
    }
    if let Some(Value::Array(retained)) = changes.get("$retainKeys") {
        fields.retain(|name, _| retained.iter().any(|one| one == name));
    }
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), change) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        let inner: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        let order = changes.get(&format!("$setElementOrder/{name}")).and_then(Value::as_array);
        let before = fields.remove(name);
        let after = match change {
            Value::Null => continue,
            Value::Object(_) => merge_maps(kind, &inner, before.unwrap_or(Value::Null), change)?,
            Value::Array(items) => {
                let before = match before {
                    Some(Value::Array(before)) => before,
                    _ => Vec::new(),
                };
                Value::Array(merge_lists(kind, &inner, before, (items, order))?)
            }
            plain => plain.clone(),
        };
        fields.insert(name.clone(), after);
    }
    order_untouched(kind, path, &mut fields, changes);
    Ok(Value::Object(fields))
}

/// `$setElementOrder` may come for a list that the patch does not change otherwise.
fn order_untouched(kind: &str, path: &[&str], fields: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, order) in changes {
        let Some(list) = name.strip_prefix("$setElementOrder/") else { continue };
        let inner: Vec<&str> = path.iter().copied().chain([list]).collect();
        if let (Some(Value::Array(items)), Value::Array(order)) = (fields.get_mut(list), order) {
            *items = ordered(std::mem::take(items), order, list_at(kind, &inner));
        }
    }
}

type Change<'a> = (&'a [Value], Option<&'a Vec<Value>>);

fn merge_lists(kind: &str, path: &[&str], before: Vec<Value>, change: Change<'_>) -> Result<Vec<Value>, Status> {
    let (items, _) = change;
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(str::to_owned);
    let list = list_at(kind, path);
    let key = match list {
        List::Atomic => return Ok(items.iter().filter(|item| directive(item).is_none()).cloned().collect()),
        List::Set => {
            let mut after = before;
            for item in items {
                if !after.contains(item) {
                    after.push(item.clone());
                }
            }
            return Ok(after);
        }
        List::Map(key) => key,
    };
    if items.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        return Ok(items.iter().filter(|item| directive(item).is_none()).cloned().collect());
    }
    let mut after = before;
    for item in items {
        let Some(id) = item.get(key).filter(|id| !id.is_null()) else {
            return Err(unable(format!("map: {item} does not contain declared merge key: {key}")));
        };
        let at = after.iter().position(|one| one.get(key) == Some(id));
        match (directive(item).as_deref(), at) {
            (Some("delete"), Some(at)) => drop(after.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => {
                let merged = merge_maps(kind, path, after[at].take(), item)?;
                after[at] = merged;
            }
            (_, None) => after.push(merge_maps(kind, path, Value::Null, item)?),
        }
    }
    Ok(after)
}

/// Puts listed items into the given order; the others keep their place among what was
/// before them.
fn ordered(items: Vec<Value>, order: &[Value], list: List) -> Vec<Value> {
    let id = |item: &Value| match list {
        List::Map(key) => item.get(key).cloned().unwrap_or(Value::Null),
        _ => item.clone(),
    };
    let wanted: Vec<Value> = order.iter().map(id).collect();
    let position: Vec<Value> = items.iter().map(id).collect();
    let place = |one: &Value| position.iter().position(|other| *other == id(one));
    let (mut listed, others): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| wanted.contains(&id(item)));
    listed.sort_by_key(|item| wanted.iter().position(|one| *one == id(item)));
    let (mut listed, mut others) = (listed.into_iter().peekable(), others.into_iter().peekable());
    let mut after = Vec::new();
    while let (Some(left), Some(right)) = (listed.peek(), others.peek()) {
        let next = if place(left) <= place(right) { listed.next() } else { others.next() };
        after.extend(next);
    }
    after.extend(listed);
    after.extend(others);
    after
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: &str, target: Value, patch: Value, result: Value) {
        assert_eq!(strategic_merge(kind, target.clone(), &patch), Ok(result), "{target} with {patch}");
    }

    #[test]
    fn lists_merge_by_their_key() {
        check(
            "Pod",
            json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": null}, {"type": "A", "status": "True"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "A", "status": "True"}]}}),
        );
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}, {"name": "b"}]}}),
        );
        check(
            "Pod",
            json!({"status": {"podIPs": [{"ip": "10.0.0.1"}]}}),
            json!({"status": {"podIPs": [{"ip": "10.0.0.1", "$patch": "delete"}, {"ip": "10.0.0.2"}]}}),
            json!({"status": {"podIPs": [{"ip": "10.0.0.2"}]}}),
        );
        check(
            "Node",
            json!({"status": {"addresses": [{"type": "InternalIP", "address": "1"}, {"type": "Hostname", "address": "n"}]}}),
            json!({"status": {"addresses": [{"type": "InternalIP", "address": "2"}]}}),
            json!({"status": {"addresses": [{"type": "InternalIP", "address": "2"}, {"type": "Hostname", "address": "n"}]}}),
        );
    }

    #[test]
    fn other_lists_are_replaced() {
        check(
            "Node",
            json!({"spec": {"taints": [{"key": "a"}]}}),
            json!({"spec": {"taints": [{"key": "b"}]}}),
            json!({"spec": {"taints": [{"key": "b"}]}}),
        );
        check(
            "Pod",
            json!({"status": {"containerStatuses": [{"name": "a", "ready": true}]}}),
            json!({"status": {"containerStatuses": [{"name": "b"}]}}),
            json!({"status": {"containerStatuses": [{"name": "b"}]}}),
        );
    }

    #[test]
    fn sets_grow_and_shrink() {
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
        );
    }

    #[test]
    fn directives_apply() {
        check(
            "Pod",
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        );
        check(
            "Pod",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        );
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}}),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        );
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "server"}]}}),
            json!({"spec": {"containers": [{"name": "c"}], "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "b"}, {"name": "server"}, {"name": "c"}, {"name": "a"}]}}),
        );
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let refused = strategic_merge("Pod", json!({}), &json!({"status": {"conditions": [{"status": "True"}]}}));
        assert_eq!(refused.map_err(|status| status.code), Err(422));
    }
}
