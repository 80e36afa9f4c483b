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

#[test]
fn known_but_not_acted_on() {
    let (_, warnings) = good(
        "type: LoadBalancer, sessionAffinity: ClientIP, externalTrafficPolicy: Local, externalIPs: [192.0.2.1], ports: [{port: 1}]",
    );
    let fields: Vec<&str> = warnings.iter().map(|text| text.split(" is not acted on yet").next().unwrap()).collect();
    assert_eq!(
        fields,
        ["spec.sessionAffinity", "spec.externalTrafficPolicy", "spec.externalIPs", "spec.type LoadBalancer"]
    );
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
