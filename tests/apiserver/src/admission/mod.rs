//! Defaulting, admission and the rules of each kind, around create and update.

mod containers;
mod nodes;
mod pod_status;
mod pods;
mod references;
mod requests;
mod services;
mod volumes;

use serde_json::{Value, json};

use crate::operations::Call;
use crate::options::Options;
use crate::resource::Resource;
use crate::status::Status;
use crate::store::State;

pub(crate) use pods::tolerates;
pub(crate) use references::references;

/// Sets a member that is absent or null.
fn default_to(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

/// The items of a list, mutable; nothing when it is none.
fn items<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// What a new object gets, and whether it may be.
pub(crate) fn on_create(options: &Options, state: &mut State, call: &Call, object: &mut Value) -> Result<(), Status> {
    match call.resource.plural {
        "pods" => pods::on_create(state, call, object),
        "services" => services::on_create(options, state, call.resource, object),
        "secrets" => {
            merge_string_data(object);
            default_to(object, "type", json!("Opaque"));
            Ok(())
        }
        "namespaces" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
            Ok(())
        }
        "nodes" => {
            nodes::on_create(call, object);
            Ok(())
        }
        "certificatesigningrequests" => requests::on_create(call, object),
        "endpointslices" => {
            for port in items(object, "ports") {
                default_to(port, "protocol", json!("TCP"));
                default_to(port, "name", json!(""));
            }
            Ok(())
        }
        "poddisruptionbudgets" => {
            object["status"] =
                json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What a changed object gets, and whether it may be.
pub(crate) fn on_update(
    options: &Options,
    state: &mut State,
    call: &Call,
    (old, new): (&Value, &mut Value),
) -> Result<(), Status> {
    match (call.resource.plural, call.asked.subresource.as_str()) {
        ("pods", "") => pods::on_update(call.resource, old, new),
        ("pods", "status") => pod_status::check(call.resource, old, new),
        ("nodes", "") => nodes::on_update(call.resource, old, new),
        ("services", "") => services::on_update(options, state, call.resource, (old, new)),
        ("secrets", _) => {
            merge_string_data(new);
            immutable_data(call.resource, old, new)
        }
        ("configmaps", _) => immutable_data(call.resource, old, new),
        _ => Ok(()),
    }
}

/// The main resource does not touch the status.
pub(crate) fn keep_status(resource: &Resource, old: &Value, new: &mut Value) {
    if resource.status {
        put_back(old, new, "status");
    }
}

/// `status` touches only the status, and what its strategies let through of the metadata.
pub(crate) fn keep_all_but_status(resource: &Resource, old: &Value, new: &mut Value) {
    let fields: Vec<String> =
        old.as_object().into_iter().chain(new.as_object()).flat_map(|one| one.keys()).cloned().collect();
    for field in fields.iter().filter(|field| !["status", "metadata"].contains(&field.as_str())) {
        put_back(old, new, field);
    }
    match resource.plural {
        "pods" => {
            put_back(&old["metadata"], &mut new["metadata"], "ownerReferences");
            pod_status::keep(old, new);
        }
        // The conditions of approval are another sub-resource's.
        "certificatesigningrequests" => {
            let conditions = &old["status"]["conditions"];
            if !conditions.is_null() {
                new["status"]["conditions"] = conditions.clone();
            }
        }
        _ => {}
    }
}

/// `approval` touches only the conditions.
pub(crate) fn keep_all_but_approval(old: &Value, new: &mut Value) {
    let conditions = new["status"]["conditions"].clone();
    let mut kept = old.clone();
    if !conditions.is_null() {
        kept["status"]["conditions"] = conditions;
    }
    *new = kept;
}

fn put_back(old: &Value, new: &mut Value, field: &str) {
    match (old.get(field), new.as_object_mut()) {
        (Some(value), Some(new)) => drop(new.insert(field.into(), value.clone())),
        (None, Some(new)) => drop(new.remove(field)),
        _ => {}
    }
}

fn merge_string_data(secret: &mut Value) {
    use base64::Engine;
    let Some(Value::Object(plain)) = secret.as_object_mut().and_then(|secret| secret.remove("stringData")) else {
        return;
    };
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        secret["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

fn immutable_data(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    if old["immutable"] != true {
        return Ok(());
    }
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    for field in ["immutable", "data", "binaryData"] {
        if old[field] != new[field] {
            let said = "Forbidden: field is immutable when `immutable` is set";
            return Err(Status::invalid(resource, name, &[(field, "FieldValueForbidden", said)]));
        }
    }
    Ok(())
}
