//! Pods: defaults, the admission plugins that every cluster runs, and what may change.

use serde_json::{Value, json};

use super::{containers, default_to, items, volumes};
use crate::auth::suffix;
use crate::cluster::now_text;
use crate::operations::Call;
use crate::resource::{self, Resource};
use crate::status::Status;
use crate::store::State;

const MIRROR: &str = "kubernetes.io/config.mirror";
const KINDS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(super) fn on_create(state: &State, call: &Call, pod: &mut Value) -> Result<(), Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if pod["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        let cause = ("spec.containers", "FieldValueRequired", "Required value");
        return Err(Status::invalid(call.resource, &name, &[cause]));
    }
    defaults(&mut pod["spec"]);
    priority(state, call.resource, &name, &mut pod["spec"])?;
    runtime_class(state, call.resource, &name, &mut pod["spec"])?;
    default_tolerations(&mut pod["spec"]);
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        service_account(state, call, &name, pod)?;
    }
    if let Some(meta) = pod["metadata"].as_object_mut() {
        meta.retain(|_, value| !value.is_null());
    }
    pod["status"] = json!({"phase": "Pending", "qosClass": qos(&pod["spec"])});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": now_text(), "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    Ok(())
}

fn defaults(spec: &mut Value) {
    default_to(spec, "restartPolicy", json!("Always"));
    default_to(spec, "dnsPolicy", json!("ClusterFirst"));
    default_to(spec, "terminationGracePeriodSeconds", json!(30));
    default_to(spec, "securityContext", json!({}));
    default_to(spec, "schedulerName", json!("default-scheduler"));
    default_to(spec, "enableServiceLinks", json!(true));
    let host_network = spec["hostNetwork"] == true;
    for kind in KINDS {
        items(spec, kind).for_each(|container| containers::defaults(container, host_network));
    }
    items(spec, "volumes").for_each(volumes::defaults);
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
}

/// The Priority admission plugin.
fn priority(state: &State, resource: &Resource, name: &str, spec: &mut Value) -> Result<(), Status> {
    let classes = resource::named("priorityclasses");
    let wanted = spec["priorityClassName"].as_str().filter(|wanted| !wanted.is_empty()).map(str::to_owned);
    let class = match &wanted {
        Some(wanted) => {
            let found = state.get(classes, "", wanted).cloned();
            let why = format!("no PriorityClass with name {wanted} was found");
            Some(found.ok_or_else(|| Status::forbidden(resource, name, &why))?)
        }
        None => state.of(classes.stored_as).map(|(_, class)| class).find(|one| one["globalDefault"] == true).cloned(),
    };
    let value = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
    let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
    spec["priority"] = json!(value);
    default_to(spec, "preemptionPolicy", json!(policy));
    match class {
        Some(class) => spec["priorityClassName"] = class["metadata"]["name"].clone(),
        None => drop(spec.as_object_mut().and_then(|spec| spec.remove("priorityClassName"))),
    }
    Ok(())
}

/// The RuntimeClass admission plugin.
fn runtime_class(state: &State, resource: &Resource, name: &str, spec: &mut Value) -> Result<(), Status> {
    let Some(wanted) = spec.get("runtimeClassName").and_then(Value::as_str).map(str::to_owned) else { return Ok(()) };
    let class = state.get(resource::named("runtimeclasses"), "", &wanted).ok_or_else(|| {
        let why = format!("pod rejected: RuntimeClass {wanted:?} not found");
        Status::forbidden(resource, name, &why)
    })?;
    if let Some(overhead) = class["overhead"].get("podFixed") {
        spec["overhead"] = overhead.clone();
    }
    for (key, value) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
        spec["nodeSelector"][key.as_str()] = value.clone();
    }
    Ok(())
}

/// The DefaultTolerationSeconds admission plugin.
fn default_tolerations(spec: &mut Value) {
    default_to(spec, "tolerations", json!([]));
    let Some(tolerations) = spec["tolerations"].as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|one| {
            let for_key = one["key"] == *key || one["key"].as_str().is_none_or(str::is_empty);
            for_key && (one["effect"] == "NoExecute" || one["effect"].as_str().is_none_or(str::is_empty))
        });
        if !covered {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// The ServiceAccount admission plugin.
fn service_account(state: &State, call: &Call, name: &str, pod: &mut Value) -> Result<(), Status> {
    let namespace = call.asked.namespace.as_str();
    let spec = &mut pod["spec"];
    let account = spec["serviceAccountName"].as_str().filter(|account| !account.is_empty()).unwrap_or("default");
    let account = account.to_owned();
    let Some(object) = state.get(resource::named("serviceaccounts"), namespace, &account) else {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
        return Err(Status::forbidden(call.resource, name, &why));
    };
    spec["serviceAccountName"] = json!(account);
    spec["serviceAccount"] = json!(account);
    let own = spec["imagePullSecrets"].as_array().is_some_and(|own| !own.is_empty());
    if let Some(secrets) = object["imagePullSecrets"].as_array().filter(|secrets| !own && !secrets.is_empty()) {
        spec["imagePullSecrets"] = json!(secrets);
    }
    let mounted = spec["automountServiceAccountToken"]
        .as_bool()
        .or(object["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if mounted {
        mount_token(spec);
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    Ok(())
}

/// Where containers find their account.
const ACCOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn mount_token(spec: &mut Value) {
    let volume = format!("kube-api-access-{}", suffix(5));
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        for container in items(spec, kind) {
            default_to(container, "volumeMounts", json!([]));
            let Some(mounts) = container["volumeMounts"].as_array_mut() else { continue };
            if mounts.iter().all(|mount| mount["mountPath"] != ACCOUNT_PATH) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": ACCOUNT_PATH}));
                used = true;
            }
        }
    }
    if !used {
        return;
    }
    default_to(spec, "volumes", json!([]));
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}));
    }
}

/// pkg/apis/core/v1/helper/qos: cpu and memory only.
fn qos(spec: &Value) -> &'static str {
    let all = ["initContainers", "containers"].iter().flat_map(|kind| spec[*kind].as_array().into_iter().flatten());
    let (mut any, mut every) = (false, true);
    for container in all {
        let (limits, requests) = (&container["resources"]["limits"], &container["resources"]["requests"]);
        for resource in ["cpu", "memory"] {
            let zero = |value: &Value| value.is_null() || *value == json!("0") || *value == json!(0);
            any |= !zero(&limits[resource]) || !zero(&requests[resource]);
            every &= !zero(&limits[resource]) && limits[resource] == requests[resource];
        }
    }
    match (any, every) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Whether tolerations accept a taint.
pub(crate) fn tolerates(tolerations: &Value, taint: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    tolerations.as_array().into_iter().flatten().any(|one| {
        let effect = text(&one["effect"]).is_empty() || one["effect"] == taint["effect"];
        let key = text(&one["key"]).is_empty() || one["key"] == taint["key"];
        let value = one["operator"] == "Exists" || text(&one["value"]) == text(&taint["value"]);
        effect && key && value
    })
}

const MAY_CHANGE: &str = "Forbidden: pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
    additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)";

pub(super) fn on_update(resource: &Resource, old: &Value, new: &mut Value) -> Result<(), Status> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let (was, is) = (&old["spec"], new["spec"].clone());
    let before = was["tolerations"].as_array().cloned().unwrap_or_default();
    let after = is["tolerations"].as_array().cloned().unwrap_or_default();
    if !before.iter().all(|one| after.contains(one)) {
        let said = "Forbidden: existing toleration can not be modified except its tolerationSeconds";
        return Err(Status::invalid(resource, name, &[("spec.tolerations", "FieldValueForbidden", said)]));
    }
    if frozen(was) != frozen(&is) {
        return Err(Status::invalid(resource, name, &[("spec", "FieldValueForbidden", MAY_CHANGE)]));
    }
    Ok(())
}

/// The spec without what may change.
fn frozen(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("activeDeadlineSeconds");
        fields.remove("tolerations");
        fields.remove("schedulingGates");
    }
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|grace| grace < 0) {
        spec["terminationGracePeriodSeconds"] = json!(1);
    }
    for kind in ["containers", "initContainers"] {
        for container in items(&mut spec, kind).filter_map(Value::as_object_mut) {
            container.remove("image");
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quality_of_service_follows_requests_and_limits() {
        let of = |resources: Value| qos(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(of(json!({"requests": both, "limits": both})), "Guaranteed");
        assert_eq!(of(json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": both})), "Burstable");
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        for (toleration, covers) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), false),
        ] {
            assert_eq!(tolerates(&json!([toleration]), &taint), covers, "{toleration}");
        }
    }

    #[test]
    fn only_some_fields_of_a_pod_may_change() {
        let old =
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "1"}]}});
        let resource = resource::named("pods");
        let check = |path: &str, value: Value| {
            let mut new = old.clone();
            *new.pointer_mut(path).expect(path) = value;
            on_update(resource, &old, &mut new).map_err(|refused| refused.code)
        };
        assert_eq!(check("/spec/containers/0/image", json!("2")), Ok(()));
        assert_eq!(check("/spec/nodeName", json!("other")), Err(422));
        assert_eq!(check("/spec/containers/0/name", json!("b")), Err(422));
    }
}
