//! The API's JSON, decoded into what is needed of it.

use orlop_lb::{AddressType, LeanEndpointSlice, LeanNode, LeanService, TrafficDistribution};
use serde_json::json;

fn slice(value: serde_json::Value) -> LeanEndpointSlice {
    serde_json::from_str(&value.to_string()).unwrap()
}

#[test]
fn a_slice_as_the_controller_writes_it() {
    let slice = slice(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-abcde", "namespace": "shop", "uid": "u", "resourceVersion": "12", "generation": 3,
            "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "m", "fieldsV1": {"f:x": {}}}],
            "labels": {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "x"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "all"}],
        "endpoints": [
            {"addresses": ["10.1.0.4", "10.1.0.99"], "conditions": {"ready": true, "serving": true, "terminating": false},
             "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "shop", "uid": "p"}, "nodeName": "n1",
             "zone": "a", "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n1"}]}},
            {"addresses": ["10.1.0.5"], "conditions": {"ready": false, "serving": true, "terminating": true}, "nodeName": "n1"},
            {"addresses": ["10.1.0.6"], "targetRef": {"kind": "Node", "name": "n2"}},
        ],
    }));
    assert_eq!(slice.service().unwrap().to_string(), "shop/web");
    assert_eq!((slice.namespace(), slice.name(), slice.address_type()), ("shop", "web-abcde", AddressType::IPv4));
    assert_eq!((slice.ports().len(), slice.text(slice.ports()[0].name), slice.ports()[0].port), (1, "http", 8080));
    let seen: Vec<_> = slice
        .endpoints()
        .iter()
        .map(|one| {
            let flags = (one.flags.ready(), one.flags.serving(), one.flags.terminating());
            (one.addr.to_string(), flags, slice.text(one.pod), slice.text(one.node))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("10.1.0.4".to_owned(), (true, true, false), "web-1", "n1"),
            ("10.1.0.5".to_owned(), (false, true, true), "", "n1"),
            ("10.1.0.6".to_owned(), (true, true, false), "", ""),
        ]
    );
    let first = &slice.endpoints()[0];
    let texts = [first.hint_zones, first.hint_nodes].map(|span| slice.text(span));
    assert_eq!(texts, ["a,b", "n1"]);
    assert_eq!(slice.invalid(), []);
}

/// Eight hints of nodes with the longest names there are do not fit a span's length.
#[test]
fn many_long_hints() {
    let names: Vec<String> = (0..8).map(|n| format!("{n}-{}", "x".repeat(251))).collect();
    let hints: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    let endpoint = |ip: &str| json!({"addresses": [ip], "nodeName": "n1", "hints": {"forNodes": hints}});
    let slice = slice(json!({
        "metadata": {"name": "s", "namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"port": 81}], "endpoints": [endpoint("10.1.0.4"), endpoint("10.1.0.5")],
    }));
    for one in slice.endpoints() {
        assert_eq!(slice.text(one.hint_nodes), names.join(","));
        assert_eq!(slice.text(one.node), "n1");
    }
}

#[test]
fn what_cannot_be_used_is_named_and_the_rest_counts() {
    let slice = slice(json!({
        "metadata": {"name": "s", "namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 70000}, {"port": 80, "protocol": "QUIC"}, {"port": 81}],
        "endpoints": [
            {"addresses": ["10.1.0.4"]}, {"addresses": ["10.1.0"]}, {"addresses": []}, {"addresses": ["fd00::1"]},
            {"addresses": ["0.0.0.0"]}, {"addresses": ["10.1.0.5"]},
        ],
    }));
    assert_eq!((slice.endpoints().len(), slice.ports().len()), (2, 1));
    let invalid: Vec<String> = slice.invalid().iter().map(ToString::to_string).collect();
    assert_eq!(
        invalid,
        [
            "ports[0].port: 70000 is not between 1 and 65535",
            "ports[1].protocol: \"QUIC\" is not one of TCP, UDP and SCTP",
            "endpoints[1].addresses[0]: \"10.1.0\" is not an IP address",
            "endpoints[2].addresses: is empty",
            "endpoints[3].addresses[0]: fd00::1 is not IPv4, as the slice says",
            "endpoints[4].addresses[0]: 0.0.0.0 is no endpoint's address",
        ]
    );
}

#[test]
fn slices_of_nobody() {
    let check = |labels: serde_json::Value, kind: &str, expected: Option<&str>, endpoints: usize| {
        let slice = slice(json!({
            "metadata": {"name": "s", "namespace": "d", "labels": labels}, "addressType": kind, "ports": null,
            "endpoints": [{"addresses": [if kind == "FQDN" { "a.example" } else { "10.1.0.4" }], "conditions": {}}],
        }));
        assert_eq!(slice.service().map(|key| key.to_string()).as_deref(), expected);
        assert_eq!(slice.endpoints().len(), endpoints);
    };
    check(json!({"kubernetes.io/service-name": "web"}), "IPv4", Some("d/web"), 1);
    check(json!({"kubernetes.io/service-name": "web"}), "FQDN", Some("d/web"), 0);
    check(json!({"kubernetes.io/service-name": ""}), "IPv4", None, 1);
    check(json!(null), "IPv4", None, 1);
    check(json!({"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""}), "IPv4", None, 0);
    let other = json!({"kubernetes.io/service-name": "web", "service.kubernetes.io/service-proxy-name": "x"});
    check(other, "IPv4", None, 0);
}

#[test]
fn a_service_with_everything() {
    let service: LeanService = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b"}},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd96::7"],
            "selector": {"tier": "front", "app": "web"}, "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "protocol": "TCP"},
                      {"name": "dns", "port": 53, "targetPort": 5353, "nodePort": 30053, "protocol": "UDP"}],
            "externalIPs": ["192.0.2.1"], "loadBalancerSourceRanges": ["10.0.0.0/8", " 192.0.2.7/24", "all"],
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster", "healthCheckNodePort": 31000,
            "trafficDistribution": "PreferSameNode", "publishNotReadyAddresses": true,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "Proxy"}, {"hostname": "lb.example"}, {"ip": "x"}]}},
    }))
    .unwrap();
    assert_eq!(service.key.to_string(), "shop/web");
    assert_eq!(service.cluster_ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.96.0.7", "fd96::7"]);
    assert_eq!(service.selector.labels().collect::<Vec<_>>(), [("app", "web"), ("tier", "front")]);
    assert_eq!(
        service.ports.iter().map(|port| (port.port, port.node_port)).collect::<Vec<_>>(),
        [(80, Some(30080)), (53, Some(30053))]
    );
    assert!(service.publish_not_ready && service.is_served());
    let more = service.more.as_ref().unwrap();
    assert_eq!((more.affinity_s, more.external_local, more.internal_local), (Some(60), true, false));
    assert_eq!((more.health_check_node_port, more.distribution), (Some(31000), TrafficDistribution::SameNode));
    assert_eq!(more.source_ranges.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!((more.load_balancer_ips.len(), more.load_balancer_ips[0].proxy), (1, true));
    let invalid: Vec<String> = service.invalid.iter().map(ToString::to_string).collect();
    assert_eq!(
        invalid,
        [
            "status.loadBalancer.ingress[2].ip: \"x\" is not an IP address",
            "spec.loadBalancerSourceRanges[2]: \"all\" is not a CIDR"
        ]
    );
    let variables = service.variables().unwrap();
    assert_eq!((variables.name.as_str(), variables.cluster_ip.to_string().as_str()), ("web", "10.96.0.7"));
    assert_eq!(variables.ports.len(), 2);
}

#[test]
fn services_without_entries() {
    let check = |spec: serde_json::Value, labels: serde_json::Value| {
        let object = json!({"metadata": {"name": "a", "namespace": "d", "labels": labels}, "spec": spec});
        let service: LeanService = serde_json::from_value(object).unwrap();
        assert!(!service.is_served(), "{service:?}");
    };
    check(json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}), json!({}));
    check(json!({"type": "ExternalName", "externalName": "a.example"}), json!({}));
    check(json!({"clusterIP": "", "ports": [{"port": 80}]}), json!({}));
    let proxy = json!({"service.kubernetes.io/service-proxy-name": "other"});
    check(json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}), proxy);
    serde_json::from_value::<LeanService>(json!({"metadata": {"name": "..", "namespace": "d"}})).unwrap_err();
}

#[test]
fn a_node() {
    let node: LeanNode = serde_json::from_value(json!({
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64", "none"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"},
                          {"type": "ExternalIP", "address": "198.51.100.1"}, {"type": "InternalIP", "address": "n1"}],
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
        },
    }))
    .unwrap();
    assert_eq!((&*node.name, &*node.zone, node.ready), ("n1", "a", true));
    assert_eq!(
        node.addresses.iter().map(|one| (one.internal, one.ip.to_string())).collect::<Vec<_>>(),
        [(true, "192.0.2.1".to_owned()), (false, "198.51.100.1".to_owned())]
    );
    assert_eq!(node.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.0/24", "fd01::/64"]);
    assert_eq!(node.invalid.len(), 2);
}
