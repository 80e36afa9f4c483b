//! Manifests in few words.

use crate::IMAGE;

/// A Pod in the namespace `default`; `spec` is YAML at any indentation, in which
/// `IMAGE` stands for the test image.
#[must_use]
pub fn pod(name: &str, spec: &str) -> String {
    pod_in("default", name, spec)
}

/// As [`pod`] in another namespace.
#[must_use]
pub fn pod_in(namespace: &str, name: &str, spec: &str) -> String {
    object("Pod", &format!("{{name: {name}, namespace: {namespace}}}"), &body(spec))
}

/// As [`pod`] with labels as `a: b, c: d`.
#[must_use]
pub fn labelled_pod(name: &str, labels: &str, spec: &str) -> String {
    let metadata = format!("{{name: {name}, labels: {{{labels}}}}}");
    object("Pod", &metadata, &body(spec))
}

/// The spec, without a grace period unless it names one: most processes of tests are
/// the first of their PID namespace and hear no SIGTERM.
fn body(spec: &str) -> String {
    let grace =
        if spec.contains("terminationGracePeriodSeconds") { "" } else { "  terminationGracePeriodSeconds: 0\n" };
    format!("spec:\n{grace}{}", indented(spec, 2))
}

/// A ConfigMap with one key.
#[must_use]
pub fn config_map(name: &str, key: &str, value: &str) -> String {
    object("ConfigMap", &format!("{{name: {name}}}"), &format!("data: {{{key}: {value:?}}}"))
}

/// An object of v1: kind, metadata and the rest of it as YAML.
#[must_use]
pub fn object(kind: &str, metadata: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: {kind}\nmetadata: {metadata}\n{}---\n", indented(rest, 0)).replace("IMAGE", IMAGE)
}

/// Moves a block so that its first column becomes `by`.
fn indented(text: &str, by: usize) -> String {
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let margin = lines().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines().map(|line| format!("{:by$}{}\n", "", &line[margin..])).collect()
}
