//! Static pods of the manifests folder, and the mirror pods that show them.

use orlop_tests::{Cluster, ClusterOptions, pod};

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

#[test]
fn a_static_pod_has_a_mirror() {
    let cluster = Cluster::new();
    cluster.apply("web", &pod("web", IDLER));
    let mirror = cluster.wait_ready_object("web-n1");
    assert_eq!(mirror["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert_eq!(mirror["status"]["phase"], "Running");
    let local = cluster.wait_ready("web-n1");
    assert_eq!(mirror["status"]["podIP"], local.ips[0].as_str());
    // Somebody deletes the mirror: the pod goes on and has one again.
    let uid = mirror["metadata"]["uid"].clone();
    cluster.delete_pod("web-n1", None);
    let again = cluster.wait_object("web-n1", "another", |pod| pod["metadata"]["uid"] != uid);
    assert_eq!(
        again["metadata"]["annotations"]["kubernetes.io/config.hash"],
        mirror["metadata"]["annotations"]["kubernetes.io/config.hash"]
    );
    cluster.wait_ready_object("web-n1");
    assert_eq!(cluster.pod("web-n1").container("c").id, local.container("c").id);
    cluster.delete("web");
    cluster.wait_all_gone("web-n1");
}

#[test]
fn static_pods_do_not_wait_for_the_api_server() {
    let mut cluster = Cluster::without_agent(ClusterOptions::default());
    // Without the Node object nobody knows the pods' range: as of control planes, on the node's network.
    cluster.server.stop();
    cluster.begin();
    cluster.apply("web", &pod("web", &format!("hostNetwork: true\n{IDLER}")));
    let local = cluster.wait_ready("web-n1");
    assert!(cluster.server.list("pods").is_empty());
    cluster.server.start_again();
    cluster.wait_ready_object("web-n1");
    // Another spec is another pod, and its mirror another mirror.
    cluster.apply(
        "web",
        &pod("web", "hostNetwork: true\nhostname: other\ncontainers: [{name: c, image: IMAGE, command: IDLE}]"),
    );
    cluster.wait_pod("web-n1", "is another", |pod| pod.ready && pod.uid != local.uid);
    let mirror = cluster.wait_object("web-n1", "of the new spec", |pod| pod["spec"]["hostname"] == "other");
    assert_eq!(mirror["spec"]["nodeName"], "n1");
    cluster.wait_ready_object("web-n1");
}
