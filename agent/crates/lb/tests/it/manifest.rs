//! Manifests: what is refused, in which words, and what is only warned about.

use orlop_lb::{Service, ServiceManifest, ServiceType, TargetPort};

fn parse(spec: &str) -> ServiceManifest {
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}}}\n");
    serde_saphyr::from_str(&text).unwrap()
}

fn good(spec: &str) -> (Service, Vec<String>) {
    let validated = parse(spec).validate().unwrap();
    (validated.service, validated.warnings)
}

#[test]
fn refusals() {
    let check = |spec: &str, expected: &str| {
        let error = parse(spec).validate().unwrap_err().to_string();
        assert_eq!(error, format!("Service \"default/web\" is invalid: {expected}"), "{spec}");
    };
    check("ports: [{port: 70000}]", "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive");
    check("ports: [{port: -1}]", "spec.ports[0].port: Invalid value: -1: must be between 1 and 65535, inclusive");
    check("ports: [{name: a}]", "spec.ports[0].port: Required value");
    check("ports: []", "spec.ports: Required value");
    check("ports: [{port: 1, name: a}, {port: 2}]", "spec.ports[1].name: Required value");
    check("ports: [{port: 1, name: a}, {port: 2, name: a}]", "spec.ports[1].name: Duplicate value: \"a\"");
    check("ports: [{port: 1, name: a}, {port: 1, name: b}]", "spec.ports[1]: Duplicate value: 1/TCP");
    check(
        "ports: [{port: 1, protocol: tcp}]",
        "spec.ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
    );
    check(
        "ports: [{port: 1, targetPort: 65536}]",
        "spec.ports[0].targetPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
    );
    check(
        "ports: [{port: 1, targetPort: '80'}]",
        "spec.ports[0].targetPort: Invalid value: \"80\": must contain at least one letter (a-z)",
    );
    check(
        "ports: [{port: 1, nodePort: 30000}]",
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    );
    check(
        "type: Cluster, ports: [{port: 1}]",
        "spec.type: Unsupported value: \"Cluster\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
    );
    check(
        "clusterIP: 10.96.0, ports: [{port: 1}]",
        "spec.clusterIP: Invalid value: \"10.96.0\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    );
    check(
        "clusterIP: None, type: NodePort, ports: [{port: 1}]",
        "spec.clusterIP: Invalid value: \"None\": may not be set to 'None' for NodePort services",
    );
    check("type: ExternalName", "spec.externalName: Required value");
    check(
        "ports: [{port: 0, protocol: x}], type: ExternalName, externalName: a",
        "spec.ports[0].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"; \
         spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    );
    let manifest: ServiceManifest =
        serde_saphyr::from_str("metadata: {name: Web}\nspec: {ports: [{port: 1}]}").unwrap();
    let error = manifest.validate().unwrap_err().to_string();
    assert!(error.contains("metadata.name: Invalid value: \"Web\": may hold only"), "{error}");
}

#[test]
fn defaults() {
    let (service, warnings) = good("selector: {app: web}, ports: [{port: 80}]");
    assert!(warnings.is_empty());
    assert_eq!(service.kind, ServiceType::ClusterIP);
    assert_eq!(service.ports[0].target_port, TargetPort::Number(80));
    assert_eq!(service.key.to_string(), "default/web");
    let (service, _) = good("clusterIP: None, ports: [{port: 80, targetPort: http}]");
    assert!(service.headless && service.cluster_ips.is_empty());
    assert_eq!(service.ports[0].target_port, TargetPort::Name("http".to_owned()));
}

/// In the API server's words (pkg/apis/core/validation of Kubernetes 1.36).
#[test]
fn traffic_refusals() {
    let check = |spec: &str, expected: &str| {
        let error = parse(&format!("{spec}, ports: [{{port: 1}}]")).validate().unwrap_err().to_string();
        assert_eq!(error, format!("Service \"default/web\" is invalid: {expected}"), "{spec}");
    };
    check(
        "sessionAffinity: Cookie",
        "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
    );
    for timeout in ["0", "-1", "86401"] {
        check(
            &format!("sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {timeout}}}}}"),
            &format!(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: {timeout}: \
                 must be greater than 0 and less than 86400"
            ),
        );
    }
    check(
        "externalTrafficPolicy: Local",
        "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
    );
    check(
        "type: NodePort, externalTrafficPolicy: local",
        "spec.externalTrafficPolicy: Unsupported value: \"local\": supported values: \"Cluster\", \"Local\"",
    );
    check(
        "internalTrafficPolicy: Node",
        "spec.internalTrafficPolicy: Unsupported value: \"Node\": supported values: \"Cluster\", \"Local\"",
    );
    let external = |ip: &str, problem: &str| {
        check(&format!("externalIPs: ['{ip}']"), &format!("spec.externalIPs[0]: Invalid value: \"{ip}\": {problem}"));
    };
    external("192.0.2", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    external("0.0.0.0", "may not be unspecified (0.0.0.0)");
    external("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    external("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    external("ff02::1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    check(
        "loadBalancerSourceRanges: [10.0.0.0/8]",
        "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
    );
    check(
        "type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8 ', 10.0.0.0]",
        "spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0.0\": \
         must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
    );
    check(
        "allocateLoadBalancerNodePorts: false",
        "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
    );
    check(
        "type: NodePort, loadBalancerClass: example.com/x",
        "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
    );
    check(
        "type: LoadBalancer, healthCheckNodePort: 31000",
        "spec.healthCheckNodePort: Invalid value: 31000: \
         may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
    );
    check(
        "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 70000",
        "spec.healthCheckNodePort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    );
    check(
        "trafficDistribution: PreferFar",
        "spec.trafficDistribution: Unsupported value: \"PreferFar\": \
         supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
    );
}

/// Nobody else would write it, so a manifest may.
#[test]
fn status_of_the_load_balancer() {
    let manifest = |kind: &str, ingress: &str| -> ServiceManifest {
        let spec = format!("spec: {{type: {kind}, ports: [{{port: 1}}]}}");
        let text = format!("metadata: {{name: web}}\n{spec}\nstatus: {{loadBalancer: {{ingress: [{ingress}]}}}}\n");
        serde_saphyr::from_str(&text).unwrap()
    };
    let check = |kind: &str, ingress: &str, expected: &str| {
        let error = manifest(kind, ingress).validate().unwrap_err().to_string();
        assert_eq!(error, format!("Service \"default/web\" is invalid: {expected}"), "{ingress}");
    };
    let ingress = "{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: Proxy, ports: [{port: 1}]}, {hostname: lb.example}";
    let good = manifest("LoadBalancer", ingress).validate().unwrap();
    assert_eq!(good.warnings, [""; 0]);
    let ips: Vec<_> = good.service.more().load_balancer_ips.iter().map(|one| (one.ip.to_string(), one.proxy)).collect();
    assert_eq!(ips, [("192.0.2.1".to_owned(), false), ("192.0.2.2".to_owned(), true)]);
    let forbidden = "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'";
    check("ClusterIP", "{ip: 192.0.2.1}", forbidden);
    let path = "status.loadBalancer.ingress[0]";
    let words = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    check("LoadBalancer", "{ip: x}", &format!("{path}.ip: Invalid value: \"x\": {words}"));
    let supported = "supported values: \"Proxy\", \"VIP\"";
    check(
        "LoadBalancer",
        "{ip: 192.0.2.1, ipMode: X}",
        &format!("{path}.ipMode: Unsupported value: \"X\": {supported}"),
    );
    let forbidden = format!("{path}.ipMode: Forbidden: may not be specified when `ip` is not set");
    check("LoadBalancer", "{hostname: lb.example, ipMode: VIP}", &forbidden);
}

#[test]
fn traffic_that_is_acted_on() {
    let (service, warnings) = good(
        "type: NodePort, sessionAffinity: ClientIP, externalTrafficPolicy: Local, internalTrafficPolicy: Local, \
         externalIPs: [192.0.2.1, '::ffff:192.0.2.2'], trafficDistribution: PreferClose, ports: [{port: 1, protocol: SCTP}]",
    );
    assert_eq!(warnings, [""; 0]);
    let more = service.more();
    assert_eq!((more.affinity_s, more.internal_local, service.external_local()), (Some(10_800), true, true));
    assert_eq!(more.external_ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2"]);
    let (service, warnings) = good("sessionAffinity: None, externalTrafficPolicy: '', ports: [{port: 1}]");
    assert!(warnings.is_empty() && service.more.is_none());
    let text =
        "metadata: {name: web, labels: {service.kubernetes.io/service-proxy-name: x}}\nspec: {ports: [{port: 1}]}";
    let manifest: ServiceManifest = serde_saphyr::from_str(text).unwrap();
    assert!(!manifest.validate().unwrap().service.is_served());
}

/// What nodes leave to a controller.
#[test]
fn for_a_controller_that_is_not_here() {
    let (_, warnings) =
        good("type: LoadBalancer, loadBalancerIP: 192.0.2.1, loadBalancerClass: a/b, ports: [{port: 1}]");
    let fields: Vec<&str> = warnings.iter().map(|text| text.split(" is for").next().unwrap()).collect();
    assert_eq!(fields, ["spec.loadBalancerIP", "spec.loadBalancerClass", "spec.type LoadBalancer"]);
}

#[test]
fn only_unknown_fields_are_reported() {
    let text = r#"{"apiVersion":"v1","kind":"Service","status":{"loadBalancer":{"ingress":[]}},
        "metadata":{"name":"web","labels":{"a":"b"},"managedFields":[{"fieldsV1":{"f:x":{}}}],"creationTimestamp":null},
        "spec":{"sessionAffinityConfig":{"clientIP":{"timeoutSeconds":3}},"prots":[],"ports":[{"port":1,"appProtocol":"x","prot":1}]}}"#;
    let mut unknown = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let manifest: ServiceManifest =
        serde_ignored::deserialize(&mut json, |path| unknown.push(path.to_string())).unwrap();
    assert_eq!(unknown, ["spec.prots", "spec.ports.?.0.prot"]);
    manifest.validate().unwrap();
}
