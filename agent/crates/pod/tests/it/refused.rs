//! What is refused or warned of, and in which words.

mod spec;
mod volumes;

use crate::desired::{admit_pod, pod, with};
use orlop_pod::Rejection;

/// Errors (or, for an admitted pod, warnings after `warning: `), one a line.
fn findings(spec: &str) -> String {
    let lines = match admit_pod(&pod(spec)) {
        Ok(admitted) => admitted.warnings.iter().map(|warning| format!("warning: {warning}")).collect::<Vec<_>>(),
        Err(rejection) => rejection.errors.iter().map(ToString::to_string).collect(),
    };
    lines.join("\n")
}

#[track_caller]
fn check(spec: &str, want: &str) {
    assert_eq!(findings(spec), want, "\n{spec}");
}

/// Each row: fields of a container, and what is wrong, below `spec.containers[0].`.
#[track_caller]
fn check_container(rows: &[(&str, &str)]) {
    for (fields, want) in rows {
        let want: Vec<String> = want.lines().map(|line| format!("spec.containers[0].{line}")).collect();
        check(&with(fields), &want.join("\n"));
    }
}

/// Each row: fields of the spec, and what is wrong, below `spec.`.
#[track_caller]
fn check_spec(rows: &[(&str, &str)]) {
    for (fields, want) in rows {
        let warning = |line: &str| line.strip_prefix("warning: ").map(|rest| format!("warning: spec.{rest}"));
        let want: Vec<String> = want.lines().map(|l| warning(l).unwrap_or_else(|| format!("spec.{l}"))).collect();
        check(&format!("{{containers: [{{name: a, image: x:1}}], {fields}}}"), &want.join("\n"));
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[test]
fn names_and_images() {
    check("containers: []", "spec.containers: Required value");
    check("containers: [{name: a}]", "spec.containers[0].image: Required value");
    check("containers: [{image: x:1}]", "spec.containers[0].name: Required value");
    check("containers: [{}]", "spec.containers[0].name: Required value\nspec.containers[0].image: Required value");
    for bad in ["A", "a_b", "a.b", "-a", "a-"] {
        check(
            &format!("containers: [{{name: \"{bad}\", image: x:1}}]"),
            &format!("spec.containers[0].name: Invalid value: {bad:?}: {LABEL}"),
        );
    }
    let long = "a".repeat(64);
    check(
        &format!("containers: [{{name: {long}, image: x:1}}]"),
        &format!("spec.containers[0].name: Invalid value: {long:?}: must be no more than 63 bytes"),
    );
    check(
        "{containers: [{name: a, image: x:1}, {name: a, image: x:1}], initContainers: [{name: a, image: x:1}]}",
        "spec.containers[0].name: Duplicate value: \"a\"\nspec.containers[1].name: Duplicate value: \"a\"",
    );
    check(
        "containers: [{name: a, image: \" x\"}]",
        "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
    );
    check(
        "containers: [{name: a, image: \"x y\"}]",
        "spec.containers[0].image: Invalid value: \"x y\": holds white space",
    );
}

#[test]
fn metadata_is_checked() {
    for (name, namespace, label, want) in [
        ("", "", "", "metadata.name: Required value: name or generateName is required"),
        ("web", "Default", "", "metadata.namespace: Invalid value: \"Default\": a lowercase RFC 1123 label"),
        ("../x", "", "", "metadata.name: Invalid value: \"../x\": a lowercase RFC 1123 subdomain"),
        ("web", "", "-x", "metadata.labels: Invalid value: \"-x\": a valid label must be an empty string"),
    ] {
        let mut pod = pod(&with(""));
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some(namespace.to_owned());
        pod.metadata.labels = Some([("app".to_owned(), label.to_owned())].into());
        let rejection = admit_pod(&pod).unwrap_err();
        assert_eq!(rejection.errors.len(), 1, "{rejection}");
        assert!(rejection.errors[0].to_string().starts_with(want), "{rejection}");
    }
}

#[test]
fn ports() {
    let range = "must be between 1 and 65535, inclusive";
    check_container(&[
        ("ports: [{}]", "ports[0].containerPort: Required value"),
        ("ports: [{containerPort: 0}]", "ports[0].containerPort: Required value"),
        ("ports: [{containerPort: -1}]", &format!("ports[0].containerPort: Invalid value: -1: {range}")),
        ("ports: [{containerPort: 65536}]", &format!("ports[0].containerPort: Invalid value: 65536: {range}")),
        ("ports: [{containerPort: 1, hostPort: 65536}]", &format!("ports[0].hostPort: Invalid value: 65536: {range}")),
        (
            "ports: [{containerPort: 1, protocol: tcp}]",
            "ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            "ports: [{containerPort: 1, name: http}, {containerPort: 2, name: http}]",
            "ports[1].name: Duplicate value: \"http\"",
        ),
        (
            "ports: [{containerPort: 1, name: \"80\"}]",
            "ports[0].name: Invalid value: \"80\": must contain at least one letter (a-z)",
        ),
        (
            "ports: [{containerPort: 1, name: a-name-of-16-char}]",
            "ports[0].name: Invalid value: \"a-name-of-16-char\": must be no more than 15 characters long",
        ),
        (
            "ports: [{containerPort: 1, name: a--b}]",
            "ports[0].name: Invalid value: \"a--b\": must not contain consecutive hyphens",
        ),
        (
            "ports: [{containerPort: 1, name: -a}]",
            "ports[0].name: Invalid value: \"-a\": must not begin or end with a hyphen",
        ),
        (
            "ports: [{containerPort: 1, hostPort: 1, hostIP: x}]",
            "ports[0].hostIP: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ]);
    check(
        "{hostNetwork: true, containers: [{name: a, image: x:1, ports: [{containerPort: 80}]}, {name: b, image: x:1, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]}",
        "spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//80\"",
    );
    check(
        "{hostNetwork: true, containers: [{name: a, image: x:1, ports: [{containerPort: 80, hostPort: 81}]}]}",
        "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
    );
}

#[test]
fn env() {
    let rule = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    let from = "env: [{name: A, valueFrom:";
    check_container(&[
        ("env: [{value: x}]", "env[0].name: Required value"),
        ("env: [{name: a=b}]", &format!("env[0].name: Invalid value: \"a=b\": {rule}")),
        (
            "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            &format!("{from} {{}}}}]"),
            "env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        (
            &format!("{from} {{fieldRef: {{fieldPath: metadata.name}}, secretKeyRef: {{name: s, key: k}}}}}}]"),
            "env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time",
        ),
        (
            &format!("{from} {{fieldRef: {{fieldPath: status.phase}}}}}}]"),
            "env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.annotations['<KEY>']\", \"metadata.labels['<KEY>']\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ),
        (&format!("{from} {{fieldRef: {{}}}}}}]"), "env[0].valueFrom.fieldRef.fieldPath: Required value"),
        (
            &format!("{from} {{configMapKeyRef: {{name: c}}}}}}]"),
            "env[0].valueFrom.configMapKeyRef.key: Required value",
        ),
        (&format!("{from} {{secretKeyRef: {{key: k}}}}}}]"), "env[0].valueFrom.secretKeyRef.name: Required value"),
        (
            &format!("{from} {{resourceFieldRef: {{resource: limits.gpu}}}}}}]"),
            "env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
        ),
        (
            &format!("{from} {{resourceFieldRef: {{resource: limits.cpu, containerName: z}}}}}}]"),
            "env[0].valueFrom.resourceFieldRef.containerName: Not found: \"z\"",
        ),
        (
            &format!("{from} {{resourceFieldRef: {{resource: limits.cpu, divisor: 2}}}}}}]"),
            "env[0].valueFrom.resourceFieldRef.divisor: Unsupported value: \"2\": supported values: \"1\", \"1m\"",
        ),
        ("envFrom: [{}]", "envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"),
        ("envFrom: [{configMapRef: {}}]", "envFrom[0].configMapRef.name: Required value"),
        (
            "envFrom: [{prefix: \"=\", secretRef: {name: s}}]",
            &format!("envFrom[0].prefix: Invalid value: \"=\": {rule}"),
        ),
    ]);
}

#[test]
fn probes() {
    check_container(&[
        ("livenessProbe: {}", "livenessProbe: Required value: must specify a handler type"),
        (
            "livenessProbe: {exec: {command: [x]}, tcpSocket: {port: 1}}",
            "livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        ("readinessProbe: {grpc: {port: 1}}", "readinessProbe.grpc: Forbidden: not supported by Orlop yet"),
        ("startupProbe: {exec: {}}", "startupProbe.exec.command: Required value"),
        (
            "livenessProbe: {tcpSocket: {port: 0}}",
            "livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "livenessProbe: {httpGet: {port: web}}",
            "livenessProbe.httpGet.port: Invalid value: \"web\": no port of this container has that name",
        ),
        (
            "livenessProbe: {httpGet: {port: 1, scheme: http}}",
            "livenessProbe.httpGet.scheme: Unsupported value: \"http\": supported values: \"HTTP\", \"HTTPS\"",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: -1}",
            "livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "startupProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
            "startupProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "livenessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}",
            "livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            "readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 1}",
            "readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
        ),
    ]);
    check(
        "{containers: [{name: a, image: x:1}], initContainers: [{name: i, image: x:1, readinessProbe: {tcpSocket: {port: 1}}}]}",
        "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    );
}

#[test]
fn resources() {
    check_container(&[
        (
            "resources: {limits: {cpu: x}}",
            "resources.limits.cpu: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "resources: {requests: {memory: \"-1\"}}",
            "resources.requests.memory: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            "resources: {limits: {cpu: 1}, requests: {cpu: 1100m}}",
            "resources.requests: Invalid value: \"1100m\": must be less than or equal to cpu limit of 1",
        ),
        (
            "resources: {limits: {nvidia.com/gpu: 1}}",
            "resources.limits.nvidia.com/gpu: Forbidden: not supported by Orlop yet",
        ),
        (
            "resources: {limits: {hugepages-2Mi: 2Mi}}",
            "resources.limits.hugepages-2Mi: Forbidden: not supported by Orlop yet",
        ),
        (
            "resources: {limits: {gpu: 1}}",
            "resources.limits.gpu: Invalid value: \"gpu\": must be a standard resource for containers",
        ),
        ("resources: {claims: [{name: c}]}", "resources.claims: Forbidden: not supported by Orlop yet"),
    ]);
}

#[test]
fn all_errors_at_once_and_as_the_api_server_prints_them() {
    let rejection: Rejection = admit_pod(&pod(
        "{restartPolicy: x, hostUsers: false, containers: [{name: a, ports: [{containerPort: 70000}]}]}",
    ))
    .unwrap_err();
    assert_eq!(rejection.reason, "Invalid");
    assert_eq!(
        rejection.to_string(),
        "Pod \"web\" is invalid: [spec.hostUsers: Forbidden: not supported by Orlop yet, spec.containers[0].image: Required value, spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive, spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\", \"OnFailure\"]"
    );
    let single = admit_pod(&pod("containers: [{name: a}]")).unwrap_err();
    assert_eq!(single.to_string(), "Pod \"web\" is invalid: spec.containers[0].image: Required value");
}

#[test]
fn bandwidth_annotations_warn_of_what_will_happen() {
    let check = |annotations: &str, host_network: bool, want: &[&str]| {
        let mut pod = pod(&with(""));
        let pairs = annotations.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        let map = pairs.map(|(key, value)| (format!("kubernetes.io/{key}-bandwidth"), value.to_owned())).collect();
        pod.metadata.annotations = Some(map);
        pod.spec.as_mut().unwrap().host_network = Some(host_network);
        let admitted = admit_pod(&pod).unwrap();
        let got: Vec<String> = admitted.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(got, want, "{annotations}");
        assert_eq!(admitted.pod.annotations, pod.metadata.annotations.unwrap());
    };
    check("ingress=1M egress=500k", false, &[]);
    check(
        "ingress=1",
        false,
        &["metadata.annotations: annotation kubernetes.io/ingress-bandwidth=\"1\": resource is unreasonably small \
           (< 1kbit); the pod does not start until this is put right"],
    );
    check(
        "egress=1G",
        true,
        &["metadata.annotations: kubernetes.io/egress-bandwidth has no effect: the pod is on the host's network"],
    );
}
