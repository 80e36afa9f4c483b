//! Pods that the node refuses, with the kubelet's reasons; what runs is never refused later.

use orlop_apiserver::Patch;
use orlop_tests::{Cluster, pod};
use serde_json::{Value, json};

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

fn refused(cluster: &Cluster, name: &str) -> Value {
    cluster.wait_object(name, "Failed", |pod| pod["status"]["phase"] == "Failed")
}

#[test]
fn what_does_not_fit_is_refused_with_a_reason() {
    let mut cluster = Cluster::new();
    let port = "containers: [{name: c, image: IMAGE, command: IDLE, ports: [{containerPort: 80, hostPort: 8080}]}]";
    cluster.create(&pod("first", port));
    cluster.wait_ready_object("first");
    let first = cluster.pod("first").container("c").id.clone();
    let cases = [
        ("cpu", "containers: [{name: c, image: IMAGE, command: IDLE, resources: {requests: {cpu: 1000}}}]", "OutOfcpu"),
        (
            "memory",
            "containers: [{name: c, image: IMAGE, command: IDLE, resources: {requests: {memory: 100Ti}}}]",
            "OutOfmemory",
        ),
        ("selector", "nodeSelector: {no: such}\ncontainers: [{name: c, image: IMAGE, command: IDLE}]", "NodeAffinity"),
        ("port", port, "NodePorts"),
    ];
    for (name, spec, reason) in cases {
        cluster.create(&pod(name, spec));
        let status = refused(&cluster, name)["status"].clone();
        assert_eq!(status["reason"], reason, "{status:#}");
        assert!(status["message"].as_str().unwrap().starts_with("Pod was rejected: "), "{status:#}");
    }
    // A field that this node cannot honour is named.
    cluster.create(&pod(
        "odd",
        "volumes: [{name: v, nfs: {server: s, path: /p}}]\ncontainers: [{name: c, image: IMAGE, command: IDLE}]",
    ));
    let odd = refused(&cluster, "odd")["status"].clone();
    assert!(odd["message"].as_str().unwrap().contains("spec.volumes[0]"), "{odd:#}");
    // After a restart, on a node that would not take them now, pods that run go on, and those that
    // were refused are not looked at again.
    let full = json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}});
    cluster.server.patch("nodes", "", "n1", &Patch::Merge(full)).unwrap();
    let before: Vec<Value> = cases.iter().map(|(name, ..)| cluster.object(name)["status"].clone()).collect();
    cluster.restart();
    cluster.create(&pod("tolerant", &format!("tolerations: [{{operator: Exists}}]\n{IDLER}")));
    cluster.wait_ready_object("tolerant");
    assert_eq!(cluster.pod("first").container("c").id, first);
    let after: Vec<Value> = cases.iter().map(|(name, ..)| cluster.object(name)["status"].clone()).collect();
    assert_eq!(after, before);
    for (name, ..) in cases {
        cluster.delete_pod(name, None);
        cluster.server.wait_gone("pods", "default", name);
    }
}

#[test]
fn a_selector_waits_for_the_labels_of_the_node() {
    let mut cluster = Cluster::new();
    let chosen = format!("nodeSelector: {{kubernetes.io/hostname: n1}}\n{IDLER}");
    cluster.create(&pod("before", &chosen));
    cluster.wait_ready_object("before");
    // Nobody knows the labels yet when the agent has just started.
    cluster.kill();
    cluster.create(&pod("after", &chosen));
    cluster.start();
    cluster.wait_ready_object("after");
}
