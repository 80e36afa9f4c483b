//! Manifests in few words.

use crate::IMAGE;

/// A command that does nothing and ends at once when it is told to.
const IDLE: &str = r#"[sh, -c, "trap 'exit 0' TERM; sleep inf & wait"]"#;

/// A Pod in the namespace `default`; `spec` is YAML at any indentation, in which
/// `IMAGE` stands for the test image and `IDLE` for a command that does nothing and
/// ends at once when it is told to.
#[must_use]
pub fn pod(name: &str, spec: &str) -> String {
    pod_in("default", name, spec)
}

/// As [`pod`] in another namespace.
#[must_use]
pub fn pod_in(namespace: &str, name: &str, spec: &str) -> String {
    document("Pod", &format!("{{name: {name}, namespace: {namespace}}}"), &body(spec))
}

/// As [`pod`] with labels as `a: b, c: d`.
#[must_use]
pub fn labelled_pod(name: &str, labels: &str, spec: &str) -> String {
    let metadata = format!("{{name: {name}, labels: {{{labels}}}}}");
    document("Pod", &metadata, &body(spec))
}

/// The spec, with the shortest grace period there is unless it names one: many processes of tests are
/// the first of their PID namespace and hear no SIGTERM.
fn body(spec: &str) -> String {
    let grace =
        if spec.contains("terminationGracePeriodSeconds") { "" } else { "  terminationGracePeriodSeconds: 2\n" };
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
    document(kind, metadata, &indented(rest, 0))
}

fn document(kind: &str, metadata: &str, rest: &str) -> String {
    let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {metadata}\n{rest}---\n");
    text.replace("IMAGE", IMAGE).replace("IDLE", IDLE)
}

/// Moves a block so that its first column becomes `by`. Text may begin on the line of its
/// opening quote.
fn indented(text: &str, by: usize) -> String {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let lines = || rest.lines().filter(|line| !line.trim().is_empty());
    let margin = lines().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let first = Some(first.trim_start()).filter(|line| !line.is_empty());
    first.into_iter().chain(lines().map(|line| &line[margin..])).map(|line| format!("{:by$}{line}\n", "")).collect()
}
