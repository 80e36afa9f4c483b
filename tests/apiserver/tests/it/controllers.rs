//! The small controllers.

use orlop_apiserver::{ApiServer, Controllers, Options, Patch, ReplicaSet, Update};
use serde_json::{Value, json};

use crate::client::{node, pod};

fn server() -> ApiServer {
    ApiServer::start(Options { controllers: Controllers::all(), ..Options::default() })
}

/// Plays the node: the pod runs and is ready.
fn run(server: &ApiServer, name: &str, address: &str) {
    let status = json!({"status": {
        "phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}],
    }});
    server.patch("pods/status", "default", name, &Patch::Strategic(status)).expect("a status");
}

#[test]
fn pods_are_bound_and_become_endpoints() {
    let server = server();
    server.create("nodes", node("n1")).expect("n1");
    let has_range = |node: &Value| node["spec"]["podCIDR"] == "10.244.0.0/24";
    server.wait_for("nodes", "", "n1", has_range);
    let service = json!({"metadata": {"name": "s"}, "spec": {
        "selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http"}],
    }});
    server.create("services", service).expect("s");
    server.create("pods", pod("a")).expect("a");
    server.wait_for("pods", "default", "a", |pod| pod["spec"]["nodeName"] == "n1");
    run(&server, "a", "10.244.0.5");
    let slice = server.wait_for("endpointslices", "default", "s-slice0", |slice| {
        slice["endpoints"][0]["conditions"]["ready"] == true
    });
    assert_eq!(slice["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.244.0.5"]));
    server.delete("pods", "default", "a", None).expect("marked");
    let wanted = json!({"ready": false, "serving": true, "terminating": true});
    server.wait_for("endpointslices", "default", "s-slice0", |slice| slice["endpoints"][0]["conditions"] == wanted);
    server.delete("pods", "default", "a", Some(0)).expect("gone");
    server.wait_for("endpointslices", "default", "s-slice0", |slice| slice["endpoints"] == json!([]));
}

#[test]
fn replicas_are_kept_and_rolled() {
    let server = server();
    server.create("nodes", node("n1")).expect("n1");
    let set = |image: &str| ReplicaSet {
        namespace: "default".into(),
        name: "web".into(),
        count: 2,
        template: json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}),
        update: Update::Rolling,
    };
    let all_of = |image: &'static str| {
        for turn in 0..20 {
            let fresh = server.wait_until("pods", "a pod to play, or the end", |pods| {
                let leaving: Vec<&str> = pods
                    .iter()
                    .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
                    .filter_map(|pod| pod["metadata"]["name"].as_str())
                    .collect();
                let waiting =
                    pods.iter().find(|pod| pod["status"]["phase"] == "Pending" && !pod["spec"]["nodeName"].is_null());
                let done = pods.len() == 2
                    && pods.iter().all(|pod| {
                        pod["spec"]["containers"][0]["image"] == image && pod["status"]["phase"] == "Running"
                    });
                match (leaving.first(), waiting) {
                    (Some(name), _) => Some(Some(((*name).to_owned(), true))),
                    (None, Some(pod)) => Some(Some((pod["metadata"]["name"].as_str()?.to_owned(), false))),
                    (None, None) => done.then_some(None),
                }
            });
            match fresh {
                Some((name, true)) => drop(server.delete("pods", "default", &name, Some(0))),
                Some((name, false)) => run(&server, &name, &format!("10.244.0.{}", turn + 2)),
                None => return,
            }
        }
        panic!("no end of replacing");
    };
    server.replicas(set("web:1"));
    all_of("web:1");
    server.replicas(set("web:2"));
    all_of("web:2");
}

#[test]
fn a_deleted_namespace_is_emptied() {
    let server = server();
    server.create("namespaces", json!({"metadata": {"name": "x"}})).expect("x");
    server.wait_for("configmaps", "x", "kube-root-ca.crt", |_| true);
    server.wait_for("serviceaccounts", "x", "default", |_| true);
    server.delete("namespaces", "", "x", None).expect("marked");
    server.wait_gone("namespaces", "", "x");
    assert_eq!(server.get("configmaps", "x", "kube-root-ca.crt"), None);
}
