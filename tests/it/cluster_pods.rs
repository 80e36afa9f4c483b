//! Pods of an API server: what it is told of them, from their binding to nothing.

use orlop_apiserver::Change;
use orlop_tests::{Cluster, condition, container, pod};
use serde_json::{Value, json};
use std::path::Path;

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

/// An object of the API server without what differs in each run.
fn types(pod: &Value) -> Vec<(String, String)> {
    let all = pod["status"]["conditions"].as_array().expect("conditions");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = all.iter().map(|one| (text(&one["type"]), text(&one["status"]))).collect();
    found.sort();
    found
}

#[test]
fn a_bound_pod_runs_and_its_status_is_told() {
    let cluster = Cluster::new();
    let made = cluster.create(&pod("web", "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    let seen = cluster.wait_ready_object("web");
    let status = &seen["status"];
    assert_eq!(seen["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!((&status["phase"], &status["qosClass"]), (&json!("Running"), &json!("BestEffort")));
    let ip = cluster.pod("web").ips[0].clone();
    assert!(ip.starts_with("10.244.7."), "{ip}");
    assert_eq!((&status["podIP"], &status["podIPs"]), (&json!(ip), &json!([{"ip": ip}])));
    assert_eq!((&status["hostIP"], &status["hostIPs"]), (&json!("10.99.0.1"), &json!([{"ip": "10.99.0.1"}])));
    assert!(status["startTime"].is_string(), "{status:#}");
    assert_eq!(status["observedGeneration"], seen["metadata"]["generation"]);
    let expected = ["ContainersReady", "Initialized", "PodReadyToStartContainers", "PodScheduled", "Ready"];
    assert_eq!(types(&seen), expected.map(|kind| (kind.to_owned(), "True".to_owned())));
    for kind in expected {
        assert!(condition(&seen, kind)["lastTransitionTime"].is_string(), "{kind}");
    }
    let one = container(&seen, "c");
    let id = cluster.pod("web").container("c").id.clone().expect("an id");
    assert_eq!(one["containerID"], id);
    assert_eq!((&one["ready"], &one["started"], &one["restartCount"]), (&json!(true), &json!(true), &json!(0)));
    assert_eq!(one["image"], "busybox:it");
    assert_eq!(one["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert!(one["imageID"].as_str().unwrap().contains("sha256:"), "{one:#}");
    assert!(one["state"]["running"]["startedAt"].is_string(), "{one:#}");
    assert_eq!(one["lastState"], json!({}));
}

#[test]
fn a_deleted_pod_is_there_until_nothing_is_left_of_it() {
    let cluster = Cluster::new();
    let spec = r#"
        terminationGracePeriodSeconds: 8
        volumes: [{name: d, emptyDir: {medium: Memory}}]
        containers:
        - name: c
          image: IMAGE
          command: [sh, -c, "trap 'while [ ! -e /d/go ]; do sleep 0.05; done; exit 3' TERM; sleep inf & wait"]
          volumeMounts: [{name: d, mountPath: /d}]"#;
    let uid = cluster.create(&pod("slow", spec))["metadata"]["uid"].as_str().unwrap().to_owned();
    cluster.wait_ready_object("slow");
    let detail = cluster.detail("slow").unwrap();
    let before = cluster.server.resource_version();
    cluster.delete_pod("slow", None);
    cluster.wait_event("slow", "Killing", "Stopping container c");
    // It was told to end and is still there.
    let object = cluster.object("slow");
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 8);
    assert!(container(&object, "c")["state"]["running"].is_object(), "{object:#}");
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(cluster.asked("delete", "pods"), 0);
    cluster.sh("slow", "touch /d/go").ok();
    let gone_when = |cluster: &Cluster| {
        let left = [
            cluster.cgroup_file("memory", &detail.cgroup, "cgroup.procs").map(|_| "cgroup".to_owned()),
            Path::new(&cluster.folder("root").join("pods").join(&uid)).exists().then(|| "volumes".to_owned()),
        ];
        left.into_iter().flatten().collect::<Vec<_>>()
    };
    let left = cluster.wait_until("the API server has it no more", || {
        cluster.server.get("pods", "default", "slow").is_none().then(|| gone_when(&cluster))
    });
    assert_eq!(left, Vec::<String>::new());
    let history = cluster.server.history("pods", before);
    let (change, last) = history.last().unwrap();
    assert_eq!(*change, Change::Deleted);
    assert_eq!(container(last, "c")["state"]["terminated"]["exitCode"], 3, "{last:#}");
    assert_eq!(last["status"]["phase"], "Failed");
    assert_eq!(cluster.asked("delete", "pods"), 1);
    cluster.wait_gone("slow");
}

#[test]
fn a_grace_that_gets_shorter_is_heard() {
    let cluster = Cluster::new();
    let deaf =
        r#"containers: [{name: c, image: IMAGE, command: [sh, -c, "trap '' TERM; while true; do sleep 1; done"]}]"#;
    for (name, grace) in [("shorter", 600), ("forced", 8)] {
        cluster.create(&pod(name, &format!("terminationGracePeriodSeconds: {grace}\n{deaf}")));
    }
    for name in ["shorter", "forced"] {
        cluster.wait_ready_object(name);
        cluster.delete_pod(name, None);
        cluster.wait_event(name, "Killing", "");
    }
    cluster.delete_pod("shorter", Some(1));
    cluster.wait_all_gone("shorter");
    // By force the object goes at once; the pod still has its own grace on the node, and
    // one of its name begins when it has ended.
    cluster.delete_pod("forced", Some(0));
    assert_eq!(cluster.server.get("pods", "default", "forced"), None);
    let old = cluster.pod("forced").uid;
    cluster.create(&pod("forced", IDLER));
    cluster.wait_ready_object("forced");
    assert!(cluster.pods().iter().all(|pod| pod.uid != old));
}

#[test]
fn pods_deleted_while_the_agent_is_down_go_when_it_is_back() {
    let mut cluster = Cluster::new();
    for name in ["graceful", "forced", "stays"] {
        cluster.create(&pod(name, IDLER));
    }
    for name in ["graceful", "forced", "stays"] {
        cluster.wait_ready_object(name);
    }
    let stays = cluster.pod("stays");
    cluster.kill();
    cluster.delete_pod("graceful", None);
    cluster.delete_pod("forced", Some(0));
    cluster.start();
    for name in ["graceful", "forced"] {
        cluster.wait_all_gone(name);
    }
    assert_eq!(cluster.pod("stays").container("c").id, stays.container("c").id);
}

#[test]
fn a_pod_whose_work_is_done_stays_done() {
    let mut cluster = Cluster::new();
    let ends = |code: u32| {
        format!("restartPolicy: Never\ncontainers: [{{name: c, image: IMAGE, command: [sh, -c, exit {code}]}}]")
    };
    cluster.create(&pod("good", &ends(0)));
    cluster.create(&pod("bad", &ends(3)));
    let ended = |pod: &Value, phase: &str| {
        pod["status"]["phase"] == *phase && condition(pod, "PodReadyToStartContainers")["status"] == "False"
    };
    let good = cluster.wait_object("good", "Succeeded", |pod| ended(pod, "Succeeded"));
    let bad = cluster.wait_object("bad", "Failed", |pod| ended(pod, "Failed"));
    for (object, reason, code) in [(&good, "Completed", 0), (&bad, "Error", 3)] {
        let ended = &container(object, "c")["state"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!(reason), &json!(code)), "{ended:#}");
    }
    assert_eq!(condition(&good, "Ready")["reason"], "PodCompleted");
    cluster.restart();
    cluster.create(&pod("next", IDLER));
    cluster.wait_ready_object("next");
    assert_eq!(cluster.object("good")["status"], good["status"]);
    assert_eq!(cluster.object("bad")["status"], bad["status"]);
    for name in ["good", "bad"] {
        cluster.delete_pod(name, None);
        cluster.wait_all_gone(name);
    }
}
