//! What Services can be told: who is led where, from where, and by which address.

use orlop_tests::{Cluster, Place, World, ask, labelled_pod, object, pod};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

const NODE: &str = "10.99.0.1";
const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";
/// How long a connection that nobody answers is waited for.
const SILENCE: Duration = Duration::from_millis(300);

/// A Service in the namespace `default`.
fn service(metadata: &str, spec: &str) -> String {
    object("Service", &format!("{{{metadata}}}"), &format!("spec: {{{spec}}}"))
}

/// Who is met in `times` connections.
fn met(client: &Place, addr: &str, times: usize) -> BTreeSet<String> {
    (0..times).map(|_| client.met(addr).server).collect()
}

#[track_caller]
fn is_refused(client: &Place, addr: &str) {
    assert_eq!(client.connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{addr}");
}

#[track_caller]
fn is_silent(client: &Place, addr: &str) {
    let kind = client.connect_within(addr, SILENCE).unwrap_err().kind();
    assert_ne!(kind, ErrorKind::ConnectionRefused, "{addr}: somebody answered");
}

#[test]
fn affinity_refusals_and_services_of_another_proxy() {
    let world = World::new();
    let backends = ["b", "c"].map(|name| labelled_pod(name, "app: web", SLEEP)).concat();
    let port = "ports: [{port: 80, targetPort: 8080, nodePort: NP}]";
    let of = |name: &str, more: &str, ip: &str, node_port: &str| {
        let port = port.replace("NP", node_port);
        service(&format!("name: {name}"), &format!("type: NodePort, clusterIP: {ip}, {more} {port}"))
    };
    world.apply("backends", &backends);
    world.apply(
        "services",
        &[
            of("sticky", "selector: {app: web}, sessionAffinity: ClientIP,", "10.96.1.1", "30101"),
            of("empty", "selector: {app: nobody},", "10.96.1.2", "30102"),
            service(
                "name: foreign, labels: {service.kubernetes.io/service-proxy-name: other}",
                "selector: {app: web}, clusterIP: 10.96.1.3, ports: [{port: 80, targetPort: 8080}]",
            ),
            service(
                "name: nobody-udp",
                "selector: {app: nobody}, type: NodePort, clusterIP: 10.96.1.4, \
                 ports: [{port: 53, nodePort: 30104, protocol: UDP}]",
            ),
        ]
        .concat(),
    );
    world.apply("a", &pod("a", SLEEP));
    world.wait_ready("a");
    world.wait_active("sticky", &["b", "c"]);
    let places = ["b", "c"].map(|name| (name, world.in_pod(name)));
    let _servers = places.each_ref().map(|(name, place)| place.serve_tcp("0.0.0.0:8080", name));
    let (a, host, outside) = (world.in_pod("a"), world.on_host(), world.outside());

    let node_port = format!("{NODE}:30101");
    for (client, addr) in [(&a, "10.96.1.1:80"), (&host, "10.96.1.1:80"), (&outside, node_port.as_str())] {
        assert_eq!(met(client, addr, 12).len(), 1, "{addr}: a client keeps its backend");
    }

    is_refused(&a, "10.96.1.2:80");
    is_refused(&host, "10.96.1.2:80");
    is_refused(&a, &format!("{NODE}:30102"));
    is_refused(&outside, &format!("{NODE}:30102"));
    // UDP from outside hears it by ICMP.
    let socket = outside.udp_to(&format!("{NODE}:30104")).unwrap();
    let refused = world.wait_until("a datagram is refused", || {
        let sent = socket.send(b"x").and_then(|_| socket.recv(&mut [0; 9]));
        sent.err().filter(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    drop(refused);

    // Its packets leave as they are.
    is_silent(&a, "10.96.1.3:80");
    let text = world.orlop(&["services"]).ok();
    for part in ["affinity=10800s", "other-proxy"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn host_ports_of_pods() {
    let mut world = World::new();
    let with = |name: &str, ports: &str| {
        let spec = format!("containers: [{{name: c, image: IMAGE, command: IDLE, ports: [{ports}]}}]");
        pod(name, &spec)
    };
    world.apply(
        "all",
        &with("all", "{containerPort: 80, hostPort: 8080}, {containerPort: 53, hostPort: 5353, protocol: UDP}"),
    );
    // One port of two pods, on one address each.
    let two = |ip: &str, other: u16| {
        let on = |port: u16| format!("{{containerPort: 80, hostPort: {port}, hostIP: {ip}}}");
        format!("{}, {}", on(other), on(8082))
    };
    world.apply("local", &with("local", &two("127.0.0.1", 8081)));
    world.apply("one", &with("one", &two(NODE, 30500)));
    world.apply("a", &pod("a", SLEEP));
    for name in ["all", "local", "one", "a"] {
        world.wait_ready(name);
    }
    let places = ["all", "local", "one"].map(|name| (name, world.in_pod(name)));
    let _servers = places.each_ref().map(|(name, place)| place.serve_tcp("0.0.0.0:80", name));
    let _udp = places[0].1.serve_udp("0.0.0.0:53", "all");
    let (a, host, outside) = (world.in_pod("a"), world.on_host(), world.outside());
    for client in [&a, &host, &outside] {
        assert_eq!(client.met(&format!("{NODE}:8080")).server, "all");
        // In the range of NodePorts.
        assert_eq!(client.met(&format!("{NODE}:30500")).server, "one");
        assert_eq!(ask(&client.udp("0.0.0.0:0"), &format!("{NODE}:5353"), "q").0, "all q");
        assert_eq!(client.met(&format!("{NODE}:8082")).server, "one");
        is_refused(client, &format!("{NODE}:8081"));
    }
    assert_eq!(host.met("127.0.0.1:8082").server, "local");
    assert_eq!(outside.met(&format!("{NODE}:8080")).client.ip().to_string(), "10.99.0.2", "the client is not hidden");
    assert_eq!(host.met("127.0.0.1:8080").server, "all");
    assert_eq!(host.met("127.0.0.1:8081").server, "local");
    // A pod's loopback is its own.
    is_refused(&a, "127.0.0.1:8081");
    is_refused(&host, "127.0.0.1:30500");
    let text = world.orlop(&["describe", "local"]).ok();
    assert!(text.contains("127.0.0.1:8081/TCP to "), "{text}");
    let text = world.orlop(&["services"]).ok();
    assert!(text.contains("10.99.0.1:30500/TCP   default/one"), "{text}");

    // Another agent finds them as they are.
    let before = world.agent_log();
    world.restart();
    let ready = || world.log_since(&before).contains("map_operations=0").then_some(());
    world.wait_until("the new agent has nothing to write", ready);
    assert_eq!(host.met("127.0.0.1:8081").server, "local");

    // A Service's node port goes first, and who does not get the port is told.
    let node_port = "type: NodePort, selector: {app: x}, ports: [{port: 80, nodePort: 30500}]";
    world.apply("taker", &service("name: taker", node_port));
    world.wait_event("one", "HostPortConflict", "Service default/taker");
    is_refused(&outside, &format!("{NODE}:30500"));
    world.delete("taker");
    world.wait_until("the pod has its port back", || outside.meet(&format!("{NODE}:30500")).ok());

    world.delete("all");
    world.wait_gone("all");
    is_refused(&outside, &format!("{NODE}:8080"));
    is_refused(&host, "127.0.0.1:8080");
    assert_eq!(host.met("127.0.0.1:8081").server, "local");
}

fn slice(service: &str, endpoints: &[(&str, &str)]) -> Value {
    let endpoint =
        |(ip, node): &(&str, &str)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
    })
}

/// A Service of the API server with these endpoints, addresses with the names of their nodes.
fn create(cluster: &Cluster, name: &str, spec: &Value, endpoints: &[(&str, &str)]) {
    let mut spec = spec.clone();
    spec["ports"] = json!([{"port": 80, "targetPort": 8080, "nodePort": spec["nodePort"]}]);
    spec.as_object_mut().unwrap().remove("nodePort");
    cluster.server.create("services", json!({"metadata": {"name": name}, "spec": spec})).expect("the Service");
    cluster.server.create("endpointslices", slice(name, endpoints)).expect("the slice");
}

#[test]
fn addresses_outside_and_traffic_policies() {
    let cluster = Cluster::new();
    for name in ["b", "client"] {
        cluster.create(&pod(name, "containers: [{name: c, image: IMAGE, command: IDLE}]"));
    }
    let ip = cluster.wait_ready_object("b")["status"]["podIP"].as_str().unwrap().to_owned();
    cluster.wait_ready_object("client");
    let local: &[(&str, &str)] = &[(&ip, "n1")];
    let remote: &[(&str, &str)] = &[("10.244.9.9", "n2")];
    let balanced = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.2.1", "nodePort": 30201, "externalTrafficPolicy": "Local",
        "externalIPs": ["198.51.100.1"], "loadBalancerSourceRanges": ["10.99.0.2/32"],
    });
    create(&cluster, "balanced", &balanced, local);
    let both = [local, remote].concat();
    create(&cluster, "inner", &json!({"clusterIP": "10.96.2.2", "internalTrafficPolicy": "Local"}), &both);
    let elsewhere = json!({
        "type": "NodePort", "clusterIP": "10.96.2.3", "nodePort": 30203,
        "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
    });
    create(&cluster, "elsewhere", &elsewhere, remote);
    let status = |ip: &str| {
        let mut object = cluster.server.get("services", "default", "balanced").unwrap();
        object["status"] = json!({"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"}]}});
        cluster.server.update_status("services", object).expect("the status");
    };
    status("198.51.100.2");
    let (b, client, outside) = (cluster.in_pod("b"), cluster.in_pod("client"), cluster.outside());
    let _server = b.serve_tcp("0.0.0.0:8080", "b");
    outside.ip(&format!("route add 198.51.100.0/24 via {NODE}"));
    cluster.wait_until("the balancer's address is served", || outside.meet("198.51.100.2:80").ok());

    for addr in ["198.51.100.1:80", "198.51.100.2:80", "10.99.0.1:30201"] {
        let found = outside.met(addr);
        assert_eq!((found.peer.to_string().as_str(), found.client.ip().to_string().as_str()), (addr, "10.99.0.2"));
    }
    for addr in ["198.51.100.1:80", "10.99.0.1:30201"] {
        assert_eq!(client.met(addr).server, "b", "{addr}");
    }
    // The pod is in none of the ranges.
    is_silent(&client, "198.51.100.2:80");
    // Only the local one of two.
    assert_eq!(met(&client, "10.96.2.2:80", 12).len(), 1);
    // Other nodes may have it: from outside nothing is said. Here nobody can help.
    is_silent(&outside, "10.99.0.1:30203");
    is_refused(&client, "10.96.2.3:80");
    let text = cluster.orlop(&["services"]).ok();
    let row = "198.51.100.2,198.51.100.1   external=Local,from=10.99.0.2/32";
    assert!(text.contains(row) && text.contains("internal=Local"), "{text}");

    // The balancer got another address, and serves others.
    status("198.51.100.3");
    cluster.wait_until("the new address is served", || outside.meet("198.51.100.3:80").ok());
    is_silent(&outside, "198.51.100.2:80");
    let mut object = cluster.server.get("services", "default", "balanced").unwrap();
    object["spec"]["loadBalancerSourceRanges"] = json!(["203.0.113.0/24"]);
    cluster.server.update("services", object).expect("the ranges");
    cluster.wait_until("the client is not served", || {
        outside.connect_within("198.51.100.3:80", SILENCE).is_err().then_some(())
    });
    // Ranges are for the balancer's addresses alone.
    assert_eq!(outside.met("198.51.100.1:80").server, "b");
    cluster.delete_pod("b", None);
}
