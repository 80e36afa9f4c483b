//! Create, update and patch: what the generic registry does around the store.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admission;
use crate::auth::{Attributes, User, admit_on_node, suffix, uuid};
use crate::cluster::{Core, now_text};
use crate::patch::{Conflict, Patch, apply, json_patch, merge_patch, note_update, strategic_merge};
use crate::removal;
use crate::resource::Resource;
use crate::status::Status;
use crate::store::State;

/// Who does something to what.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) asked: Attributes,
    pub(crate) resource: &'static Resource,
    /// The field manager.
    pub(crate) manager: String,
}

impl Call {
    pub(crate) fn find(&self, state: &State) -> Result<Arc<Value>, Status> {
        state
            .get(self.resource, &self.asked.namespace, &self.asked.name)
            .cloned()
            .ok_or_else(|| Status::not_found(self.resource, &self.asked.name))
    }
}

/// Creates an object.
pub(crate) fn create(core: &Core, call: &Call, object: Value) -> Result<Value, Status> {
    core.store.write(|state| create_in(core, state, call, object)).map(|object| (*object).clone())
}

fn create_in(core: &Core, state: &mut State, call: &Call, mut object: Value) -> Result<Arc<Value>, Status> {
    let resource = call.resource;
    check_type(resource, &object)?;
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    name(call, &mut object)?;
    let given = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if object["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    if resource.namespaced {
        namespace_is_open(state, call, &given)?;
    }
    let meta = &mut object["metadata"];
    meta["uid"] = json!(uuid());
    meta["creationTimestamp"] = json!(now_text());
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"] {
        if let Some(meta) = meta.as_object_mut() {
            meta.remove(field);
        }
    }
    if resource.generation {
        meta["generation"] = json!(1);
    }
    let keeps_status = !resource.status || ["nodes", "persistentvolumes"].contains(&resource.plural);
    if let Some(object) = object.as_object_mut().filter(|_| !keeps_status) {
        object.remove("status");
    }
    admission::on_create(&core.options, state, call, &mut object)?;
    admit_on_node(state, &call.user, &call.asked, (None, Some(&object)))?;
    if state.get(resource, &call.asked.namespace, &given).is_some() {
        return Err(Status::already_exists(resource, &given));
    }
    Ok(state.put(resource, object))
}

fn check_type(resource: &Resource, object: &Value) -> Result<(), Status> {
    let (version, kind) = (resource.api_version(), resource.kind);
    let (given_version, given_kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    if given_kind.is_some_and(|given| given != kind) || given_version.is_some_and(|given| given != version) {
        let message = format!(
            "{} in version {:?} cannot be handled as a {kind}: no kind {:?} is registered for version {:?}",
            given_kind.unwrap_or_default(),
            given_version.unwrap_or_default(),
            given_kind.unwrap_or_default(),
            given_version.unwrap_or_default()
        );
        return Err(Status::bad_request(message));
    }
    if object.is_object() { Ok(()) } else { Err(Status::bad_request("the object is not a JSON object")) }
}

/// Fills in type, namespace and name.
fn name(call: &Call, object: &mut Value) -> Result<(), Status> {
    let resource = call.resource;
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    let meta = &mut object["metadata"];
    if resource.namespaced {
        let given = meta["namespace"].as_str().unwrap_or_default();
        if !given.is_empty() && given != call.asked.namespace {
            return Err(Status::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({given} vs. {})",
                call.asked.namespace
            )));
        }
        meta["namespace"] = json!(call.asked.namespace);
    } else if let Some(meta) = meta.as_object_mut() {
        meta.remove("namespace");
    }
    let given = meta["name"].as_str().unwrap_or_default().to_owned();
    if given.is_empty() {
        let prefix = meta["generateName"].as_str().unwrap_or_default().to_owned();
        if prefix.is_empty() {
            let cause = ("metadata.name", "FieldValueRequired", "Required value: name or generateName is required");
            return Err(Status::invalid(resource, "", &[cause]));
        }
        let kept: String = prefix.chars().take(58).collect();
        meta["name"] = json!(format!("{kept}{}", suffix(5)));
    } else if !valid_name(resource.kind, &given) {
        let said = format!(
            "Invalid value: {given:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
             characters, '-' or '.', and must start and end with an alphanumeric character"
        );
        return Err(Status::invalid(resource, &given, &[("metadata.name", "FieldValueInvalid", &said)]));
    }
    Ok(())
}

fn valid_name(kind: &str, name: &str) -> bool {
    // Where only a path segment is asked for (`ValidatePathSegmentName`): the kubelet names its requests by a digest
    // in base64. Names of RBAC's and of a few other kinds are as free; none of these is served.
    if kind == "CertificateSigningRequest" {
        return !matches!(name, "." | "..") && !name.contains(['/', '%']);
    }
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let inner = |letter: char| plain(letter) || letter == '-' || letter == '.';
    name.len() <= 253 && name.starts_with(plain) && name.ends_with(plain) && name.chars().all(inner)
}

fn namespace_is_open(state: &State, call: &Call, name: &str) -> Result<(), Status> {
    let namespace = &call.asked.namespace;
    let namespaces = crate::resource::named("namespaces");
    let Some(found) = state.get(namespaces, "", namespace) else {
        return Err(Status::not_found(namespaces, namespace));
    };
    if found["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut refused = Status::forbidden(call.resource, name, &why);
    if let Some(details) = &mut refused.details {
        details["causes"] = json!([{
            "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {namespace} is being terminated"),
        }]);
    }
    Err(refused)
}

/// Replaces an object, or its status.
pub(crate) fn update(core: &Core, call: &Call, object: Value) -> Result<Value, Status> {
    check_type(call.resource, &object)?;
    let given = object["metadata"]["name"].as_str().unwrap_or_default();
    if given != call.asked.name {
        let message =
            format!("the name of the object ({given}) does not match the name on the URL ({})", call.asked.name);
        return Err(Status::bad_request(message));
    }
    core.store.write(|state| {
        let old = match call.find(state) {
            Ok(old) => old,
            // Leases and Events are made by an update too, as their strategies allow.
            Err(_) if call.asked.subresource.is_empty() && creates_on_update(call.resource) => {
                return create_in(core, state, call, object).map(|made| (*made).clone());
            }
            Err(refused) => return Err(refused),
        };
        change(core, state, call, (&old, object), false)
    })
}

fn creates_on_update(resource: &Resource) -> bool {
    ["leases", "events", "services"].contains(&resource.plural)
}

/// Patches an object, or its status; an apply patch may create it.
pub(crate) fn patch(core: &Core, call: &Call, patch: &Patch) -> Result<Value, Status> {
    core.store.write(|state| {
        let old = match (call.find(state), patch) {
            (Ok(old), _) => old,
            (Err(_), Patch::Apply { object, manager, force }) if call.asked.subresource.is_empty() => {
                let mut named = object.clone();
                named["metadata"]["name"] = json!(call.asked.name);
                let made = create_in(core, state, call, named)?;
                let uid = made["metadata"]["uid"].as_str().unwrap_or_default();
                return core
                    .owners(uid, |owners| apply(None, owners, object, (manager, *force)).map(drop))
                    .map(|()| (*made).clone())
                    .map_err(|conflicts| apply_conflict(&conflicts));
            }
            (Err(refused), _) => return Err(refused),
        };
        let kind = call.resource.kind;
        match patch {
            Patch::Merge(body) => change(core, state, call, (&old, merge_patch((*old).clone(), body)), false),
            Patch::Json(body) => change(core, state, call, (&old, json_patch((*old).clone(), body)?), false),
            Patch::Strategic(body) => {
                change(core, state, call, (&old, strategic_merge(kind, (*old).clone(), body)?), false)
            }
            Patch::Apply { object, manager, force } => {
                // What a manager applies to a sub-resource is a set of its own.
                let manager = match call.asked.subresource.as_str() {
                    "" => manager.clone(),
                    sub => format!("{manager}/{sub}"),
                };
                let uid = old["metadata"]["uid"].as_str().unwrap_or_default();
                let mut owners = core.owners(uid, |owners| owners.clone());
                let new = apply(Some(&old), &mut owners, object, (&manager, *force))
                    .map_err(|conflicts| apply_conflict(&conflicts))?;
                let stored = change(core, state, call, (&old, new), true)?;
                core.owners(uid, |kept| *kept = owners);
                Ok(stored)
            }
        }
    })
}

fn apply_conflict(conflicts: &[Conflict]) -> Status {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|one| {
            let said = format!("conflict with {:?}", one.manager);
            json!({"reason": "FieldManagerConflict", "message": said, "field": one.field})
        })
        .collect();
    let said: Vec<String> =
        conflicts.iter().map(|one| format!("conflict with {:?}: {}", one.manager, one.field)).collect();
    let count = conflicts.len();
    let message =
        format!("Apply failed with {count} conflict{}: {}", if count == 1 { "" } else { "s" }, said.join(", "));
    Status { details: Some(json!({ "causes": causes })), ..Status::new(409, "Conflict", message) }
}

/// Stores `new` over `old`: keeps what the server owns, checks, and writes when it differs.
pub(crate) fn change(
    core: &Core,
    state: &mut State,
    call: &Call,
    (old, mut new): (&Arc<Value>, Value),
    applied: bool,
) -> Result<Value, Status> {
    let resource = call.resource;
    check_identity(call, old, &new)?;
    keep_what_is_the_servers(old, &mut new);
    match call.asked.subresource.as_str() {
        "status" => admission::keep_all_but_status(resource, old, &mut new),
        "approval" => admission::keep_all_but_approval(old, &mut new),
        _ => admission::keep_status(resource, old, &mut new),
    }
    admission::on_update(&core.options, state, call, (old, &mut new))?;
    // A slice has no spec: all of it is.
    let wanted: &[&str] =
        if resource.plural == "endpointslices" { &["endpoints", "ports", "addressType"] } else { &["spec"] };
    let differs = wanted.iter().any(|field| old[*field] != new[*field]);
    if resource.generation && differs && new["metadata"]["generation"].is_u64() {
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
    }
    admit_on_node(state, &call.user, &call.asked, (Some(old), Some(&new)))?;
    if new == **old {
        return Ok(new);
    }
    if !applied {
        let uid = old["metadata"]["uid"].as_str().unwrap_or_default();
        core.owners(uid, |owners| note_update(owners, old, &new, &call.manager));
    }
    let stored = state.put(resource, new);
    if removal::is_over(&stored) {
        removal::finish(core, state, resource, &stored);
    }
    Ok((*stored).clone())
}

fn check_identity(call: &Call, old: &Value, new: &Value) -> Result<(), Status> {
    let resource = call.resource;
    let name = call.asked.name.as_str();
    let (was, given) = (&old["metadata"], &new["metadata"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if !given["resourceVersion"].is_null()
        && !text(&given["resourceVersion"]).is_empty()
        && given["resourceVersion"] != was["resourceVersion"]
    {
        return Err(Status::modified(resource, name));
    }
    if !text(&given["uid"]).is_empty() && given["uid"] != was["uid"] {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            text(&given["uid"]),
            text(&was["uid"])
        );
        return Err(Status::conflict(resource, name, &why));
    }
    if !text(&given["name"]).is_empty() && given["name"] != was["name"] {
        let said = format!("Invalid value: {:?}: field is immutable", text(&given["name"]));
        return Err(Status::invalid(resource, name, &[("metadata.name", "FieldValueInvalid", &said)]));
    }
    Ok(())
}

fn keep_what_is_the_servers(old: &Value, new: &mut Value) {
    const FIELDS: &[&str] = &[
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ];
    new["apiVersion"] = old["apiVersion"].clone();
    new["kind"] = old["kind"].clone();
    if !new["metadata"].is_object() {
        new["metadata"] = json!({});
    }
    let Some(meta) = new["metadata"].as_object_mut() else { return };
    for &field in FIELDS {
        match old["metadata"].get(field) {
            Some(value) => drop(meta.insert(field.into(), value.clone())),
            None => drop(meta.remove(field)),
        }
    }
    for field in ["labels", "annotations"] {
        if meta.get(field).is_some_and(|map| map.is_null() || map.as_object().is_some_and(serde_json::Map::is_empty)) {
            meta.remove(field);
        }
    }
    for field in ["finalizers", "ownerReferences"] {
        if meta.get(field).is_some_and(|list| list.is_null() || list.as_array().is_some_and(Vec::is_empty)) {
            meta.remove(field);
        }
    }
    meta.remove("managedFields");
}
