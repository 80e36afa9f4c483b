//! YAML or JSON documents of a file.

use crate::{ConfigError, Source};
use serde_json::Value;

/// The kinds of documents that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    Orlop,
    Kubelet,
    Proxy,
}

/// `kind` and `apiVersion` of each.
pub(crate) const KINDS: [(DocumentKind, &str, &str); 3] = [
    (DocumentKind::Orlop, "OrlopConfiguration", "orlop.dev/v1alpha1"),
    (DocumentKind::Kubelet, "KubeletConfiguration", "kubelet.config.k8s.io/v1beta1"),
    (DocumentKind::Proxy, "KubeProxyConfiguration", "kubeproxy.config.k8s.io/v1alpha1"),
];

impl DocumentKind {
    /// Its `kind`.
    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }
}

/// A document and where it starts.
pub(crate) struct Document {
    pub kind: DocumentKind,
    pub line: usize,
    /// Without `apiVersion` and `kind`.
    pub value: Value,
}

/// All documents of a file; empty ones are left out.
pub(crate) fn documents(source: &Source) -> Result<Vec<Document>, ConfigError> {
    let mut found: Vec<Document> = Vec::new();
    for (line, text) in split(&source.text) {
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let problem = error.to_string().lines().next().unwrap_or("unreadable").to_owned();
            ConfigError::Yaml { path: source.path.clone(), line, problem }
        })?;
        if value.is_null() {
            continue;
        }
        let wrong = |problem| ConfigError::Document { path: source.path.clone(), line, problem };
        let (kind, value) = recognize(value).map_err(wrong)?;
        if let Some(first) = found.iter().find(|document| document.kind == kind) {
            return Err(wrong(format!("a second {}; the first is at line {}", kind.name(), first.line)));
        }
        found.push(Document { kind, line, value });
    }
    Ok(found)
}

fn recognize(value: Value) -> Result<(DocumentKind, Value), String> {
    let Value::Object(mut fields) = value else {
        return Err("must be a mapping with apiVersion and kind".to_owned());
    };
    let mut take = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (version, name) = (take("apiVersion"), take("kind"));
    if let Some((kind, ..)) = KINDS.iter().find(|(_, known, v)| *known == name && *v == version) {
        return Ok((*kind, Value::Object(fields)));
    }
    if let Some((_, known, wanted)) = KINDS.iter().find(|(_, known, _)| *known == name) {
        return Err(format!("apiVersion of {known} must be {wanted:?}, it is {version:?}"));
    }
    let known: Vec<_> = KINDS.iter().map(|(_, name, version)| format!("{name} of {version}")).collect();
    Err(format!("kind {name:?} of apiVersion {version:?} is not read here; these are: {}", known.join(", ")))
}

/// Splits at lines that start with `---`. Gives the number of each document's first line.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((start_line, &text[start..offset]));
            (start, start_line) = (offset + 3, index + 1);
        }
        offset += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents
}
