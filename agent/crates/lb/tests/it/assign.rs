//! Addresses and node ports: stable, never shared, and refusals that name both sides.

use orlop_lb::{Assignment, LbError, Service, ServiceCidr, ServiceManifest, assign};
use std::collections::BTreeSet;

fn service(name: &str, spec: &str) -> Service {
    let text = format!("metadata: {{name: {name}}}\nspec: {{{spec}}}\n");
    let manifest: ServiceManifest = serde_saphyr::from_str(&text).unwrap();
    manifest.validate().unwrap().service
}

fn cidrs(texts: &[&str]) -> Vec<ServiceCidr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const PORTS: &str = "ports: [{port: 80}]";

#[test]
fn each_gets_its_own_and_keeps_it() {
    let cidrs = cidrs(&["10.96.0.0/24"]);
    let names: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
    let all = || names.iter().map(|name| service(name, &format!("type: NodePort, {PORTS}"))).collect::<Vec<_>>();
    let mut present = Assignment::default();
    let (first, errors) = assign(all(), &cidrs, &mut present);
    assert_eq!(errors, []);
    let ips: BTreeSet<_> = first.iter().map(|one| one.cluster_ips[0]).collect();
    let nodes: BTreeSet<_> = first.iter().map(|one| one.ports[0].node_port.unwrap()).collect();
    assert_eq!((ips.len(), nodes.len()), (100, 100));
    assert!(ips.iter().all(|ip| cidrs[0].contains(*ip)));

    // Others come and go; who stays keeps what it has, also without a memory of the rest.
    let kept: Vec<Service> = first.iter().skip(50).cloned().collect();
    let (again, _) = assign(all().into_iter().skip(50).collect(), &cidrs, &mut present);
    assert_eq!(again, kept);
    let json = serde_json::to_string(&present).unwrap();
    let mut restored: Assignment = serde_json::from_str(&json).unwrap();
    let mut more = all();
    more.push(service("aaa", PORTS));
    let (after, _) = assign(more, &cidrs, &mut restored);
    assert_eq!(after[50..100], kept);
}

#[test]
fn explicit_comes_before_remembered() {
    let cidrs = cidrs(&["10.96.0.0/24"]);
    let mut present = Assignment::default();
    let (first, _) = assign(vec![service("a", PORTS)], &cidrs, &mut present);
    let ip = first[0].cluster_ips[0];
    let both = vec![service("a", PORTS), service("b", &format!("clusterIP: {ip}, {PORTS}"))];
    let (second, errors) = assign(both, &cidrs, &mut present);
    assert_eq!(errors, []);
    assert_eq!(second[1].cluster_ips, [ip]);
    assert_ne!(second[0].cluster_ips, [ip]);
}

#[test]
fn refusals() {
    let check = |specs: &[&str], networks: &[&str], expected: &str| {
        let services = (0..).zip(specs).map(|(n, spec): (u8, _)| service(&format!("s{n}"), spec)).collect();
        let (_, errors) = assign(services, &cidrs(networks), &mut Assignment::default());
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, [expected]);
    };
    let v4 = &["10.96.0.0/24"][..];
    check(
        &["clusterIP: 10.96.0.7, ports: [{port: 80}]", "clusterIP: 10.96.0.7, ports: [{port: 81}]"],
        v4,
        "Service default/s1 asks for cluster IP 10.96.0.7, which Service default/s0 has: change or remove one of the two",
    );
    check(
        &[
            "type: NodePort, ports: [{port: 80, nodePort: 30080}]",
            "type: NodePort, ports: [{port: 80, nodePort: 30080}]",
        ],
        v4,
        "Service default/s1 asks for node port 30080/TCP, which Service default/s0 has: change or remove one of the two",
    );
    check(
        &["type: NodePort, ports: [{port: 80, nodePort: 80}]"],
        v4,
        "Service default/s0 asks for node port 80: the range of valid ports is 30000-32767",
    );
    check(
        &["clusterIP: 10.97.0.1, ports: [{port: 80}]"],
        v4,
        "Service default/s0 asks for cluster IP 10.97.0.1, which is in none of the service CIDRs (10.96.0.0/24)",
    );
    check(
        &["ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]"],
        v4,
        "Service default/s0 asks for an IPv6 address, but no service CIDR is IPv6: give one with --service-cidr",
    );
    check(&[PORTS, PORTS], &["10.96.0.0/30"], "Service default/s1 gets no cluster IP: all are taken");
}

#[test]
fn dual_stack_and_headless() {
    let networks = cidrs(&["10.96.0.0/16", "fd00:96::/108"]);
    let services = vec![
        service("single", PORTS),
        service("dual", &format!("ipFamilyPolicy: PreferDualStack, {PORTS}")),
        service("six", &format!("ipFamilies: [IPv6, IPv4], ipFamilyPolicy: RequireDualStack, {PORTS}")),
        service("none", &format!("clusterIP: None, {PORTS}")),
    ];
    let (services, errors) = assign(services, &networks, &mut Assignment::default());
    assert_eq!(errors, []);
    let families: Vec<Vec<bool>> =
        services.iter().map(|one| one.cluster_ips.iter().map(|ip| ip.is_ipv4()).collect()).collect();
    assert_eq!(families, [vec![true], vec![true, false], vec![false, true], vec![]]);
}

#[test]
fn cidrs_that_are_none() {
    for text in ["10.96.0.0", "10.96.0.1/16", "10.96.0.0/33", "x/8", "10.96.0.0/x", "10.96.0.0/31"] {
        assert!(matches!(text.parse::<ServiceCidr>(), Err(LbError::Cidr { .. })), "{text}");
    }
}

/// A load balancer that keeps the clients' addresses asks a port of its own; one
/// without node ports gets none that it does not name.
#[test]
fn load_balancers() {
    let cidrs = cidrs(&["10.96.0.0/24"]);
    let local = |more: &str| service("a", &format!("type: LoadBalancer, externalTrafficPolicy: Local, {more} {PORTS}"));
    let mut present = Assignment::default();
    let (first, errors) = assign(vec![local("")], &cidrs, &mut present);
    assert_eq!(errors, []);
    let port = first[0].health_check_node_port().unwrap();
    assert_ne!(Some(port), first[0].ports[0].node_port);
    // It stays, over a restart too.
    let json = serde_json::to_string(&present).unwrap();
    let mut present: Assignment = serde_json::from_str(&json).unwrap();
    let (again, _) = assign(vec![local("")], &cidrs, &mut present);
    assert_eq!(again, first);
    let other = service("b", &format!("type: NodePort, ports: [{{port: 1, nodePort: {port}}}]"));
    let (both, errors) = assign(vec![local(&format!("healthCheckNodePort: {port},")), other], &cidrs, &mut present);
    assert_eq!((both.len(), errors.len()), (1, 1));
    assert!(errors[0].to_string().contains(&format!("asks for node port {port}/TCP, which Service default/a has")));
    let outside = vec![local("healthCheckNodePort: 8080,")];
    let (_, errors) = assign(outside, &cidrs, &mut Assignment::default());
    assert_eq!(errors.len(), 1);

    let without = "type: LoadBalancer, allocateLoadBalancerNodePorts: false,";
    let ports = "ports: [{name: a, port: 80}, {name: b, port: 81, nodePort: 30081}]";
    let (services, _) = assign(vec![service("c", &format!("{without} {ports}"))], &cidrs, &mut Assignment::default());
    assert_eq!(services[0].ports.iter().map(|port| port.node_port).collect::<Vec<_>>(), [None, Some(30081)]);
    assert_eq!(services[0].health_check_node_port(), None);
}
