//! An API server that is away, busy, behind, or wrong: pods go on, and in the end it has what is so.

use orlop_apiserver::{Fault, Patch, Request, Status};
use orlop_tests::{Cluster, ClusterOptions, condition, container, pod};
use serde_json::json;
use std::fs;

const IDLER: &str = "containers: [{name: c, image: IMAGE, command: IDLE}]";

fn is_pod_watch(request: &Request) -> bool {
    request.verb == "watch" && request.resource == "pods"
}

/// The container's id, which another attempt would not have.
fn attempt(cluster: &Cluster, name: &str) -> Option<String> {
    cluster.pod(name).container("c").id.clone()
}

#[test]
fn while_it_is_away_pods_go_on_and_then_it_hears_all() {
    let cluster = Cluster::new();
    let spec = "restartPolicy: Never\ncontainers: [{name: c, image: IMAGE, command: [sh, -c, 'while [ ! -e /end ]; do sleep 0.1; done; exit 4']}]";
    cluster.create(&pod("ends", spec));
    for name in ["stays", "goes", "forced"] {
        cluster.create(&pod(name, IDLER));
    }
    for name in ["ends", "stays", "goes", "forced"] {
        cluster.wait_ready_object(name);
    }
    let stays = attempt(&cluster, "stays");
    cluster.server.stop();
    cluster.sh("ends", "touch /end").ok();
    cluster.wait_pod("ends", "Failed", |pod| pod.phase == "Failed");
    cluster.create(&pod("comes", IDLER));
    cluster.delete_pod("goes", None);
    cluster.delete_pod("forced", Some(0));
    assert_eq!(cluster.object("ends")["status"]["phase"], "Running");
    cluster.server.start_again();
    let ended = cluster.wait_object("ends", "Failed", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(container(&ended, "c")["state"]["terminated"]["exitCode"], 4);
    cluster.wait_ready_object("comes");
    cluster.wait_all_gone("goes");
    cluster.wait_all_gone("forced");
    assert_eq!(attempt(&cluster, "stays"), stays);
}

#[test]
fn a_status_that_is_not_taken_is_sent_again() {
    let cluster = Cluster::new();
    let conflict = "Operation cannot be fulfilled on pods \"p\": the object has been modified; please apply your changes to the latest version and try again";
    let refusals = [
        Fault::Refuse(Status::new(500, "InternalError", "etcdserver: request timed out")),
        Fault::Refuse(Status::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")),
        Fault::Refuse(Status::new(409, "Conflict", conflict)),
        Fault::TooManyRequests(1),
        Fault::Drop,
        Fault::DropAnswer,
    ];
    for (number, fault) in refusals.into_iter().enumerate() {
        let name = format!("p{number}");
        let rule = cluster.server.faults().on("patch", "pods/status", fault.clone(), Some(2));
        cluster.create(&pod(&name, IDLER));
        cluster.wait_ready_object(&name);
        assert!(cluster.server.faults().remove(rule) > 0, "{fault:?}");
        assert_eq!(cluster.pod(&name).container("c").restarts, 0, "{fault:?}");
    }
    // None of them was taken for the end of a pod.
    cluster.create(&pod("last", IDLER));
    cluster.wait_ready_object("last");
    let running = cluster.pods().iter().filter(|pod| pod.ready && pod.status == "Running").count();
    assert_eq!(running, 7, "{}", cluster.report());
}

#[test]
fn a_watch_that_breaks_loses_nothing() {
    let cluster = Cluster::new();
    cluster.create(&pod("first", IDLER));
    cluster.wait_ready_object("first");
    let first = attempt(&cluster, "first");
    for (number, fault) in [Fault::HalfALine, Fault::Gone, Fault::EndWatch].into_iter().enumerate() {
        let rule = cluster.server.faults().add(fault.clone(), Some(1), is_pod_watch);
        let name = format!("p{number}");
        cluster.create(&pod(&name, IDLER));
        cluster.wait_ready_object(&name);
        cluster.delete_pod(&name, None);
        cluster.wait_all_gone(&name);
        assert_eq!(cluster.server.faults().remove(rule), 1, "{fault:?}");
    }
    // History is gone while nobody watches.
    cluster.server.stop();
    cluster.create(&pod("late", IDLER));
    cluster.server.compact();
    cluster.server.start_again();
    cluster.wait_ready_object("late");
    assert_eq!(attempt(&cluster, "first"), first);
}

#[test]
fn a_server_that_is_busy_is_given_time() {
    let cluster = Cluster::new();
    let rule = cluster.server.faults().add(Fault::TooManyRequests(1), Some(3), |one| one.resource == "pods");
    cluster.server.faults().close_connections();
    cluster.create(&pod("p", IDLER));
    cluster.wait_ready_object("p");
    assert_eq!(cluster.server.faults().remove(rule), 3);
}

#[test]
fn a_token_that_is_renewed_on_disk_is_taken() {
    let cluster = Cluster::with(ClusterOptions { token_file: true, ..ClusterOptions::default() });
    cluster.create(&pod("before", IDLER));
    cluster.wait_ready_object("before");
    let before = attempt(&cluster, "before");
    let old = fs::read_to_string(cluster.folder("token")).unwrap();
    cluster.server.refuse_token(&old);
    cluster.server.faults().close_connections();
    // Only then is the watch of pods over.
    cluster.server.wait_requests(1, |one| one.code == 401 && one.resource == "pods");
    cluster.create(&pod("after", IDLER));
    cluster.server.wait_requests(3, |one| one.code == 401);
    assert_eq!(cluster.find("after"), None);
    let new = cluster.server.token_for("system:node:n1", &["system:nodes"]);
    fs::write(cluster.folder("token"), new).unwrap();
    cluster.wait_ready_object("after");
    assert_eq!(attempt(&cluster, "before"), before);
}

#[test]
fn a_server_that_fell_silent_is_left() {
    let cluster = Cluster::new();
    cluster.create(&pod("before", IDLER));
    cluster.wait_ready_object("before");
    let watches = cluster.server.count(is_pod_watch);
    // Of the machines behind the name the one that the node talks to is gone: nobody
    // answers on old connections. Who comes anew is held back too, until it is back.
    cluster.server.faults().freeze();
    cluster.create(&pod("after", IDLER));
    cluster
        .wait_until("the node has dropped its connection", || cluster.agent_log().contains("timed out").then_some(()));
    cluster.server.faults().thaw();
    cluster.wait_ready_object("after");
    assert!(cluster.server.count(is_pod_watch) > watches, "it watches on a new connection");
}

#[test]
fn a_server_that_came_back_with_an_older_state_is_believed_and_told() {
    let cluster = Cluster::new();
    cluster.create(&pod("known", IDLER));
    cluster.wait_ready_object("known");
    let attempt_of = attempt(&cluster, "known");
    let pending = cluster.server.snapshot();
    // Much happens afterwards: versions go far beyond those of the snapshot.
    for number in 0..30 {
        let text = json!({"metadata": {"annotations": {"n": number.to_string()}}});
        cluster.server.patch("pods", "default", "known", &Patch::Merge(text)).unwrap();
    }
    cluster.create(&pod("forgotten", IDLER));
    cluster.wait_ready_object("forgotten");
    cluster.server.stop();
    cluster.server.restore(&pending);
    cluster.server.start_again();
    // As with the kubelet, what the cluster does not know any more does not run.
    cluster.wait_gone("forgotten");
    assert_eq!(attempt(&cluster, "known"), attempt_of, "the pod that both states have goes on");
    // And what it says from now on counts, though its versions are smaller.
    cluster.create(&pod("new", IDLER));
    cluster.wait_ready_object("new");
    cluster.delete_pod("known", None);
    cluster.wait_all_gone("known");
}

#[test]
fn a_status_that_the_server_forgot_is_told_again() {
    let cluster = Cluster::new();
    cluster.create(&pod("p", IDLER));
    let fresh = cluster.server.snapshot();
    cluster.wait_ready_object("p");
    let before = attempt(&cluster, "p");
    cluster.server.stop();
    cluster.server.restore(&fresh);
    assert_ne!(condition(&cluster.object("p"), "Ready")["status"], "True");
    cluster.server.start_again();
    cluster.wait_ready_object("p");
    assert_eq!(attempt(&cluster, "p"), before);
}

#[test]
fn a_reader_that_is_behind_ends_no_pod() {
    let cluster = Cluster::new();
    let behind = cluster.server.snapshot();
    cluster.create(&pod("p", IDLER));
    cluster.wait_ready_object("p");
    let before = attempt(&cluster, "p");
    // One of several servers has not heard of the pod yet: its list is asked for with a version that it
    // does not have.
    let rule = cluster.server.faults().add(Fault::Stale(behind), Some(4), |one| {
        one.resource == "pods" && (one.verb == "list" || one.verb == "watch")
    });
    cluster.server.faults().close_connections();
    cluster.create(&pod("next", IDLER));
    cluster.wait_ready_object("next");
    cluster.server.faults().remove(rule);
    assert_eq!(attempt(&cluster, "p"), before);
}

#[test]
fn pods_of_one_name_follow_each_other() {
    let cluster = Cluster::new();
    let mut uids = Vec::new();
    for round in 0..8 {
        let made = cluster.create(&pod("web-0", IDLER));
        uids.push(made["metadata"]["uid"].clone());
        // Some are deleted before they run, some while they start, some when they are ready.
        match round % 3 {
            0 => drop(cluster.wait_ready_object("web-0")),
            1 => drop(cluster.wait_pod("web-0", "is known", |pod| made["metadata"]["uid"] == *pod.uid)),
            _ => {}
        }
        cluster.delete_pod("web-0", None);
        cluster.server.wait_gone("pods", "default", "web-0");
    }
    let last = cluster.create(&pod("web-0", IDLER));
    let ready = cluster.wait_ready_object("web-0");
    assert_eq!(ready["metadata"]["uid"], last["metadata"]["uid"]);
    assert_eq!(cluster.pod("web-0").uid, last["metadata"]["uid"]);
    cluster.wait_until("only the last is left", || (cluster.pods().len() == 1).then_some(()));
}
