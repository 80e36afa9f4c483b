//! EndpointSlices that change all the time, under constant new connections.

use orlop_tests::{Cluster, IMAGE, Place, pod, read_greeting, reset};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SERVICE: &str = "10.96.0.50:80";
const NODE_PORT: &str = "10.99.0.1:30080";
const PODS: [&str; 4] = ["a", "b", "c", "d"];
/// How often the slice is written.
const CHANGES: u64 = 10_000;
/// At least so many connections meet them.
const CONNECTS: u64 = 10_000;

fn slice(ips: &[String], which: u64) -> Value {
    let endpoints = ips.iter().enumerate().filter(|(n, _)| which >> n & 1 == 1);
    let endpoint = |(n, ip): (usize, &String)| {
        json!({"addresses": [ip], "nodeName": "n1", "conditions": {"ready": true},
               "targetRef": {"kind": "Pod", "namespace": "default", "name": PODS[n]}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": endpoints.map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
    })
}

fn active(cluster: &Cluster) -> Vec<String> {
    let services = cluster.services();
    let backends = services.iter().filter(|one| one.name == "web").flat_map(|web| &web.ports[0].backends);
    let mut active: Vec<String> =
        backends.filter(|one| one.state == "active").map(|one| one.addr.to_string()).collect();
    active.sort();
    active
}

#[test]
fn no_connection_fails_while_a_slice_changes_10000_times() {
    let mut cluster = Cluster::new();
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "type": "NodePort", "clusterIP": "10.96.0.50", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
    }});
    cluster.server.create("services", service).expect("the Service");
    let idle = format!("containers: [{{name: c, image: {IMAGE}, command: [sleep, inf]}}]");
    for name in PODS.into_iter().chain(["client"]) {
        cluster.create(&pod(name, &idle));
    }
    let ips: Vec<String> = PODS
        .iter()
        .map(|name| cluster.wait_ready_object(name)["status"]["podIP"].as_str().expect("an address").to_owned())
        .collect();
    cluster.wait_ready_object("client");
    let places = PODS.map(|name| cluster.in_pod(name));
    let servers: Vec<_> = PODS.iter().zip(&places).map(|(name, place)| place.serve_tcp("0.0.0.0:8080", name)).collect();
    cluster.server.create("endpointslices", slice(&ips, 1)).expect("the slice");
    cluster.wait_until("one backend", || (active(&cluster).len() == 1).then_some(()));

    let clients: [(Place, &str); 3] =
        [(cluster.in_pod("client"), SERVICE), (cluster.on_host(), SERVICE), (cluster.outside(), NODE_PORT)];
    let (stop, failures, connects) = (AtomicBool::new(false), Mutex::new(Vec::new()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (stop, failures, connects) = (&stop, &failures, &connects);
        for (place, addr) in &clients {
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // What was taken out still serves: every backend that was ever named is alive.
                    match place.connect(addr).and_then(|mut stream| Ok((read_greeting(&mut stream)?, stream))) {
                        Ok((met, stream)) => {
                            assert_eq!(met.peer.to_string(), *addr);
                            reset(stream);
                        }
                        Err(error) => failures.lock().unwrap().push(format!("{addr}: {error}")),
                    }
                    connects.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for change in 0..CHANGES {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let which = if change + 1 == CHANGES { 0b1010 } else { seed % 15 + 1 };
            cluster.server.update("endpointslices", slice(&ips, which)).expect("the slice");
            if change == CHANGES / 2 {
                cluster.restart();
            }
        }
        let mut last = vec![ips[1].clone(), ips[3].clone()];
        last.sort();
        cluster.wait_until("the last change is there", || (active(&cluster) == last).then_some(()));
        let enough = || (connects.load(Ordering::Relaxed) >= CONNECTS).then_some(());
        cluster.wait_until("enough connections", enough);
        stop.store(true, Ordering::Relaxed);
    });
    let (failures, connects) = (failures.into_inner().unwrap(), connects.load(Ordering::Relaxed));
    assert!(failures.is_empty(), "{} of {connects} connections failed: {:?}", failures.len(), &failures[..1]);
    let served: u64 = servers.iter().map(|server| server.served()).sum();
    assert_eq!(served, connects);
}
