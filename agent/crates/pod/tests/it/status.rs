//! Statuses at the API server: what the pod was given, gates, and the merge.

use crate::desired::{admit_pod, pod};
use crate::world::{World, epoch};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orlop_pod::{ObservedUser, StatusContext, merge_status, plan, status};

const SPEC: &str = "{readinessGates: [{conditionType: example.com/lb}], containers: [{name: a, image: x,
    resources: {requests: {cpu: 100m}, limits: {memory: 64Mi}},
    volumeMounts: [{name: v, mountPath: /v, readOnly: true}, {name: v, mountPath: /w, readOnly: false}]}], volumes: [{name: v}]}";

fn gate(status: &str) -> PodCondition {
    PodCondition { type_: "example.com/lb".into(), status: status.into(), ..PodCondition::default() }
}

/// The status of a running pod, with the API server's conditions.
fn running(conditions: Vec<PodCondition>) -> (Pod, PodStatus) {
    let mut api = pod(SPEC);
    api.metadata.generation = Some(3);
    api.status = Some(PodStatus { conditions: Some(conditions), ..PodStatus::default() });
    let mut world = World::new(admit_pod(&api).unwrap().pod);
    world.seen.sandbox = orlop_pod::SandboxState::Ready { ips: vec!["10.1.0.2".parse().unwrap()], created: epoch() };
    world.started("a");
    world.container("a").user = Some(ObservedUser { uid: 5, gid: 6, groups: vec![6, 7] });
    let made = plan(&world.want, &world.seen, world.now);
    let cx = StatusContext { host_ips: &["192.0.2.1".parse().unwrap()], previous: None, api: Some(&api) };
    let shown = status(&world.want, &world.seen, &made, &cx, world.now);
    (api, shown)
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|one| one.type_ == kind).unwrap()
}

#[test]
fn what_the_container_was_given_is_repeated() {
    let (_, shown) = running(Vec::new());
    let container = serde_json::to_value(&shown.container_statuses.as_ref().unwrap()[0]).unwrap();
    assert_eq!(container["allocatedResources"], serde_json::json!({"cpu": "100m"}));
    assert_eq!(container["resources"], serde_json::json!({"limits": {"memory": "64Mi"}, "requests": {"cpu": "100m"}}));
    assert_eq!(container["user"], serde_json::json!({"linux": {"uid": 5, "gid": 6, "supplementalGroups": [6, 7]}}));
    assert_eq!(
        container["volumeMounts"],
        serde_json::json!([
            {"name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": "Disabled"},
            {"name": "v", "mountPath": "/w"},
        ])
    );
    assert_eq!(shown.observed_generation, Some(3));
    assert!(shown.conditions.as_ref().unwrap().iter().all(|one| one.observed_generation == Some(3)));
}

#[test]
fn readiness_gates() {
    for (conditions, want) in [
        (vec![], Some("corresponding condition of pod readiness gate \"example.com/lb\" does not exist.")),
        (vec![gate("False")], Some("the status of pod readiness gate \"example.com/lb\" is not \"True\", but False")),
        (vec![gate("True")], None),
    ] {
        let (_, shown) = running(conditions);
        let ready = condition(&shown, "Ready");
        assert_eq!(ready.message.as_deref(), want);
        assert_eq!(ready.reason.as_deref(), want.map(|_| "ReadinessGatesNotReady"));
        assert_eq!(ready.status, if want.is_some() { "False" } else { "True" });
        assert_eq!(condition(&shown, "ContainersReady").status, "True");
    }
}

#[test]
fn what_others_wrote_stays() {
    let disruption =
        PodCondition { type_: "DisruptionTarget".into(), status: "True".into(), ..PodCondition::default() };
    let (api, mut ours) = running(vec![gate("True"), disruption]);
    let mut there = api.status.unwrap();
    there.nominated_node_name = Some("n9".into());
    there.qos_class = Some("Guaranteed".into());
    let long_ago = Time(epoch() - SignedDuration::from_hours(1));
    there.start_time = Some(long_ago.clone());
    there.conditions.as_mut().unwrap().push(PodCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(long_ago.clone()),
        ..PodCondition::default()
    });
    ours.conditions.as_mut().unwrap()[0].last_transition_time = Some(Time(epoch() + SignedDuration::from_millis(1500)));
    let merged = merge_status(&there, &ours, true);
    let kinds: Vec<&str> = merged.conditions.as_ref().unwrap().iter().map(|one| one.type_.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "example.com/lb",
            "DisruptionTarget",
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled"
        ]
    );
    assert_eq!(merged.nominated_node_name.as_deref(), Some("n9"));
    assert_eq!(merged.qos_class.as_deref(), Some("Guaranteed"));
    assert_eq!(merged.start_time, Some(long_ago.clone()));
    assert_eq!(condition(&merged, "Ready").last_transition_time, Some(long_ago));
    let whole = Time(epoch() + SignedDuration::from_secs(1));
    assert_eq!(condition(&merged, "PodReadyToStartContainers").last_transition_time, Some(whole));
    assert_eq!(merge_status(&merged, &ours, true), merged);
}

#[test]
fn terminal_phases() {
    let of = |phase: &str, reason: &str| PodStatus {
        phase: Some(phase.into()),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        ..PodStatus::default()
    };
    for (api, ours, runs, want) in [
        (of("Running", ""), of("Failed", "DeadlineExceeded"), true, ("Running", "")),
        (of("Running", ""), of("Failed", "DeadlineExceeded"), false, ("Failed", "DeadlineExceeded")),
        (of("Failed", "Evicted"), of("Running", ""), false, ("Failed", "Evicted")),
        (of("Failed", "Evicted"), of("Failed", ""), false, ("Failed", "Evicted")),
        (of("Pending", "x"), of("Running", ""), false, ("Running", "")),
    ] {
        let merged = merge_status(&api, &ours, runs);
        let got = (merged.phase.as_deref().unwrap_or_default(), merged.reason.as_deref().unwrap_or_default());
        assert_eq!(got, want, "{api:?} {ours:?} {runs}");
    }
    // No terminal pod is ready, whoever says that it has ended.
    let (_, ours) = running(vec![gate("True")]);
    let done = PodStatus { phase: Some("Succeeded".into()), ..ours.clone() };
    for (api, ours, reason) in
        [(PodStatus::default(), &done, "PodCompleted"), (of("Failed", "Evicted"), &ours, "PodFailed")]
    {
        let merged = merge_status(&api, ours, false);
        for kind in ["Ready", "ContainersReady"] {
            let condition = condition(&merged, kind);
            assert_eq!((condition.status.as_str(), condition.reason.as_deref()), ("False", Some(reason)));
        }
    }
}

/// What a Go API server makes of the status: no empty texts, no `false` where the type
/// leaves it out, and `null` for times that are not set.
fn as_the_api_server_returns_it(status: &PodStatus) -> PodStatus {
    let mut value = serde_json::to_value(status).unwrap();
    for condition in value["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastProbeTime"] = serde_json::Value::Null;
    }
    for mount in value["containerStatuses"][0]["volumeMounts"].as_array_mut().into_iter().flatten() {
        let mount = mount.as_object_mut().unwrap();
        mount.retain(|_, value| *value != serde_json::json!(false) && *value != serde_json::json!(""));
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_was_written_once_is_not_written_again() {
    let (api, ours) = running(vec![gate("True")]);
    let first = merge_status(api.status.as_ref().unwrap(), &ours, true);
    let uid = orlop_model::PodUid::new("u1").unwrap();
    assert!(orlop_pod::status_patch(&uid, api.status.as_ref().unwrap(), &first).is_some());
    let there = as_the_api_server_returns_it(&first);
    assert_eq!(orlop_pod::status_patch(&uid, &there, &merge_status(&there, &ours, true)), None);
}
