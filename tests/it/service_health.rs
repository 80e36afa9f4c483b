//! What load balancers are told.

use orlop_tests::{Cluster, ClusterOptions, Place, World, object, pod};
use serde_json::{Value, json};
use std::io::{Read, Write};

const PORT: u16 = 32_100;

/// Status line, headers and body.
fn get(place: &Place, addr: &str, path: &str) -> Option<(u16, String, String)> {
    let mut stream = place.connect(addr).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_lowercase(), body.to_owned()))
}

fn service() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {
        "type": "LoadBalancer", "clusterIP": "10.96.3.1", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": PORT, "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30301}],
    }})
}

#[test]
fn a_health_check_port_follows_readiness_and_waits_for_its_port() {
    let server = orlop_apiserver::Options {
        controllers: orlop_apiserver::Controllers { endpoint_slices: true, ..orlop_apiserver::Controllers::default() },
        ..orlop_apiserver::Options::default()
    };
    let cluster = Cluster::with(ClusterOptions { server, ..ClusterOptions::default() });
    let (host, outside) = (cluster.on_host(), cluster.outside());
    // Somebody else has the port.
    let taken = host.listen(&format!("0.0.0.0:{PORT}"), 1);
    cluster.server.create("services", service()).expect("the Service");
    let told = cluster.wait_until("an event names Service and port", || {
        let events = cluster.server.list("events");
        events.into_iter().find(|event| event["reason"] == "FailedToStartServiceHealthcheck")
    });
    assert_eq!(told["involvedObject"]["name"], "web");
    assert!(told["message"].as_str().unwrap().contains(&format!("on port {PORT}")), "{told}");
    drop(taken);
    let addr = format!("10.99.0.1:{PORT}");
    let ask = || get(&outside, &addr, "/any");
    let (status, head, body) = cluster.wait_until("somebody answers", ask);
    assert_eq!(status, 503);
    assert!(head.contains("x-load-balancing-endpoint-weight: 0"), "{head}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let want = json!({
        "service": {"namespace": "default", "name": "web"}, "localEndpoints": 0, "serviceProxyHealthy": true,
    });
    assert_eq!(body, want);

    let ready = "{exec: {command: [test, -e, /ready]}, periodSeconds: 1}";
    let spec = format!("containers: [{{name: c, image: IMAGE, command: IDLE, readinessProbe: {ready}}}]");
    cluster.create(&pod("b", &spec).replace("name: b,", "name: b, labels: {app: web},"));
    cluster.wait_object("b", "running", |object| object["status"]["phase"] == "Running");
    assert_eq!(ask().unwrap().0, 503);
    let until = |want: u16| {
        let answer = || ask().filter(|(status, ..)| *status == want);
        cluster.wait_until(&format!("the check says {want}"), answer)
    };
    cluster.sh("b", "touch /ready").ok();
    assert!(until(200).1.contains("x-load-balancing-endpoint-weight: 1"));
    cluster.sh("b", "rm /ready").ok();
    until(503);

    // kube-proxy's own check, and the autoscaler's taint.
    let healthz = |path: &str| get(&outside, "10.99.0.1:10256", path);
    let (status, _, body) = cluster.wait_until("the node is healthy", || healthz("/healthz"));
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["nodeEligible"], &body["healthy"]), (200, &json!(true), &json!(true)), "{body}");
    let mut node = cluster.server.get("nodes", "", "n1").unwrap();
    node["spec"]["taints"] = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    cluster.server.update("nodes", node).expect("the taint");
    cluster.wait_until("the node is not eligible", || healthz("/healthz").filter(|(status, ..)| *status == 503));
    assert_eq!(healthz("/livez").unwrap().0, 200);

    // With the policy the check ends, and its port is anybody's.
    let mut object = cluster.server.get("services", "default", "web").unwrap();
    object["spec"]["externalTrafficPolicy"] = json!("Cluster");
    object["spec"]["healthCheckNodePort"] = Value::Null;
    cluster.server.update("services", object).expect("the policy");
    cluster.wait_until("nobody answers", || outside.connect(&addr).is_err().then_some(()));
    drop(host.listen(&format!("0.0.0.0:{PORT}"), 1));
}

#[test]
fn manifests_have_health_checks_and_the_agent_listens_where_it_is_told() {
    let config = "services: {healthzBindAddress: '127.0.0.1:10999', nodePortAddresses: [10.99.0.0/24]}".to_owned();
    let world = World::with(orlop_tests::Options { config: Some(config), ..orlop_tests::Options::default() });
    let spec = format!(
        "spec: {{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: {PORT}, \
         selector: {{app: web}}, ports: [{{port: 80}}]}}"
    );
    world.apply("web", &object("Service", "{name: web}", &spec));
    let (host, outside) = (world.on_host(), world.outside());
    let addr = format!("10.99.0.1:{PORT}");
    let (status, ..) = world.wait_until("the check answers", || get(&outside, &addr, "/"));
    assert_eq!(status, 503);
    // On the chosen addresses only.
    assert!(get(&host, &format!("127.0.0.1:{PORT}"), "/").is_none());
    assert_eq!(get(&host, "127.0.0.1:10999", "/healthz").unwrap().0, 200);
    assert_eq!(get(&host, "127.0.0.1:10999", "/other").unwrap().0, 404);
}
