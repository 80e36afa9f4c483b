//! Services whose backends are on another node, and connections that leave the cluster.

use orlop_tests::{Families, NodeAt, Nodes, Place, answer, ask};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::time::Duration;

const PORT: u16 = 30080;

fn with_port(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn any(ip: &str, port: u16) -> String {
    with_port(if ip.contains(':') { "::" } else { "0.0.0.0" }, port)
}

/// The Service `web` of type LoadBalancer with TCP and UDP on one node port, `spec` over it.
fn service(nodes: &Nodes, spec: Value, status: Value) {
    let mut object = json!({"metadata": {"name": "web"}, "status": status, "spec": {
        "type": "LoadBalancer", "clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50", "fd96::50"],
        "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"],
        "ports": [
            {"name": "tcp", "port": 80, "targetPort": 8080, "nodePort": PORT},
            {"name": "udp", "port": 80, "targetPort": 8080, "nodePort": PORT, "protocol": "UDP"},
        ],
    }});
    let fields = object["spec"].as_object_mut().unwrap();
    fields.extend(spec.as_object().unwrap().clone());
    let stored = nodes.server.create("services", object.clone()).expect("the Service");
    object["metadata"] = stored["metadata"].clone();
    nodes.server.update_status("services", object).expect("the status");
}

/// A slice a family with the pod `b` of the node `n2`.
fn slices(nodes: &Nodes, ips: &[String]) {
    for (n, ip) in ips.iter().enumerate() {
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": format!("web-{n}"), "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": [ip], "nodeName": "n2", "conditions": {"ready": true},
                           "targetRef": {"kind": "Pod", "namespace": "default", "name": "b"}}],
            "ports": [{"name": "tcp", "protocol": "TCP", "port": 8080}, {"name": "udp", "protocol": "UDP", "port": 8080}],
        });
        nodes.server.create("endpointslices", object).expect("the slice");
    }
}

/// Two nodes with the pod `b` on the second behind the Service `web`.
fn two(second: NodeAt, config: &str, spec: Value, status: Value) -> (Nodes, Vec<String>) {
    let at = |node: NodeAt| node.families(Families::Dual, Families::Dual).config(config);
    let nodes = Nodes::new(&[at(NodeAt::number(1)), at(second)]);
    let ips = nodes.idle_pod("n2", "b");
    service(&nodes, spec, status);
    slices(&nodes, &ips);
    (nodes, ips)
}

/// Waits until a client's connections to this address are answered.
fn wait_answered(nodes: &Nodes, client: &Place, addr: &str) {
    nodes.wait_until(&format!("{addr} answers"), || {
        client.connect_within(addr, Duration::from_millis(500)).ok().map(drop)
    });
}

/// From outside to a node port of `n1`; who the pod says its client is.
fn check_node_port(nodes: &Nodes, ips: &[String], wanted: impl Fn(&str) -> String) {
    let (outside, node) = (nodes.outside(), &nodes["n2"]);
    for ip in ips {
        let front = with_port(if ip.contains(':') { "fd99::1" } else { "10.99.0.1" }, PORT);
        let pod = node.in_pod("b");
        let (_tcp, _udp) = (pod.serve_tcp(&any(ip, 8080), "b"), pod.serve_udp(&any(ip, 8080), "b"));
        wait_answered(nodes, &outside, &front);
        let met = outside.talk(&front, &vec![7; 1_000_000]);
        assert_eq!((met.server.as_str(), met.peer.to_string()), ("b", front.clone()));
        assert_eq!(met.client.ip().to_canonical().to_string(), wanted(ip), "the client of {front}");
        let socket = outside.udp(&any(ip, 0));
        for question in ["one", "two"] {
            let (said, from) = ask(&socket, &front, question);
            assert_eq!((said, from.to_string()), (format!("b {question}"), front.clone()));
        }
        socket.connect(&front).unwrap();
        socket.send(b"three").unwrap();
        assert_eq!(answer(&socket).0, "b three");
    }
}

fn by_family(ip: &str, v4: &str, v6: &str) -> String {
    if ip.contains(':') { v6.to_owned() } else { v4.to_owned() }
}

#[test]
fn a_node_port_leads_to_a_pod_of_a_node_on_the_same_link() {
    let (nodes, ips) = two(NodeAt::number(2), "", json!({}), json!({}));
    check_node_port(&nodes, &ips, |ip| by_family(ip, "10.99.0.1", "fd99::1"));
}

#[test]
fn a_node_port_leads_to_a_pod_behind_a_router() {
    let (nodes, ips) = two(NodeAt::number(2).on_segment(1), "", json!({}), json!({}));
    check_node_port(&nodes, &ips, |ip| by_family(ip, "10.244.1.0", "fd24:1::"));
}

const DSR: &str = "services: {nodePortMode: dsr}";

#[test]
fn with_dsr_the_client_is_seen_and_answered_directly() {
    let (nodes, ips) = two(NodeAt::number(2), DSR, json!({}), json!({}));
    let sent = || nodes["n1"].on_host().statistics("up0").sent.1;
    let (v4, v6) = nodes.outside_ip();
    let before = sent();
    check_node_port(&nodes, &ips, |ip| by_family(ip, &v4, &v6));
    // The megabytes that the pod sent back did not come by the first node.
    assert!(sent() - before < 4_000_000, "{} bytes left the first node", sent() - before);
}

#[test]
fn with_dsr_through_a_tunnel() {
    let (nodes, ips) = two(NodeAt::number(2).on_segment(1), DSR, json!({}), json!({}));
    let (v4, v6) = nodes.outside_ip();
    check_node_port(&nodes, &ips, |ip| by_family(ip, &v4, &v6));
}

#[test]
fn a_local_policy_keeps_the_client_and_drops_where_no_pod_is() {
    let (nodes, ips) = two(NodeAt::number(2), "", json!({"externalTrafficPolicy": "Local"}), json!({}));
    let outside = nodes.outside();
    let _server = nodes["n2"].in_pod("b").serve_tcp(&any(&ips[0], 8080), "b");
    wait_answered(&nodes, &outside, "10.99.0.2:30080");
    assert_eq!(outside.met("10.99.0.2:30080").client.ip().to_string(), "10.99.9.1");
    let drops = || nodes["n1"].counters().node_drops.get("NoLocalBackend").copied().unwrap_or(0);
    nodes.wait_until("the other node drops", || {
        let _ = outside.connect_within("10.99.0.1:30080", Duration::from_millis(50));
        (drops() > 0).then_some(())
    });
    // From the cluster the address leads to every pod, as if it came from its load balancer.
    nodes.idle_pod("n1", "a");
    assert_eq!(nodes["n1"].in_pod("a").met("10.99.0.1:30080").server, "b");
}

#[test]
fn a_load_balancers_address_is_served_on_every_node() {
    let status =
        json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}]}});
    let spec = json!({"externalIPs": ["203.0.113.9"], "loadBalancerSourceRanges": ["10.99.9.0/24"]});
    let (nodes, ips) = two(NodeAt::number(2), "", spec, status);
    let _server = nodes["n2"].in_pod("b").serve_tcp(&any(&ips[0], 8080), "b");
    nodes.router().ip("route add 203.0.113.0/24 via 10.99.0.1");
    let outside = nodes.outside();
    for front in ["203.0.113.7:80", "203.0.113.9:80"] {
        wait_answered(&nodes, &outside, front);
        assert_eq!(outside.met(front).server, "b");
    }
    // A pod is in none of the ranges; an external address has none.
    nodes.idle_pod("n1", "a");
    let pod = nodes["n1"].in_pod("a");
    let refused = || {
        let _ = pod.connect_within("203.0.113.7:80", Duration::from_millis(50));
        let drops = nodes["n1"].counters().pods.into_iter().find(|one| one.name == "a").expect("a").drops_out;
        drops.get("SourceRange").filter(|drops| **drops > 0).map(drop)
    };
    nodes.wait_until("the pod is in no range", refused);
    assert_eq!(pod.met("203.0.113.9:80").server, "b");
}

#[test]
fn without_endpoints_everybody_is_refused_at_once() {
    let (nodes, _) = two(NodeAt::number(2), "", json!({}), json!({}));
    nodes.server.delete("endpointslices", "default", "web-0", None).unwrap();
    let refused = |place: &Place, addr: &str| {
        nodes.wait_until(&format!("{addr} is refused"), || {
            let error = place.connect_within(addr, Duration::from_secs(1)).err()?;
            (error.kind() == ErrorKind::ConnectionRefused).then_some(())
        });
    };
    refused(&nodes.outside(), "10.99.0.1:30080");
    refused(&nodes["n2"].in_pod("b"), "10.96.0.50:80");
    let socket = nodes.outside().udp_to("10.99.0.1:30080").unwrap();
    nodes.wait_until("a datagram is refused", || {
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = socket.send(b"anybody?");
        let error = socket.recv(&mut [0; 9]).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn what_leaves_the_cluster_has_the_nodes_address() {
    let nodes = Nodes::new(&[NodeAt::number(1).families(Families::Dual, Families::Dual), NodeAt::number(2)]);
    let (a, b) = (nodes.idle_pod("n1", "a"), nodes.idle_pod("n2", "b"));
    let (outside, (v4, v6)) = (nodes.outside(), nodes.outside_ip());
    let _tcp = [outside.serve_tcp("0.0.0.0:7000", "out"), outside.serve_tcp("[::]:7001", "out")];
    let _udp = outside.serve_udp("0.0.0.0:7000", "out");
    let pod = nodes["n1"].in_pod("a");
    for (front, node) in [(with_port(&v4, 7000), "10.99.0.1"), (with_port(&v6, 7001), "fd99::1")] {
        wait_answered(&nodes, &pod, &front);
        let met = pod.talk(&front, &vec![7; 1_000_000]);
        assert_eq!(met.client.ip().to_canonical().to_string(), node, "the client of {front}");
        assert!(met.client.port() >= 61_000, "{met:?}");
    }
    let socket = pod.udp("0.0.0.0:0");
    assert_eq!(ask(&socket, &with_port(&v4, 7000), "hello").0, "out hello");
    assert!(nodes["n1"].sh("a", &format!("ping -c 1 -W 5 {v4}")).ok().contains("1 packets received"));
    // Pods keep their address among each other, and the host has its own anyway.
    let _server = nodes["n2"].in_pod("b").serve_tcp("0.0.0.0:8080", "b");
    nodes.wait_reach("n1", "a", &with_port(&b[0], 8080));
    assert_eq!(pod.met(&with_port(&b[0], 8080)).client.ip().to_string(), a[0]);
    assert_eq!(nodes["n1"].on_host().met(&with_port(&v4, 7000)).client.ip().to_canonical().to_string(), "10.99.0.1");
    // Who is asked from outside answers as itself: the router sends outside's packets on.
    nodes.router().ip("route add 10.244.2.0/24 via 10.99.0.2");
    assert_eq!(outside.met(&with_port(&b[0], 8080)).peer.to_string(), with_port(&b[0], 8080));
}
