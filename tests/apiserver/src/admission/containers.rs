//! The defaults of containers: pkg/apis/core/v1/defaults.go.

use serde_json::{Value, json};

use super::{default_to, items};

/// Fills in a container.
pub(super) fn defaults(container: &mut Value, host_network: bool) {
    default_to(container, "terminationMessagePath", json!("/dev/termination-log"));
    default_to(container, "terminationMessagePolicy", json!("File"));
    let image = container["image"].as_str().unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    default_to(container, "imagePullPolicy", json!(policy));
    default_to(container, "resources", json!({}));
    for port in items(container, "ports") {
        default_to(port, "protocol", json!("TCP"));
        if host_network {
            let number = port["containerPort"].clone();
            default_to(port, "hostPort", number);
        }
    }
    for env in items(container, "env") {
        if env["valueFrom"]["fieldRef"].is_object() {
            default_to(&mut env["valueFrom"]["fieldRef"], "apiVersion", json!("v1"));
        } else if env["valueFrom"]["resourceFieldRef"].is_object() {
            default_to(&mut env["valueFrom"]["resourceFieldRef"], "divisor", json!("0"));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[name].is_object() {
            probe(&mut container[name]);
        }
    }
    for name in ["postStart", "preStop"] {
        if container["lifecycle"][name]["httpGet"].is_object() {
            http_get(&mut container["lifecycle"][name]["httpGet"]);
        }
    }
    // A limit without a request is its request too.
    let limits = container["resources"]["limits"].clone();
    for (name, value) in limits.as_object().into_iter().flatten() {
        default_to(&mut container["resources"]["requests"], name, value.clone());
    }
    clean_nulls(container);
}

/// Indexing for a look leaves nulls behind; the API has none of them.
fn clean_nulls(container: &mut Value) {
    if let Some(fields) = container.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    for field in ["lifecycle", "resources"] {
        if let Some(fields) = container.get_mut(field).and_then(Value::as_object_mut) {
            fields.retain(|_, value| !value.is_null());
        }
    }
    for env in items(container, "env") {
        if let Some(fields) = env.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
    }
}

fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe[field].as_i64().unwrap_or(0) == 0 {
            probe[field] = json!(value);
        }
    }
    if probe["httpGet"].is_object() {
        http_get(&mut probe["httpGet"]);
    }
    if probe["grpc"].is_object() {
        default_to(&mut probe["grpc"], "service", json!(""));
    }
    if let Some(fields) = probe.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

fn http_get(get: &mut Value) {
    default_to(get, "path", json!("/"));
    default_to(get, "scheme", json!("HTTP"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_its_defaults() {
        let mut container = json!({
            "name": "a", "image": "web", "ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "1"}},
            "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "Y", "value": "1"}],
        });
        defaults(&mut container, false);
        let wanted = json!({
            "name": "a", "image": "web", "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "readinessProbe": {
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3,
            },
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "env": [
                {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}},
                {"name": "Y", "value": "1"},
            ],
            "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        });
        assert_eq!(container, wanted);
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, latest) in [
            ("web", true),
            ("web:latest", true),
            ("web:1", false),
            ("localhost:5000/web", true),
            ("localhost:5000/web:1", false),
            ("web@sha256:00", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
