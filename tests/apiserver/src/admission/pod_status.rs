//! What the server does with a pod's status.

use serde_json::{Value, json};

use super::default_to;
use crate::resource::Resource;
use crate::status::Status;

/// What a status without them keeps: the QoS class and what generation was observed. The
/// single address and the list of addresses follow each other.
pub(super) fn keep(old: &Value, new: &mut Value) {
    for field in ["qosClass", "observedGeneration"] {
        if !old["status"][field].is_null() {
            default_to(&mut new["status"], field, old["status"][field].clone());
        }
    }
    let status = &mut new["status"];
    if let Some(first) = status.pointer("/podIPs/0/ip").cloned() {
        status["podIP"] = first;
    } else if let Some(one) = status.get("podIP").filter(|one| one.is_string()).cloned() {
        status["podIPs"] = json!([{ "ip": one }]);
    }
}

/// Source: `ValidateContainerStateTransition`, without the restart rules of a container.
pub(super) fn check(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    if policy == "Always" {
        return Ok(());
    }
    let list = |pod: &Value| pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    let before = list(old);
    for (index, container) in list(new).iter().enumerate() {
        let was = before.iter().find(|one| one["name"] == container["name"]);
        let Some(exit) = was.and_then(|was| was["state"]["terminated"]["exitCode"].as_i64()) else { continue };
        if container["state"]["terminated"].is_object() || (policy == "OnFailure" && exit != 0) {
            continue;
        }
        let field = format!("status.containerStatuses[{index}].state");
        let said = "Forbidden: may not be transitioned to non-terminated state";
        return Err(Status::invalid(resource, name, &[(&field, "FieldValueForbidden", said)]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;

    #[test]
    fn a_container_that_may_not_restart_stays_terminated() {
        let pod = |policy: &str, state: Value| {
            json!({
                "metadata": {"name": "p"}, "spec": {"restartPolicy": policy},
                "status": {"containerStatuses": [{"name": "c", "state": state}]},
            })
        };
        let ended = |code: i64| json!({"terminated": {"exitCode": code}});
        for (policy, code, allowed) in
            [("Always", 0, true), ("Never", 1, false), ("OnFailure", 1, true), ("OnFailure", 0, false)]
        {
            let (old, new) = (pod(policy, ended(code)), pod(policy, json!({"running": {}})));
            assert_eq!(check(resource::named("pods"), &old, &new).is_ok(), allowed, "{policy} {code}");
        }
    }

    #[test]
    fn one_address_and_the_list_follow_each_other() {
        for (given, podip, podips) in [
            (json!({"podIP": "10.0.0.1"}), "10.0.0.1", json!([{"ip": "10.0.0.1"}])),
            (json!({"podIPs": [{"ip": "10.0.0.2"}]}), "10.0.0.2", json!([{"ip": "10.0.0.2"}])),
        ] {
            let mut new = json!({ "status": given });
            keep(&json!({}), &mut new);
            assert_eq!((&new["status"]["podIP"], &new["status"]["podIPs"]), (&json!(podip), &podips));
        }
    }
}
