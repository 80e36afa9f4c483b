//! Environment variables: names, and sources that exist.

use super::name;
use super::resource;
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar as ApiVar, EnvVarSource, ResourceFieldSelector};
use orlop_model::{ContainerName, EnvFrom, EnvSource, EnvVar, ObjectKey};

/// Downward-API paths for variables, as the API server lists them.
const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];
const ENV_RULE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn is_env_text(text: &str) -> bool {
    text.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=')
}

/// `env`, first to last; those in error are left out.
pub(super) fn vars(path: &Path, api: &[ApiVar], siblings: &[&str], out: &mut Findings) -> Vec<EnvVar> {
    let mut vars = Vec::new();
    for (index, var) in api.iter().enumerate() {
        let path = path.index(index);
        if var.name.is_empty() {
            out.required(&path.child("name"), "");
        } else if !is_env_text(&var.name) {
            out.invalid(&path.child("name"), &var.name, ENV_RULE);
        }
        let value = var.value.clone().unwrap_or_default();
        let source = match &var.value_from {
            None => Some(EnvSource::Value(value)),
            Some(from) => {
                let path = path.child("valueFrom");
                if !value.is_empty() {
                    out.invalid(&path, "", "may not be specified when `value` is not empty");
                }
                source(&path, from, siblings, out)
            }
        };
        vars.extend(source.map(|source| EnvVar { name: var.name.clone(), source }));
    }
    vars
}

fn source(path: &Path, from: &EnvVarSource, siblings: &[&str], out: &mut Findings) -> Option<EnvSource> {
    let EnvVarSource { config_map_key_ref, field_ref, file_key_ref, resource_field_ref, secret_key_ref } = from;
    let given = [
        config_map_key_ref.is_some(),
        field_ref.is_some(),
        file_key_ref.is_some(),
        resource_field_ref.is_some(),
        secret_key_ref.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 => {
            out.invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`");
            return None;
        }
        1 => {}
        _ => {
            out.invalid(path, "", "may not have more than one field specified at a time");
            return None;
        }
    }
    if file_key_ref.is_some() {
        out.not_yet(&path.child("fileKeyRef"));
    }
    if let Some(field) = field_ref {
        let path = path.child("fieldRef").child("fieldPath");
        return field_path(&path, &field.field_path, &FIELD_PATHS, out).map(EnvSource::Field);
    }
    if let Some(selector) = resource_field_ref {
        let found = resource_source(&path.child("resourceFieldRef"), selector, siblings, out);
        return found.map(|(container, resource, divisor)| EnvSource::Resource { container, resource, divisor });
    }
    if let Some(key) = config_map_key_ref {
        let path = path.child("configMapKeyRef");
        return Some(EnvSource::ConfigMap(object_key(&path, &key.name, &key.key, key.optional, out)));
    }
    let key = secret_key_ref.as_ref()?;
    let path = path.child("secretKeyRef");
    Some(EnvSource::Secret(object_key(&path, &key.name, &key.key, key.optional, out)))
}

fn object_key(path: &Path, object: &str, key: &str, optional: Option<bool>, out: &mut Findings) -> ObjectKey {
    name::subdomain(&path.child("name"), object, out);
    name::object_key(&path.child("key"), key, out);
    ObjectKey { name: object.to_owned(), key: key.to_owned(), optional: optional.unwrap_or(false) }
}

/// A downward-API path: one of the list, or one label or annotation.
pub(super) fn field_path(path: &Path, text: &str, known: &[&str], out: &mut Findings) -> Option<String> {
    if text.is_empty() {
        out.required(path, "");
        return None;
    }
    let subscript = ["metadata.labels", "metadata.annotations"]
        .iter()
        .find_map(|map| text.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']"));
    if let Some(key) = subscript {
        // Annotation keys may hold capitals in their prefix; labels' may not.
        let lower = key.to_ascii_lowercase();
        let key = if text.starts_with("metadata.annotations") { &lower } else { key };
        return out.clean(|out| name::qualified(path, key, out)).then(|| text.to_owned());
    }
    if known.contains(&text) {
        return Some(text.to_owned());
    }
    let mut all = known.to_vec();
    all.extend(["metadata.annotations['<KEY>']", "metadata.labels['<KEY>']"]);
    out.unsupported(path, text, &all);
    None
}

/// Container, resource and divisor of a `resourceFieldRef`.
pub(super) fn resource_source(
    path: &Path,
    selector: &ResourceFieldSelector,
    siblings: &[&str],
    out: &mut Findings,
) -> Option<(Option<ContainerName>, String, u64)> {
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| selector.resource.starts_with(prefix));
    if !huge && !RESOURCES.contains(&selector.resource.as_str()) {
        out.unsupported(&path.child("resource"), &selector.resource, &RESOURCES);
        return None;
    }
    let container = selector.container_name.as_deref().filter(|name| !name.is_empty());
    if let Some(missing) = container.filter(|name| !siblings.contains(name)) {
        out.not_found(&path.child("containerName"), missing);
        return None;
    }
    let cpu = selector.resource.ends_with(".cpu");
    let default = if cpu { 1000 } else { 1 };
    let divisor = match &selector.divisor {
        None => default,
        Some(text) => {
            let path = path.child("divisor");
            let quantity = resource::quantity(&path, text, out)?;
            let supported: &[&str] = if cpu {
                &["1", "1m"]
            } else {
                &["1", "1E", "1Ei", "1G", "1Gi", "1k", "1Ki", "1M", "1Mi", "1P", "1Pi", "1T", "1Ti"]
            };
            match if cpu { quantity.milli() } else { quantity.units() } {
                // "0" is the zero quantity, which the API server reads as 1.
                0 => default,
                _ if !supported.contains(&text.0.as_str()) => {
                    out.unsupported(&path, &text.0, supported);
                    return None;
                }
                divisor => divisor,
            }
        }
    };
    let container = container.and_then(|name| ContainerName::new(name).ok());
    Some((container, selector.resource.clone(), divisor))
}

/// `envFrom`, first to last.
pub(super) fn from(path: &Path, api: &[EnvFromSource], out: &mut Findings) -> Vec<EnvFrom> {
    let mut all = Vec::new();
    for (index, from) in api.iter().enumerate() {
        let path = path.index(index);
        let prefix = from.prefix.clone().unwrap_or_default();
        if !is_env_text(&prefix) {
            out.invalid(&path.child("prefix"), &prefix, ENV_RULE);
        }
        let (secret, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (None, None) => {
                out.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`");
                continue;
            }
            (Some(_), Some(_)) => {
                out.invalid(&path, "", "may not have more than one field specified at a time");
                continue;
            }
            (Some(map), None) => (false, &map.name, map.optional),
            (None, Some(secret)) => (true, &secret.name, secret.optional),
        };
        name::subdomain(&path.child(if secret { "secretRef" } else { "configMapRef" }).child("name"), name, out);
        all.push(EnvFrom { prefix, secret, name: name.clone(), optional: optional.unwrap_or(false) });
    }
    all
}
