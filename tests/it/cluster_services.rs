//! Services whose backends the API server names.

use orlop_apiserver::{Bind, Controllers, Options, ReplicaSet, Update};
use orlop_tests::{Cluster, ClusterOptions, IMAGE, pod};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

const SERVICE: &str = "10.96.0.50";

fn cluster() -> Cluster {
    let controllers = Controllers { bind: Bind::To("n1".to_owned()), endpoint_slices: true, ..Controllers::default() };
    let server = Options { controllers, service_cidr: "10.96.0.0/16".to_owned(), ..Options::default() };
    let cluster = Cluster::with(ClusterOptions { server, ..ClusterOptions::default() });
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "clusterIP": SERVICE, "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}],
    }});
    cluster.server.create("services", service).expect("the Service");
    cluster
}

/// Serves until it is told to end, and still a while after that.
fn template(version: &str) -> serde_json::Value {
    let serve = format!(
        "mkdir /www; echo {version} > /www/index.html; touch /ready; httpd -f -p 8080 -h /www & \
         trap 'sleep 1; exit 0' TERM; wait"
    );
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 5, "automountServiceAccountToken": false, "containers": [{
            "name": "c", "image": IMAGE, "command": ["sh", "-c", serve],
            "readinessProbe": {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1},
        }]},
    })
}

fn set(count: usize, version: &str) -> ReplicaSet {
    ReplicaSet {
        namespace: "default".into(),
        name: "web".into(),
        count,
        template: template(version),
        update: Update::Rolling,
    }
}

fn active(cluster: &Cluster) -> usize {
    let services = cluster.services();
    let web = services.iter().find(|service| service.name == "web");
    web.map_or(0, |web| web.ports.iter().flat_map(|port| &port.backends).filter(|one| one.state == "active").count())
}

#[test]
fn a_rolling_replacement_fails_nobody() {
    let cluster = cluster();
    cluster.server.replicas(set(2, "one"));
    cluster.wait_until("two backends", || (active(&cluster) == 2).then_some(()));
    cluster.create(&pod("client", "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    cluster.wait_ready_object("client");
    let client = cluster.in_pod("client");
    let (end, mut failures) = (AtomicBool::new(false), Vec::new());
    let addr = format!("{SERVICE}:80");
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let (mut calls, mut failed) = (0, Vec::new());
            while !end.load(Ordering::SeqCst) {
                calls += 1;
                if let Err(error) = client.connect(&addr) {
                    failed.push(error.to_string());
                }
            }
            (calls, failed)
        });
        cluster.server.replicas(set(2, "two"));
        let all_new = orlop_tests::wait_for(|| {
            let pods: Vec<_> = cluster
                .server
                .list("pods")
                .into_iter()
                .filter(|pod| pod["metadata"]["labels"]["app"] == "web")
                .collect();
            let new =
                pods.iter().all(|pod| pod["spec"]["containers"][0]["command"][2].as_str().unwrap().contains("two"));
            (pods.len() == 2 && new && active(&cluster) == 2).then_some(())
        });
        end.store(true, Ordering::SeqCst);
        let (calls, failed) = calls.join().unwrap();
        assert!(all_new.is_some(), "{}", cluster.report());
        assert!(calls > 0);
        failures = failed;
    });
    cluster.server.replicas(set(0, "two"));
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_local_backend_is_out_before_the_slice_says_so() {
    let cluster = cluster();
    cluster.server.replicas(set(2, "one"));
    cluster.wait_until("two backends", || (active(&cluster) == 2).then_some(()));
    let pods = cluster.server.list("pods");
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    // The API server is gone: nobody can say it but the node itself.
    cluster.server.stop();
    cluster.sh(name, "rm /ready").ok();
    cluster.wait_until("one backend", || (active(&cluster) == 1).then_some(()));
    let slice = &cluster.server.list("endpointslices")[0];
    let ready = slice["endpoints"].as_array().unwrap().iter().filter(|one| one["conditions"]["ready"] == true).count();
    assert_eq!(ready, 2);
    cluster.sh(name, "touch /ready").ok();
    cluster.wait_until("two backends again", || (active(&cluster) == 2).then_some(()));
    cluster.server.start_again();
    cluster.server.replicas(set(0, "one"));
}
