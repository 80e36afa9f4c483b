//! Patches of the status: applied as an API server does, they give the new status.

use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orlop_model::PodUid;
use orlop_pod::{merge_status, status_patch};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn uid() -> PodUid {
    PodUid::new("u1").unwrap()
}

/// A strategic merge of a status, after the API machinery's `strategicpatch`.
fn apply(object: &mut Map<String, Value>, patch: &Map<String, Value>, top: bool) {
    let keys = [("conditions", "type"), ("hostIPs", "ip"), ("podIPs", "ip")];
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        let by = keys.iter().find(|(list, _)| top && list == name).map(|(_, by)| *by);
        match (object.get_mut(name), value, by) {
            (_, Value::Null, _) => drop(object.remove(name)),
            (Some(Value::Object(old)), Value::Object(value), _) => apply(old, value, false),
            (Some(Value::Array(old)), Value::Array(items), Some(by)) => {
                items.iter().for_each(|item| merge(old, item, by))
            }
            (_, value, _) => drop(object.insert(name.clone(), value.clone())),
        }
    }
    for (list, by) in keys {
        let order = patch.get(&format!("$setElementOrder/{list}")).and_then(Value::as_array);
        if let (Some(order), Some(Value::Array(items))) = (order, object.get_mut(list)) {
            let place = |item: &Value| order.iter().position(|one| one[by] == item[by]).unwrap_or(0);
            items.sort_by_key(place);
        }
    }
}

fn merge(list: &mut Vec<Value>, item: &Value, by: &str) {
    let at = list.iter().position(|old| old[by] == item[by]);
    match (at, item.get("$patch")) {
        (Some(at), Some(_)) => drop(list.remove(at)),
        (None, Some(_)) => {}
        (Some(at), None) => apply(list[at].as_object_mut().unwrap(), item.as_object().unwrap(), false),
        (None, None) => list.push(item.clone()),
    }
}

fn any_condition(kind: &'static str) -> impl Strategy<Value = Option<PodCondition>> {
    let time = (0_i64..3).prop_map(|secs| Time(jiff::Timestamp::from_second(secs).unwrap()));
    let parts = (any::<bool>(), prop::option::of("[ab]"), prop::option::of(time));
    prop::option::of(parts.prop_map(move |(holds, reason, time)| PodCondition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason,
        last_transition_time: time,
        ..PodCondition::default()
    }))
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn any_status() -> impl Strategy<Value = PodStatus> {
    let conditions = (any_condition("Ready"), any_condition("Initialized"), any_condition("x/gate"), any::<bool>());
    let ips = prop::sample::subsequence(vec!["10.0.0.1", "10.0.0.2", "fd00::1"], 0..=3).prop_shuffle();
    let containers = prop::collection::vec(("[ab]", 0_i32..3, any::<bool>()), 0..3);
    let texts =
        (prop::option::of("Pending|Running|Succeeded|Failed"), prop::option::of("[pq]"), prop::option::of(1_i64..3));
    (conditions, ips, containers, texts).prop_map(
        |((a, b, c, turned), ips, containers, (phase, reason, generation))| {
            let mut conditions: Vec<PodCondition> = [a, b, c].into_iter().flatten().collect();
            if turned {
                conditions.reverse();
            }
            let container = |(name, restart_count, ready)| ContainerStatus {
                name,
                restart_count,
                ready,
                last_state: Some(Default::default()),
                ..ContainerStatus::default()
            };
            PodStatus {
                phase,
                reason,
                observed_generation: generation,
                conditions: some(conditions),
                host_ips: some(ips.iter().map(|ip| HostIP { ip: (*ip).to_owned() }).collect()),
                pod_ip: ips.first().map(|ip| (*ip).to_owned()),
                pod_ips: some(ips.iter().rev().map(|ip| PodIP { ip: (*ip).to_owned() }).collect()),
                container_statuses: some(containers.into_iter().map(container).collect()),
                ..PodStatus::default()
            }
        },
    )
}

fn object(status: &PodStatus) -> Map<String, Value> {
    serde_json::to_value(status).unwrap().as_object().unwrap().clone()
}

proptest! {
    #[test]
    fn applied_it_is_the_new_status(old in any_status(), new in any_status()) {
        let mut applied = object(&old);
        if let Some(patch) = status_patch(&uid(), &old, &new) {
            prop_assert_eq!(&patch["metadata"], &json!({"uid": "u1"}));
            apply(&mut applied, patch["status"].as_object().unwrap(), true);
        } else {
            prop_assert_eq!(&old, &new);
        }
        prop_assert_eq!(applied, object(&new));
        prop_assert_eq!(status_patch(&uid(), &new, &new), None);
    }

    #[test]
    fn what_is_merged_once_is_merged(api in any_status(), ours in any_status(), running in any::<bool>()) {
        let merged = merge_status(&api, &ours, running);
        prop_assert_eq!(&merge_status(&merged, &ours, running), &merged);
        let gate = |status: &PodStatus| status.conditions.iter().flatten().find(|one| one.type_ == "x/gate").cloned();
        prop_assert_eq!(gate(&merged), gate(&api));
        let ended = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if ended(&api) {
            prop_assert_eq!(&merged.phase, &api.phase);
        }
        let ready = merged.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
        prop_assert!(!(ended(&merged) && ready));
    }
}

#[test]
fn only_what_changed_is_sent() {
    let condition = |kind: &str, status: &str, reason: Option<&str>| PodCondition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.map(str::to_owned),
        ..PodCondition::default()
    };
    let old = PodStatus {
        phase: Some("Pending".into()),
        conditions: Some(vec![
            condition("Ready", "False", Some("ContainersNotReady")),
            condition("PodScheduled", "True", None),
        ]),
        ..PodStatus::default()
    };
    let new = PodStatus {
        phase: Some("Running".into()),
        conditions: Some(vec![condition("Ready", "True", None), condition("PodScheduled", "True", None)]),
        ..PodStatus::default()
    };
    assert_eq!(
        status_patch(&uid(), &old, &new).unwrap(),
        json!({"metadata": {"uid": "u1"}, "status": {
            "phase": "Running",
            "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null}],
        }})
    );
    // A condition that somebody adds meanwhile is not in the way.
    let mut there = object(&old);
    there["conditions"].as_array_mut().unwrap().push(json!({"type": "x/gate", "status": "True"}));
    apply(&mut there, status_patch(&uid(), &old, &new).unwrap()["status"].as_object().unwrap(), true);
    assert_eq!(there["conditions"].as_array().unwrap().len(), 3);
    assert_eq!(there["phase"], "Running");
}
