//! Server-side apply, with the owner of every leaf.
//!
//! A leaf is a path of steps to a value that is replaced as a whole; an item of a keyed
//! list is the step `key=value`. Only objects that somebody applied to have owners.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::schema::{List, list_at};

type Path = Vec<String>;

/// Who owns which leaf of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owners(BTreeMap<String, BTreeSet<Path>>);

/// A field that another manager set to another value: (its manager, the field).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) manager: String,
    pub(crate) field: String,
}

/// What the owner is called of fields that were there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The live object (nothing when it is to be created) after `applied` by `manager`.
pub(crate) fn apply(
    live: Option<&Value>,
    owners: &mut Owners,
    applied: &Value,
    (manager, force): (&str, bool),
) -> Result<Value, Vec<Conflict>> {
    let kind = applied["kind"].as_str().unwrap_or_default();
    let wanted = owned(leaves(kind, applied));
    let mut object = live.cloned().unwrap_or_else(|| json!({}));
    let present = leaves(kind, &object);
    if owners.0.is_empty() && live.is_some() {
        owners.0.insert(BEFORE_FIRST_APPLY.into(), owned(present.clone()).into_keys().collect());
    }
    let mut conflicts = Vec::new();
    for (path, value) in &wanted {
        let differs = present.get(path) != Some(value);
        for (other, paths) in &owners.0 {
            if differs && other != manager && paths.contains(path) {
                conflicts.push(Conflict { manager: other.clone(), field: format!(".{}", path.join(".")) });
            }
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    for (path, value) in &wanted {
        if present.get(path) != Some(value) {
            owners.0.iter_mut().filter(|(other, _)| *other != manager).for_each(|(_, paths)| {
                paths.remove(path);
            });
        }
    }
    let before = owners.0.insert(manager.to_owned(), wanted.keys().cloned().collect()).unwrap_or_default();
    for path in before.difference(&wanted.keys().cloned().collect()) {
        if !owners.0.values().any(|paths| paths.contains(path)) {
            remove_leaf(&mut object, path);
        }
    }
    merge(kind, &mut Vec::new(), &mut object, applied);
    Ok(object)
}

/// Records that `manager` changed an object that has owners by other means than apply.
pub(crate) fn note_update(owners: &mut Owners, before: &Value, after: &Value, manager: &str) {
    if owners.0.is_empty() {
        return;
    }
    let kind = after["kind"].as_str().unwrap_or_default();
    let (old, new) = (owned(leaves(kind, before)), owned(leaves(kind, after)));
    for (path, _) in old.iter().filter(|(path, _)| !new.contains_key(*path)) {
        owners.0.values_mut().for_each(|paths| {
            paths.remove(path);
        });
    }
    for (path, _) in new.iter().filter(|(path, value)| old.get(*path) != Some(*value)) {
        owners.0.values_mut().for_each(|paths| {
            paths.remove(path);
        });
        owners.0.entry(manager.to_owned()).or_default().insert(path.clone());
    }
}

/// Leaves without those that nobody owns: type, identity and what the server sets.
fn owned(leaves: BTreeMap<Path, Value>) -> BTreeMap<Path, Value> {
    const METADATA: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];
    leaves
        .into_iter()
        .filter(|(path, _)| match path.first().map(String::as_str) {
            Some("apiVersion" | "kind") | None => false,
            Some("metadata") => path.get(1).is_some_and(|field| METADATA.contains(&field.as_str())),
            Some(_) => true,
        })
        .collect()
}

fn leaves(kind: &str, object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    collect(kind, (&mut Vec::new(), &mut Vec::new()), object, &mut found);
    found
}

fn item_step(key: &str, item: &Value) -> String {
    format!("{key}={}", item.get(key).unwrap_or(&Value::Null))
}

/// `fields` are the names for the schema, `steps` the path with items.
fn collect(
    kind: &str,
    (fields, steps): (&mut Vec<String>, &mut Path),
    value: &Value,
    found: &mut BTreeMap<Path, Value>,
) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                fields.push(name.clone());
                steps.push(name.clone());
                collect(kind, (fields, steps), member, found);
                steps.pop();
                fields.pop();
            }
        }
        Value::Array(items) => {
            let names: Vec<&str> = fields.iter().map(String::as_str).collect();
            match list_at(kind, &names) {
                List::Map(key) => {
                    for item in items {
                        steps.push(item_step(key, item));
                        collect(kind, (fields, steps), item, found);
                        steps.pop();
                    }
                }
                List::Set => {
                    for item in items {
                        steps.push(item_step("", item));
                        found.insert(steps.clone(), item.clone());
                        steps.pop();
                    }
                }
                List::Atomic => drop(found.insert(steps.clone(), value.clone())),
            }
        }
        plain => drop(found.insert(steps.clone(), plain.clone())),
    }
}

fn merge(kind: &str, fields: &mut Vec<String>, live: &mut Value, applied: &Value) {
    let names: Vec<&str> = fields.iter().map(String::as_str).collect();
    match applied {
        Value::Object(members) => {
            if !live.is_object() {
                *live = Value::Object(Map::new());
            }
            for (name, member) in members {
                fields.push(name.clone());
                merge(kind, fields, &mut live[name.as_str()], member);
                fields.pop();
            }
        }
        Value::Array(items) => match list_at(kind, &names) {
            List::Atomic => *live = applied.clone(),
            list => {
                if !live.is_array() {
                    *live = json!([]);
                }
                let Some(present) = live.as_array_mut() else { return };
                for item in items {
                    let same = |one: &Value| match list {
                        List::Map(key) => one.get(key) == item.get(key),
                        _ => one == item,
                    };
                    match present.iter().position(same) {
                        Some(at) => merge(kind, fields, &mut present[at], item),
                        None => present.push(item.clone()),
                    }
                }
            }
        },
        plain => *live = plain.clone(),
    }
}

/// Removes a leaf, and what became empty around it.
fn remove_leaf(object: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    match object {
        Value::Object(members) => {
            let Some(inner) = members.get_mut(step) else { return };
            remove_leaf(inner, rest);
            let empty = match inner {
                Value::Object(left) => left.is_empty(),
                Value::Array(left) => left.is_empty(),
                _ => false,
            };
            if rest.is_empty() || empty {
                members.remove(step);
            }
        }
        Value::Array(items) => {
            let (key, _) = step.split_once('=').unwrap_or((step, ""));
            if key.is_empty() {
                items.retain(|item| item_step("", item) != *step && json!(step) != *item);
            } else if let Some(at) = items.iter().position(|item| item_step(key, item) == *step) {
                remove_leaf(&mut items[at], rest);
                // An item of which only its key was applied goes with the key.
                if items[at].as_object().is_some_and(Map::is_empty) {
                    items.remove(at);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: Value) -> Value {
        json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n", "labels": labels}})
    }

    #[test]
    fn a_manager_adds_changes_and_removes_its_fields_only() {
        let mut owners = Owners::default();
        let first = apply(None, &mut owners, &node(json!({"a": "1", "b": "1"})), ("m", false)).expect("created");
        let second = apply(Some(&first), &mut owners, &node(json!({"c": "2"})), ("o", false)).expect("no conflict");
        let third = apply(Some(&second), &mut owners, &node(json!({"a": "3"})), ("m", false)).expect("own fields");
        assert_eq!(third["metadata"]["labels"], json!({"a": "3", "c": "2"}));
    }

    #[test]
    fn the_field_of_another_is_a_conflict_unless_forced_or_equal() {
        let mut owners = Owners::default();
        let live = apply(None, &mut owners, &node(json!({"a": "1"})), ("m", false)).expect("created");
        apply(Some(&live), &mut owners.clone(), &node(json!({"a": "1"})), ("o", false)).expect("shared when equal");
        let conflicts = apply(Some(&live), &mut owners, &node(json!({"a": "2"})), ("o", false)).expect_err("conflict");
        assert_eq!(conflicts, [Conflict { manager: "m".into(), field: ".metadata.labels.a".into() }]);
        let taken = apply(Some(&live), &mut owners, &node(json!({"a": "2"})), ("o", true)).expect("forced");
        assert_eq!(taken["metadata"]["labels"]["a"], "2");
        let kept = apply(Some(&taken), &mut owners, &node(json!({})), ("m", false)).expect("no longer its field");
        assert_eq!(kept["metadata"]["labels"]["a"], "2");
    }

    #[test]
    fn an_update_takes_the_fields_that_it_changes() {
        let mut owners = Owners::default();
        let live = apply(None, &mut owners, &node(json!({"a": "1"})), ("m", false)).expect("created");
        let changed = node(json!({"a": "2"}));
        note_update(&mut owners, &live, &changed, "kubectl-edit");
        let conflicts = apply(Some(&changed), &mut owners, &node(json!({"a": "1"})), ("m", false)).expect_err("taken");
        assert_eq!(conflicts[0].manager, "kubectl-edit");
    }

    #[test]
    fn items_of_keyed_lists_have_owners_of_their_own() {
        let conditions =
            |list: Value| json!({"kind": "Pod", "metadata": {"name": "p"}, "status": {"conditions": list}});
        let mut owners = Owners::default();
        let a = conditions(json!([{"type": "A", "status": "True"}]));
        let b = conditions(json!([{"type": "B", "status": "True"}]));
        let live = apply(None, &mut owners, &a, ("m", false)).expect("created");
        let live = apply(Some(&live), &mut owners, &b, ("o", false)).expect("no conflict");
        let live = apply(Some(&live), &mut owners, &conditions(json!([])), ("m", false)).expect("own fields");
        assert_eq!(live["status"]["conditions"], json!([{"type": "B", "status": "True"}]));
    }
}
