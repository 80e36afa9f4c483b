//! The downward API: what a container is told of its own pod.

use crate::env::{EnvContext, EnvError};
use orlop_model::{ContainerDesired, ContainerResources, DownwardSource, NodeAllocatable, PodDesired};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The text of a file of a downward-API volume.
///
/// # Errors
/// [`EnvError::Field`] for a path that nothing answers, [`EnvError::Container`] for a
/// container that the pod does not have; admission lets neither through.
pub fn downward_file(
    source: &DownwardSource,
    pod: &PodDesired,
    allocatable: &NodeAllocatable,
) -> Result<String, EnvError> {
    match source {
        DownwardSource::Field(path) => match path.as_str() {
            "metadata.labels" => Ok(map(&pod.labels)),
            "metadata.annotations" => Ok(map(&pod.annotations)),
            path => metadata(path, pod).ok_or_else(|| EnvError::Field(path.to_owned())),
        },
        DownwardSource::Resource { container, resource, divisor } => {
            let of = pod.container(container).ok_or_else(|| EnvError::Container(container.to_string()))?;
            self::resource(resource, *divisor, of, allocatable)
        }
    }
}

/// The value of a variable.
pub(crate) fn field(path: &str, pod: &PodDesired, cx: &EnvContext<'_>) -> Result<String, EnvError> {
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let all = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match path {
        "spec.nodeName" => Ok(pod.node_name.clone()),
        "spec.serviceAccountName" => Ok(pod.service_account.clone()),
        "status.hostIP" => Ok(first(cx.host_ips)),
        "status.hostIPs" => Ok(all(cx.host_ips)),
        "status.podIP" => Ok(first(cx.pod_ips)),
        "status.podIPs" => Ok(all(cx.pod_ips)),
        other => metadata(other, pod).ok_or_else(|| EnvError::Field(other.to_owned())),
    }
}

fn metadata(path: &str, pod: &PodDesired) -> Option<String> {
    match path {
        "metadata.name" => return Some(pod.key.name().to_owned()),
        "metadata.namespace" => return Some(pod.key.namespace().to_owned()),
        "metadata.uid" => return Some(pod.uid.to_string()),
        _ => {}
    }
    let key = |map| path.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']");
    // A label or annotation that is not there is empty, as in the kubelet.
    let of = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
    if let Some(key) = key("metadata.labels") {
        return Some(of(&pod.labels, key));
    }
    key("metadata.annotations").map(|key| of(&pod.annotations, key))
}

/// Rounded up to whole divisors; a limit that is not given (or is zero) is what the
/// node has for pods (`MergeContainerResourceLimits`). Huge pages are never
/// overcommitted and have no such default; admission refuses containers that ask for
/// some, so there are none.
pub(crate) fn resource(
    name: &str,
    divisor: u64,
    container: &ContainerDesired,
    allocatable: &NodeAllocatable,
) -> Result<String, EnvError> {
    let of: &ContainerResources = &container.resources;
    let limit = |given: Option<u64>, node: u64| given.filter(|limit| *limit > 0).unwrap_or(node);
    let value = match name {
        "limits.cpu" => limit(of.cpu_limit_milli, allocatable.cpu_milli),
        "limits.memory" => limit(of.memory_limit, allocatable.memory),
        "limits.ephemeral-storage" => limit(of.ephemeral_storage_limit, allocatable.ephemeral_storage),
        "requests.cpu" => of.cpu_request_milli.unwrap_or(0),
        "requests.memory" => of.memory_request.unwrap_or(0),
        "requests.ephemeral-storage" => of.ephemeral_storage_request.unwrap_or(0),
        huge if huge.starts_with("limits.hugepages-") || huge.starts_with("requests.hugepages-") => 0,
        other => return Err(EnvError::Field(other.to_owned())),
    };
    Ok(value.div_ceil(divisor.max(1)).to_string())
}

/// `key="value"` a line, sorted, without a line end at the end (`fieldpath.FormatMap`).
fn map(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if is_print(c) => quoted.push(c),
            // Writing to a String cannot fail.
            c if u32::from(c) < 0x80 => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => drop(write!(quoted, "\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `strconv.IsPrint`, near enough: neither control nor any space but the plain
/// one, nor format characters, nor private use.
fn is_print(c: char) -> bool {
    let invisible = matches!(
        u32::from(c),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xe_0000..=0xe_0fff | 0xf_0000..
    );
    c == ' ' || !(c.is_control() || c.is_whitespace() || invisible)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_as_go_does() {
        for (text, want) in [
            ("", r#""""#),
            ("plain text", r#""plain text""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("{\"a\":1}\n", r#""{\"a\":1}\n""#),
            ("\t\r\u{7}\u{8}\u{b}\u{c}", r#""\t\r\a\b\v\f""#),
            ("\0\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
            ("é…日", r#""é…日""#),
            ("\u{85}\u{a0}\u{200b}", r#""\u0085\u00a0\u200b""#),
            ("😀\u{e0001}", r#""😀\U000e0001""#),
        ] {
            assert_eq!(quoted(text), want, "{text:?}");
        }
    }
}
