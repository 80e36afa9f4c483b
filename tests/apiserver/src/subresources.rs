//! Sub-resources that are verbs: binding, eviction, approval, token.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::auth::{Bound, admit_on_node, token_refused};
use crate::cluster::{Core, now_text, time_text};
use crate::operations::{self, Call};
use crate::removal::{self, DeleteOptions};
use crate::resource;
use crate::selector::matches_map;
use crate::status::Status;

fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

/// Sets or replaces one of `status.conditions`.
pub(crate) fn set_condition(object: &mut Value, condition: Value) {
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|one| one["type"] == condition["type"]) {
        Some(one) => *one = condition,
        None => conditions.push(condition),
    }
}

/// `POST pods/NAME/binding`.
pub(crate) fn bind(core: &Core, call: &Call, binding: &Value) -> Result<Value, Status> {
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Status::bad_request("target.name: Required value"));
    }
    core.store.write(|state| {
        let old = call.find(state)?;
        let name = &call.asked.name;
        let conflict = |why: String| {
            let mut refused = Status::conflict(call.resource, name, &why);
            refused.message = refused.message.replacen("on pods ", "on pods/binding ", 1);
            refused
        };
        let wanted = binding["metadata"]["uid"].as_str().unwrap_or_default();
        if !wanted.is_empty() && old["metadata"]["uid"] != *wanted {
            let have = old["metadata"]["uid"].as_str().unwrap_or_default();
            let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {have}");
            return Err(conflict(why));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        if let Some(there) = old["spec"]["nodeName"].as_str().filter(|there| !there.is_empty()) {
            return Err(conflict(format!("pod {name} is already assigned to node {there:?}")));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut new = (*old).clone();
        new["spec"]["nodeName"] = json!(node);
        for map in ["annotations", "labels"] {
            for (key, value) in binding["metadata"][map].as_object().into_iter().flatten() {
                new["metadata"][map][key.as_str()] = value.clone();
            }
        }
        let condition = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now_text(),
        });
        set_condition(&mut new, condition);
        state.put(call.resource, new);
        Ok(success())
    })
}

/// `POST pods/NAME/eviction`: a deletion, unless a disruption budget says no.
pub(crate) fn evict(core: &Core, call: &Call, eviction: &Value) -> Result<Value, Status> {
    let options = DeleteOptions::read(&eviction["deleteOptions"], None);
    core.store.write(|state| {
        let pod = call.find(state)?;
        admit_on_node(state, &call.user, &call.asked, (Some(&pod), None))?;
        let ended = ["Succeeded", "Failed", "Pending"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
        let budgets = resource::named("poddisruptionbudgets");
        let budget = state.of(budgets.stored_as).map(|(_, budget)| budget.clone()).find(|budget| {
            budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
                && matches_map(&budget["spec"]["selector"]["matchLabels"], &pod)
        });
        let deleting = !pod["metadata"]["deletionTimestamp"].is_null();
        if let Some(budget) = budget.filter(|_| !ended && !deleting) {
            let name = budget["metadata"]["name"].as_str().unwrap_or_default();
            let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
            if allowed <= 0 {
                return Err(over_budget(name, &budget));
            }
            let mut spent = (*budget).clone();
            spent["status"]["disruptionsAllowed"] = json!(allowed - 1);
            state.put(budgets, spent);
        }
        let mut direct = call.clone();
        direct.asked.subresource.clear();
        removal::delete_in(core, state, &direct, &options)?;
        Ok(success())
    })
}

fn over_budget(name: &str, budget: &Value) -> Status {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let said = format!(
        "The disruption budget {name} needs {} healthy pods and has {} currently",
        number("desiredHealthy"),
        number("currentHealthy")
    );
    Status {
        message: "Cannot evict pod as it would violate the pod's disruption budget.".into(),
        details: Some(json!({"causes": [{"reason": "DisruptionBudget", "message": said}]})),
        ..Status::too_many_requests(0)
    }
}

/// Approves or denies a certificate request: `condition` is `Approved` or `Denied`.
pub(crate) fn decide(core: &Core, call: &Call, condition: &str) -> Result<Value, Status> {
    core.store.write(|state| {
        let old = call.find(state)?;
        let mut new = (*old).clone();
        let condition = json!({
            "type": condition, "status": "True", "reason": "TestDecided", "message": "decided by the test",
            "lastUpdateTime": now_text(), "lastTransitionTime": now_text(),
        });
        set_condition(&mut new, condition);
        operations::change(core, state, call, (&old, new), false)
    })
}

/// `POST serviceaccounts/NAME/token`. Source: pkg/registry/core/serviceaccount/storage/token.go.
pub(crate) fn token(core: &Core, call: &Call, mut request: Value) -> Result<Value, Status> {
    let (namespace, account) = (call.asked.namespace.as_str(), call.asked.name.as_str());
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    let invalid = |field: &str, said: &str| {
        let message = format!("TokenRequest.authentication.k8s.io \"\" is invalid: {field}: {said}");
        Status::new(422, "Invalid", message)
    };
    if seconds < 600 {
        let said = format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes");
        return Err(invalid("spec.expirationSeconds", &said));
    }
    let object = core.store.read(|state| call.find(state))?;
    let account_uid = text(&object["metadata"]["uid"]);
    let reference = request["spec"]["boundObjectRef"].clone();
    let (kind, name) = (text(&reference["kind"]), text(&reference["name"]));
    let (mut bound, mut node) = (None, None);
    let target = target(core, namespace, (account, &reference))?;
    let forbidden = |why: &str| Status::forbidden(call.resource, account, why);
    if let Some(why) = token_refused(&call.user, &request["spec"], target.as_deref()) {
        return Err(forbidden(&why));
    }
    if let Some(target) = target {
        if let Some(on) = target["spec"]["nodeName"].as_str() {
            let object = core.store.read(|state| state.get(resource::named("nodes"), "", on).cloned());
            node = Some((on.to_owned(), object.map(|node| text(&node["metadata"]["uid"])).unwrap_or_default()));
        }
        bound = Some((kind, name, text(&target["metadata"]["uid"])));
    }
    let audiences: Vec<String> = serde_json::from_value(request["spec"]["audiences"].clone()).unwrap_or_default();
    let what = Bound {
        namespace,
        account: (account, &account_uid),
        object: bound.as_ref().map(|(kind, name, uid)| (kind.as_str(), name.as_str(), uid.as_str())),
        node: node.as_ref().map(|(name, uid)| (name.as_str(), uid.as_str())),
        audiences: if audiences.is_empty() { vec![core.options.issuer.clone()] } else { audiences },
        seconds,
    };
    let (token, end) = core.tokens.issue(&what, Timestamp::now().as_second());
    let ends = Timestamp::from_second(end).unwrap_or(Timestamp::MAX);
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["metadata"]["name"] = json!(account);
    request["metadata"]["namespace"] = json!(namespace);
    request["metadata"]["creationTimestamp"] = json!(now_text());
    request["spec"]["expirationSeconds"] = json!(seconds);
    request["spec"]["audiences"] = json!(what.audiences);
    request["status"] = json!({"token": token, "expirationTimestamp": time_text(ends)});
    Ok(request)
}

/// The object that a token is to be bound to, when it names one that may be.
fn target(core: &Core, namespace: &str, (account, reference): (&str, &Value)) -> Result<Option<Arc<Value>>, Status> {
    if reference.is_null() {
        return Ok(None);
    }
    let (kind, name) = (text(&reference["kind"]), text(&reference["name"]));
    let plural = match kind.as_str() {
        "Pod" => "pods",
        "Secret" => "secrets",
        _ => return Err(Status::bad_request(format!("cannot bind token for serviceaccount to type {kind}"))),
    };
    let to = resource::named(plural);
    let found = core.store.read(|state| state.get(to, namespace, &name).cloned());
    let found = found.ok_or_else(|| Status::not_found(to, &name))?;
    let (uid, wanted) = (text(&found["metadata"]["uid"]), text(&reference["uid"]));
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might \
             have been deleted and then recreated"
        );
        return Err(Status::conflict(to, &name, &why));
    }
    if plural == "pods" && found["spec"]["serviceAccountName"] != *account {
        let said = format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
        );
        return Err(Status::bad_request(said));
    }
    Ok(Some(found))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
