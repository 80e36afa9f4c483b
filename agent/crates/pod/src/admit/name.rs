//! Names and the rules the API server has for them.

use crate::field::{Findings, Path};
use orlop_model::ContainerName;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn edges(text: &str, inner: impl Fn(u8) -> bool, edge: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => edge(first) && edge(last) && bytes.iter().all(|&c| edge(c) || inner(c)),
        _ => false,
    }
}

fn is_label_text(text: &str) -> bool {
    edges(text, |c| c == b'-', |c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// RFC 1123 label, required.
pub(super) fn label(path: &Path, text: &str, out: &mut Findings) -> bool {
    out.clean(|out| {
        if text.is_empty() {
            return out.required(path, "");
        }
        if text.len() > 63 {
            out.invalid(path, text, "must be no more than 63 bytes");
        }
        if !is_label_text(text) {
            out.invalid(path, text, LABEL_RULE);
        }
    })
}

/// RFC 1123 subdomain, required.
pub(super) fn subdomain(path: &Path, text: &str, out: &mut Findings) -> bool {
    out.clean(|out| {
        if text.is_empty() {
            return out.required(path, "");
        }
        if text.len() > 253 {
            out.invalid(path, text, "must be no more than 253 bytes");
        }
        if !text.split('.').all(is_label_text) {
            out.invalid(path, text, SUBDOMAIN_RULE);
        }
    })
}

/// A container's name as an identity.
pub(super) fn container(path: &Path, text: &str, out: &mut Findings) -> Option<ContainerName> {
    if label(path, text, out) { ContainerName::new(text).ok() } else { None }
}

fn is_word(text: &str) -> bool {
    edges(text, |c| matches!(c, b'-' | b'_' | b'.'), |c| c.is_ascii_alphanumeric())
}

/// `name` or `prefix/name`, as keys of labels and annotations are.
pub(super) fn qualified(path: &Path, text: &str, out: &mut Findings) {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_some_and(|p| p.len() > 253 || !p.split('.').all(is_label_text)) {
        out.invalid(path, text, format_args!("prefix part {SUBDOMAIN_RULE}"));
    }
    if name.is_empty() {
        out.invalid(path, text, "name part must be non-empty");
    } else if name.len() > 63 {
        out.invalid(path, text, "name part must be no more than 63 bytes");
    } else if !is_word(name) {
        out.invalid(path, text, QUALIFIED_RULE);
    }
}

/// A label's value.
pub(super) fn label_value(path: &Path, text: &str, out: &mut Findings) {
    if text.len() > 63 {
        out.invalid(path, text, "must be no more than 63 bytes");
    } else if !text.is_empty() && !is_word(text) {
        out.invalid(path, text, LABEL_VALUE_RULE);
    }
}

/// A key of a ConfigMap or Secret.
pub(super) fn object_key(path: &Path, text: &str, out: &mut Findings) {
    if text.is_empty() {
        out.required(path, "");
    } else if text.len() > 253 {
        out.invalid(path, text, "must be no more than 253 bytes");
    } else if matches!(text, "." | "..") || text.starts_with("..") {
        out.invalid(path, text, "must not be '.', '..' or start with '..'");
    } else if !text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) {
        out.invalid(path, text, KEY_RULE);
    }
}

/// A relative path without `..`, required.
pub(super) fn relative_path(path: &Path, text: &str, out: &mut Findings) {
    if text.is_empty() {
        out.required(path, "");
    } else if text.starts_with('/') {
        out.invalid(path, text, "must be a relative path");
    } else {
        no_back_steps(path, text, out);
    }
}

/// No `..` element.
pub(super) fn no_back_steps(path: &Path, text: &str, out: &mut Findings) {
    if text.split('/').any(|part| part == "..") {
        out.invalid(path, text, "must not contain '..'");
    }
}

/// `IANA_SVC_NAME`, as port names are.
pub(super) fn port(path: &Path, text: &str, out: &mut Findings) {
    if text.len() > 15 {
        out.invalid(path, text, "must be no more than 15 characters long");
    }
    if !text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
        out.invalid(path, text, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        out.invalid(path, text, "must contain at least one letter (a-z)");
    }
    if text.contains("--") {
        out.invalid(path, text, "must not contain consecutive hyphens");
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.invalid(path, text, "must not begin or end with a hyphen");
    }
}
