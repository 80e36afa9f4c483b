//! The labels a node gives itself.

use crate::{NodeError, NodeFacts};
use std::collections::BTreeMap;

/// Host name.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
/// Operating system.
pub(crate) const OS: &str = "kubernetes.io/os";
/// Architecture.
pub(crate) const ARCH: &str = "kubernetes.io/arch";
/// Operating system before v1.14; the kubelet still sets it.
const BETA_OS: &str = "beta.kubernetes.io/os";
/// Architecture before v1.14; the kubelet still sets it.
const BETA_ARCH: &str = "beta.kubernetes.io/arch";

/// Labels of Kubernetes' own prefixes that a node may set on itself (NodeRestriction), and
/// which are kept as configured on a Node that is there.
pub(crate) const OWN_LABELS: [&str; 11] = [
    BETA_ARCH,
    "beta.kubernetes.io/instance-type",
    BETA_OS,
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    ARCH,
    HOSTNAME,
    OS,
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Prefixes of Kubernetes below which a node may set any label on itself.
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// All labels of a new Node: the defaults, and `--node-labels` over them.
pub(crate) fn labels(facts: &NodeFacts) -> BTreeMap<String, String> {
    let arch = facts.machine.architecture.as_str();
    let hostname = facts.settings.hostname.as_str();
    let mut labels: BTreeMap<String, String> =
        [(HOSTNAME, hostname), (OS, "linux"), (ARCH, arch), (BETA_OS, "linux"), (BETA_ARCH, arch)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    labels.extend(facts.settings.labels.clone());
    labels
}

/// Checks `--node-labels` as the kubelet does before it starts: a key of Kubernetes' own
/// prefixes must be one that NodeRestriction lets a node set on itself.
///
/// # Errors
/// Names all forbidden keys, or the first label that is malformed.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), NodeError> {
    let keys: Vec<String> = labels.keys().filter(|key| is_kubernetes(key) && !is_own(key)).cloned().collect();
    if !keys.is_empty() {
        return Err(NodeError::ForbiddenLabels { keys });
    }
    for (key, value) in labels {
        if let Err(problem) = check_key(key).and_then(|()| check_value(value)) {
            return Err(NodeError::Label { key: key.clone(), value: value.clone(), problem });
        }
    }
    Ok(())
}

fn prefix(key: &str) -> &str {
    key.split_once('/').map_or("", |(prefix, _)| prefix)
}

fn is_below(prefix: &str, domain: &str) -> bool {
    prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn is_kubernetes(key: &str) -> bool {
    is_below(prefix(key), "kubernetes.io") || is_below(prefix(key), "k8s.io")
}

fn is_own(key: &str) -> bool {
    OWN_LABELS.contains(&key) || OWN_PREFIXES.iter().any(|own| is_below(prefix(key), own))
}

/// A qualified name: an optional DNS subdomain of at most 253 bytes, and a name of at most 63.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix {
        let part = |part: &str| {
            let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
            let ends = part.bytes().next().is_some_and(inner) && part.bytes().next_back().is_some_and(inner);
            ends && part.bytes().all(|c| inner(c) || c == b'-')
        };
        if prefix.len() > 253 || !prefix.split('.').all(part) {
            return Err(format!("the key's prefix {prefix:?} must be a DNS subdomain in lower case"));
        }
    }
    if name.is_empty() || !is_label_text(name) {
        return Err(format!(
            "the key's name {name:?} must be 1 to 63 letters, digits, '-', '_' or '.', and start and end with a \
             letter or digit"
        ));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), String> {
    if is_label_text(value) {
        return Ok(());
    }
    Err("the value must be at most 63 letters, digits, '-', '_' or '.', and start and end with a letter or digit"
        .to_owned())
}

fn is_label_text(text: &str) -> bool {
    let end = |c: u8| c.is_ascii_alphanumeric();
    let ends = text.bytes().next().is_none_or(end) && text.bytes().next_back().is_none_or(end);
    ends && text.len() <= 63 && text.bytes().all(|c| end(c) || b"-_.".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[(&str, &str)], wrong: Option<&str>) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match (check_labels(&labels), wrong) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) if error.to_string().contains(part) => {}
            (got, want) => panic!("{labels:?}: {got:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn node_labels() {
        check(&[], None);
        check(&[("pool", "a"), ("example.com/x", ""), ("topology.kubernetes.io/zone", "z")], None);
        check(&[("node.kubernetes.io/any", "a"), ("x.node.kubernetes.io/any", "a")], None);
        check(&[("kubelet.kubernetes.io/any", "a"), ("notkubernetes.io/x", "a")], None);
        check(&[("node-role.kubernetes.io/worker", "")], Some("node-role.kubernetes.io/worker: a node may set only"));
        check(&[("kubernetes.io/x", ""), ("y.k8s.io/x", "")], Some("kubernetes.io/x, y.k8s.io/x"));
        check(&[("xnode.kubernetes.io/any", "a")], Some("xnode.kubernetes.io/any"));
        check(&[("", "a")], Some("the key's name \"\""));
        check(&[("a/", "a")], Some("the key's name \"\""));
        check(&[("A.com/x", "a")], Some("DNS subdomain"));
        check(&[("a..b/x", "a")], Some("DNS subdomain"));
        check(&[("x", "-a")], Some("node label x=-a: the value"));
        check(&[("x", &"a".repeat(64))], Some("at most 63"));
    }
}
