//! What a pod refers to: the edges of the Node authorizer's graph.

use serde_json::Value;

/// (resource, name) of everything in its namespace that a pod's spec refers to.
pub(crate) fn references(spec: &Value) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut add = |resource: &'static str, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found.push((resource, name.to_owned()));
        }
    };
    add("serviceaccounts", &spec["serviceAccountName"]);
    for secret in list(&spec["imagePullSecrets"]) {
        add("secrets", &secret["name"]);
    }
    for volume in list(&spec["volumes"]) {
        add("secrets", &volume["secret"]["secretName"]);
        add("configmaps", &volume["configMap"]["name"]);
        add("persistentvolumeclaims", &volume["persistentVolumeClaim"]["claimName"]);
        add("secrets", &volume["csi"]["nodePublishSecretRef"]["name"]);
        for source in list(&volume["projected"]["sources"]) {
            add("secrets", &source["secret"]["name"]);
            add("configmaps", &source["configMap"]["name"]);
        }
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(&spec[kind]) {
            for env in list(&container["env"]) {
                add("secrets", &env["valueFrom"]["secretKeyRef"]["name"]);
                add("configmaps", &env["valueFrom"]["configMapKeyRef"]["name"]);
            }
            for from in list(&container["envFrom"]) {
                add("secrets", &from["secretRef"]["name"]);
                add("configmaps", &from["configMapRef"]["name"]);
            }
        }
    }
    found
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_reference_is_found() {
        let spec = json!({
            "serviceAccountName": "sa", "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"secret": {"secretName": "s1"}}, {"configMap": {"name": "c1"}},
                {"projected": {"sources": [{"secret": {"name": "s2"}}, {"configMap": {"name": "c2"}}]}},
            ],
            "containers": [{
                "env": [{"valueFrom": {"secretKeyRef": {"name": "s3"}}}, {"valueFrom": {"configMapKeyRef": {"name": "c3"}}}],
                "envFrom": [{"secretRef": {"name": "s4"}}, {"configMapRef": {"name": "c4"}}],
            }],
        });
        let names: Vec<String> = references(&spec).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["sa", "pull", "s1", "c1", "s2", "c2", "s3", "c3", "s4", "c4"]);
    }
}
