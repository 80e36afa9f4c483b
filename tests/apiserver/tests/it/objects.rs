//! Create, update, patch, delete.

use serde_json::json;

use orlop_apiserver::Patch;

use crate::client::{Asker, bound, pod, server};
use reqwest::Method;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_pod_gets_what_admission_gives_it() {
    let server = server();
    let admin = Asker::admin(&server);
    let (code, made) = admin.post(PODS, pod("a")).await;
    assert_eq!(code, 201, "{made:#}");
    let spec = &made["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    let volume = spec["volumes"][0]["name"].as_str().expect("a volume");
    assert!(volume.starts_with("kube-api-access-"), "{volume}");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let (code, twice) = admin.post(PODS, pod("a")).await;
    assert_eq!((code, twice["message"].as_str()), (409, Some("pods \"a\" already exists")));
    let (code, none) = admin.get(&format!("{PODS}/b")).await;
    assert_eq!((code, none["message"].as_str()), (404, Some("pods \"b\" not found")));
    assert_eq!(admin.get("/apis/apps/v1/deployments").await.0, 404);
}

#[tokio::test]
async fn status_and_spec_do_not_touch_each_other() {
    let server = server();
    let admin = Asker::admin(&server);
    let before = bound(&server, "a", "n1");
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"nodeName": "x"}});
    let (code, after) = admin.patch(&format!("{PODS}/a/status"), "strategic-merge-patch+json", status.clone()).await;
    assert_eq!(code, 200, "{after:#}");
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["status"]["conditions"].as_array().map(Vec::len), Some(2), "PodScheduled stays");
    let (_, again) = admin.patch(&format!("{PODS}/a/status"), "strategic-merge-patch+json", status).await;
    assert_eq!(again["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "nothing changed");
    let (_, main) = admin.patch(&format!("{PODS}/a"), "merge-patch+json", json!({"status": {"phase": "Failed"}})).await;
    assert_eq!(main["status"]["phase"], "Running");
    let stale = json!({"metadata": {"resourceVersion": "1"}, "status": {"phase": "Failed"}});
    let (code, refused) = admin.patch(&format!("{PODS}/a/status"), "merge-patch+json", stale).await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")));
}

#[tokio::test]
async fn an_apply_patch_creates_and_conflicts() {
    let server = server();
    let admin = Asker::admin(&server);
    let path = "/api/v1/namespaces/default/configmaps/c?fieldManager=";
    let of =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": value}});
    assert_eq!(admin.patch(&format!("{path}one"), "apply-patch+yaml", of("1")).await.0, 200);
    let (code, refused) = admin.patch(&format!("{path}two"), "apply-patch+yaml", of("2")).await;
    assert_eq!((code, refused["details"]["causes"][0]["field"].as_str()), (409, Some(".data.k")));
    let (code, taken) = admin.patch(&format!("{path}two&force=true"), "apply-patch+yaml", of("2")).await;
    assert_eq!((code, taken["data"]["k"].as_str()), (200, Some("2")));
}

#[tokio::test]
async fn deletion_is_graceful_until_its_grace_is_zero() {
    let server = server();
    let admin = Asker::admin(&server);
    let path = format!("{PODS}/a");
    let made = bound(&server, "a", "n1");
    let delete = |body| admin.ask(Method::DELETE, &path, Some(("application/json", body)));
    let (code, marked) = delete(json!({})).await;
    assert_eq!((code, marked["metadata"]["deletionGracePeriodSeconds"].as_i64()), (200, Some(30)));
    let (_, longer) = delete(json!({"gracePeriodSeconds": 60})).await;
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let (_, shorter) = delete(json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let (code, refused) = delete(json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}})).await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")));
    let (code, _) = delete(json!({"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}})).await;
    assert_eq!(code, 200);
    assert_eq!(server.get("pods", "default", "a"), None);
    server.create("pods", pod("b")).expect("a pod");
    server.delete("pods", "default", "b", None).expect("an unbound pod goes at once");
    assert_eq!(server.get("pods", "default", "b"), None);
}

#[tokio::test]
async fn an_eviction_asks_the_disruption_budget() {
    let server = server();
    let admin = Asker::admin(&server);
    bound(&server, "a", "n1");
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    server.patch("pods/status", "default", "a", &running).expect("running");
    let budget = json!({"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"app": "a"}}}});
    server.create("poddisruptionbudgets", budget).expect("a budget");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let (code, refused) = admin.post(&format!("{PODS}/a/eviction"), eviction.clone()).await;
    assert_eq!((code, refused["details"]["causes"][0]["reason"].as_str()), (429, Some("DisruptionBudget")));
    let room = Patch::Merge(json!({"status": {"disruptionsAllowed": 1}}));
    server.patch("poddisruptionbudgets/status", "default", "b", &room).expect("room");
    assert_eq!(admin.post(&format!("{PODS}/a/eviction"), eviction).await.0, 201);
    let pod = server.get("pods", "default", "a").expect("it ends gracefully");
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
}

#[tokio::test]
async fn a_service_gets_an_address_and_a_node_port() {
    let server = server();
    let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
    let one = server.create("services", json!({"metadata": {"name": "a"}, "spec": spec})).expect("a service");
    let two = server.create("services", json!({"metadata": {"name": "b"}, "spec": spec})).expect("a service");
    assert_ne!(one["spec"]["clusterIP"], two["spec"]["clusterIP"]);
    assert_ne!(one["spec"]["ports"][0]["nodePort"], two["spec"]["ports"][0]["nodePort"]);
    assert_eq!(one["spec"]["ports"][0]["targetPort"], 80);
    assert_eq!(one["spec"]["internalTrafficPolicy"], "Cluster");
}
