//! The Node and its Lease at the API server.

use orlop_apiserver::{ApiServer, Controllers, Options, Patch};
use orlop_tests::World;
use serde_json::{Value, json};

fn cluster() -> (ApiServer, World) {
    let controllers = Controllers { pod_cidr: Some("10.244.0.0/16".into()), ..Controllers::default() };
    World::joined(Options { controllers, ..Options::default() }, orlop_tests::Options::default())
}

fn ready(node: &Value) -> Option<&Value> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")
}

fn is_ready(node: &Value) -> bool {
    ready(node).is_some_and(|ready| ready["status"] == "True")
}

/// The range that `orlop node` shows.
fn shown_range(world: &World) -> String {
    let text = world.orlop(&["node"]).ok();
    let line = text.lines().find_map(|line| line.strip_prefix("Pod CIDRs:")).unwrap_or_default();
    line.trim().to_owned()
}

#[test]
fn the_node_is_registered_kept_true_and_made_again() {
    let (api, world) = cluster();
    let node = api.wait_for("nodes", "", "n1", is_ready);
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"].as_str(), Some("n1"), "{node}");
    assert_eq!(node["status"]["addresses"][0]["address"].as_str(), Some("10.99.0.1"), "{node}");
    assert_eq!(node["status"]["capacity"]["pods"].as_str(), Some("110"), "{node}");
    assert_eq!(shown_range(&world), node["spec"]["podCIDR"].as_str().unwrap_or_default());
    let uid = node["metadata"]["uid"].clone();
    let owner = |lease: &Value| lease["metadata"]["ownerReferences"][0]["uid"].clone();
    api.wait_for("leases", "kube-node-lease", "n1", |lease| owner(lease) == uid);

    // Somebody else's label stays; what somebody else says of its own conditions does not.
    let label = Patch::Merge(json!({"metadata": {"labels": {"example.com/rack": "7"}}}));
    api.patch("nodes", "", "n1", &label).unwrap();
    let lost = Patch::Strategic(json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}));
    api.patch("nodes/status", "", "n1", &lost).unwrap();
    let node = api.wait_for("nodes", "", "n1", is_ready);
    assert_eq!(node["metadata"]["labels"]["example.com/rack"].as_str(), Some("7"), "{node}");

    // Deleted, with the Lease that it owns, as the garbage collector does it.
    api.delete("nodes", "", "n1", None).unwrap();
    api.delete("leases", "kube-node-lease", "n1", None).unwrap();
    let has_range = |node: &Value| node["spec"]["podCIDR"].is_string();
    let again = api.wait_for("nodes", "", "n1", |node| is_ready(node) && has_range(node));
    assert_ne!(again["metadata"]["uid"], uid);
    api.wait_for("leases", "kube-node-lease", "n1", |lease| owner(lease) == again["metadata"]["uid"]);
    world.wait_until("the new range is in use", || {
        (shown_range(&world) == again["spec"]["podCIDR"].as_str().unwrap_or_default()).then_some(())
    });
}

#[test]
fn without_the_api_server_the_range_is_the_one_of_before() {
    let (api, mut world) = cluster();
    let node = api.wait_for("nodes", "", "n1", is_ready);
    let heartbeat = |node: &Value| ready(node).map(|ready| ready["lastHeartbeatTime"].clone());
    let before = heartbeat(&node);
    api.stop();
    world.restart();
    assert_eq!(shown_range(&world), node["spec"]["podCIDR"].as_str().unwrap_or_default());
    api.start_again();
    let after = api.wait_for("nodes", "", "n1", |node| heartbeat(node) != before);
    assert!(is_ready(&after), "{after}");
    assert_eq!(after["metadata"]["uid"], node["metadata"]["uid"]);
}

#[test]
fn without_a_range_the_node_says_what_it_waits_for() {
    let (api, world) = World::joined(Options::default(), orlop_tests::Options::default());
    let node = api.wait_for("nodes", "", "n1", |node| ready(node).is_some());
    let message = ready(&node).and_then(|ready| ready["message"].as_str()).unwrap_or_default();
    assert!(message.starts_with("container runtime network not ready: NetworkReady=false"), "{message}");
    assert!(!is_ready(&node) && shown_range(&world) == "<none>", "{node}");
    let pod = api.create("pods", waiting_pod()).unwrap();
    world.wait_event("early", "FailedCreatePodSandBox", "no pod CIDR");
    let given = Patch::Merge(json!({"spec": {"podCIDR": "10.9.8.0/24", "podCIDRs": ["10.9.8.0/24"]}}));
    api.patch("nodes", "", "n1", &given).unwrap();
    api.wait_for("nodes", "", "n1", is_ready);
    assert_eq!(shown_range(&world), "10.9.8.0/24");
    let runs = api.wait_for("pods", "default", "early", |pod| pod["status"]["phase"] == "Running");
    assert!(runs["status"]["podIP"].as_str().is_some_and(|ip| ip.starts_with("10.9.8.")), "{runs}");
    assert_eq!(runs["metadata"]["uid"], pod["metadata"]["uid"]);
    api.delete("pods", "default", "early", Some(1)).unwrap();
    api.wait_gone("pods", "default", "early");
}

/// Bound to the node before the node can give it an address.
fn waiting_pod() -> Value {
    let script = "trap 'exit 0' TERM; sleep inf & wait";
    json!({
        "metadata": {"name": "early", "namespace": "default"},
        "spec": {
            "nodeName": "n1",
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": orlop_tests::IMAGE, "command": ["sh", "-c", script]}],
        },
    })
}
