//! Deletion: graceful for pods, held by finalizers for all.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::auth::admit_on_node;
use crate::cluster::{Core, now_text, time_text};
use crate::operations::Call;
use crate::resource::Resource;
use crate::status::Status;
use crate::store::{State, key_of};

/// `DeleteOptions`, as far as they matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    /// Seconds.
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

impl DeleteOptions {
    pub(crate) fn read(body: &Value, query_grace: Option<&str>) -> Self {
        let text = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        Self {
            grace: body["gracePeriodSeconds"].as_i64().or_else(|| query_grace.and_then(|grace| grace.parse().ok())),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
        }
    }
}

/// Deletes an object or begins to.
pub(crate) fn delete(core: &Core, call: &Call, options: &DeleteOptions) -> Result<Value, Status> {
    core.store.write(|state| delete_in(core, state, call, options))
}

pub(crate) fn delete_in(core: &Core, state: &mut State, call: &Call, options: &DeleteOptions) -> Result<Value, Status> {
    let resource = call.resource;
    let old = call.find(state)?;
    preconditions(call, &old, options)?;
    admit_on_node(state, &call.user, &call.asked, (Some(&old), None))?;
    let Some(new) = marked(resource, &old, options) else { return Ok((*old).clone()) };
    if is_over(&new) {
        // A removal keeps the grace of zero in the last state, as watches of the real one show it.
        let last = finish(core, state, resource, &new).unwrap_or(old);
        return Ok(answer(resource, &last));
    }
    if new == *old {
        return Ok(new);
    }
    Ok((*state.put(resource, new)).clone())
}

fn answer(resource: &Resource, last: &Value) -> Value {
    if ["pods", "services", "persistentvolumeclaims", "serviceaccounts"].contains(&resource.plural) {
        return last.clone();
    }
    let mut details =
        json!({"name": last["metadata"]["name"], "kind": resource.plural, "uid": last["metadata"]["uid"]});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn preconditions(call: &Call, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let meta = |field: &str| old["metadata"][field].as_str().unwrap_or_default().to_owned();
    if let Some(uid) = options.uid.as_ref().filter(|uid| **uid != meta("uid")) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            meta("uid")
        );
        return Err(Status::conflict(call.resource, &call.asked.name, &why));
    }
    if let Some(version) = options.resource_version.as_ref().filter(|version| **version != meta("resourceVersion")) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            meta("resourceVersion")
        );
        return Err(Status::conflict(call.resource, &call.asked.name, &why));
    }
    Ok(())
}

/// The object as deletion marks it; nothing when it is being deleted no slower already.
/// Source: `rest.BeforeDelete` and the pods' `CheckGracefulDelete`.
fn marked(resource: &Resource, old: &Value, options: &DeleteOptions) -> Option<Value> {
    let mut new = old.clone();
    if resource.plural == "namespaces" {
        if old["metadata"]["deletionTimestamp"].is_null() {
            new["metadata"]["deletionTimestamp"] = json!(now_text());
            new["status"]["phase"] = json!("Terminating");
        }
        return Some(new);
    }
    let pod = resource.plural == "pods";
    let started: Option<Timestamp> = old["metadata"]["deletionTimestamp"].as_str().and_then(|time| time.parse().ok());
    if let Some(ends) = started {
        let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let grace = options.grace.filter(|grace| pod && *grace < before)?.max(0);
        let ends = ends - SignedDuration::from_secs(before - grace);
        new["metadata"]["deletionTimestamp"] = json!(time_text(ends));
        new["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        return Some(new);
    }
    let grace = if pod { pod_grace(old, options) } else { 0 };
    let ends = Timestamp::now() + SignedDuration::from_secs(grace);
    new["metadata"]["deletionTimestamp"] = json!(time_text(ends));
    new["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if let Some(generation) = old["metadata"]["generation"].as_u64() {
        new["metadata"]["generation"] = json!(generation + 1);
    }
    Some(new)
}

fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let bound = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ended = ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
    if !bound || ended {
        return 0;
    }
    let grace = options.grace.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0);
    if grace < 0 { 1 } else { grace }
}

/// Whether nothing holds a marked object any longer.
pub(crate) fn is_over(object: &Value) -> bool {
    let meta = &object["metadata"];
    !meta["deletionTimestamp"].is_null()
        && object["kind"] != "Namespace"
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && meta["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// Takes a marked object out of the store.
pub(crate) fn finish(core: &Core, state: &mut State, resource: &Resource, object: &Value) -> Option<Arc<Value>> {
    core.forget_owners(object["metadata"]["uid"].as_str().unwrap_or_default());
    state.remove(&key_of(resource, object))
}
