//! The agent restarts beside an API server: nothing is told twice, nothing starts twice, nothing is lost.

use orlop_apiserver::Patch;
use orlop_tests::{Cluster, condition, pod};
use serde_json::json;

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

/// Status patches of a pod that starts and ends on an idle node. What begins to start and soon runs is
/// told as one change.
const PATCHES_START_MAX: usize = 2;
const PATCHES_END_MAX: usize = 3;

fn patches(cluster: &Cluster, pod: &str) -> usize {
    let requests = cluster.writes();
    requests.iter().filter(|one| one.verb == "patch" && one.subresource == "status" && one.name == pod).count()
}

#[test]
fn a_pod_costs_few_patches() {
    let cluster = Cluster::new();
    // The first pod of a node finds nothing ready; the next ones are as all others.
    for name in ["first", "p"] {
        cluster.create(&pod(name, IDLER));
        cluster.wait_ready_object(name);
    }
    let start = patches(&cluster, "p");
    cluster.delete_pod("p", None);
    cluster.wait_all_gone("p");
    let end = patches(&cluster, "p") - start;
    assert!(start <= PATCHES_START_MAX && end <= PATCHES_END_MAX, "{start} to start, {end} to end");
    assert_eq!(cluster.asked("delete", "pods"), 1);
}

#[test]
fn a_restart_writes_nothing_of_pods_that_run() {
    let mut cluster = Cluster::new();
    let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
    for name in &names {
        cluster.create(&pod(name, &format!("readinessGates: [{{conditionType: example.com/on}}]\n{IDLER}")));
    }
    let gate = json!({"status": {"conditions": [{"type": "example.com/on", "status": "True"}]}});
    for name in &names {
        cluster.wait_object(name, "held by its gate", |pod| {
            condition(pod, "Ready")["reason"] == "ReadinessGatesNotReady"
                && condition(pod, "ContainersReady")["status"] == "True"
        });
        cluster.server.patch("pods/status", "default", name, &Patch::Strategic(gate.clone())).unwrap();
    }
    for name in &names {
        cluster.wait_ready_object(name);
    }
    let before: Vec<_> = names.iter().map(|name| cluster.pod(name).container("c").id.clone()).collect();
    for (end, kill) in [("killed", true), ("stopped", false)] {
        cluster.server.forget_requests();
        if kill {
            cluster.kill();
        } else {
            assert!(cluster.stop().success());
        }
        cluster.start();
        // Another pod shows that everything is heard again.
        cluster.create(&pod(end, IDLER));
        cluster.wait_ready_object(end);
        let written: Vec<_> = cluster.writes().into_iter().filter(|one| one.name != end).collect();
        assert!(written.is_empty(), "{end}: {written:#?}");
    }
    let after: Vec<_> = names.iter().map(|name| cluster.pod(name).container("c").id.clone()).collect();
    assert_eq!(after, before);
}

#[test]
fn a_crash_at_any_point_loses_and_doubles_nothing() {
    let mut cluster = Cluster::new();
    // By what is seen at the API server or on the node, so that no moment is guessed.
    for point in ["bound", "known", "pending", "running", "told to end", "ending"] {
        let name = point.replace(' ', "-");
        let spec = r#"containers: [{name: c, image: IMAGE, command: [sh, -c, "echo begin; trap 'sleep 0.3; exit 5' TERM; sleep inf & wait"]}]"#;
        let made = cluster.create(&pod(&name, spec));
        match point {
            "bound" => {}
            "known" => drop(cluster.wait_pod(&name, "is known", |_| true)),
            "pending" => drop(cluster.wait_object(&name, "begun", |pod| pod["status"]["startTime"].is_string())),
            _ => drop(cluster.wait_ready_object(&name)),
        }
        let ends = matches!(point, "told to end" | "ending");
        if ends {
            cluster.delete_pod(&name, None);
        }
        if point == "ending" {
            cluster.wait_event(&name, "Killing", "");
        }
        cluster.restart();
        if ends {
            cluster.wait_all_gone(&name);
            continue;
        }
        let ready = cluster.wait_ready_object(&name);
        assert_eq!(ready["metadata"]["uid"], made["metadata"]["uid"], "{point}");
        assert_eq!(cluster.pod(&name).container("c").restarts, 0, "{point}");
        assert_eq!(cluster.orlop(&["logs", &name]).ok(), "begin", "{point}");
        cluster.delete_pod(&name, None);
        cluster.wait_event(&name, "Killing", "");
        cluster.restart();
        cluster.wait_all_gone(&name);
    }
}
