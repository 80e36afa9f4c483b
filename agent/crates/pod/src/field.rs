//! What is wrong with a manifest, in the API server's words: a path and a message.

use std::fmt::{self, Debug, Display};

/// One field and what is wrong with it; prints as
/// `spec.containers[0].image: Required value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, for example `spec.containers[0].ports[0].containerPort`.
    pub path: String,
    /// What, with the offending value in it.
    pub message: String,
}

impl Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A place in a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn new(root: &str) -> Self {
        Self(root.to_owned())
    }
    pub(crate) fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

/// Everything found so far; errors refuse the pod, warnings do not.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<FieldError>,
    pub(crate) warnings: Vec<FieldError>,
    /// How many of the errors say only that Orlop cannot do it yet.
    pub(crate) not_yet: usize,
    /// The first sysctl that the kubelet would refuse, in its words.
    pub(crate) sysctl: Option<String>,
}

impl Findings {
    fn error(&mut self, path: &Path, message: String) {
        self.errors.push(FieldError { path: path.0.clone(), message });
    }
    /// `Required value`, with a detail unless it is empty.
    pub(crate) fn required(&mut self, path: &Path, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.error(path, format!("Required value{colon}{detail}"));
    }
    pub(crate) fn invalid(&mut self, path: &Path, value: impl Debug, why: impl Display) {
        self.error(path, format!("Invalid value: {value:?}: {why}"));
    }
    pub(crate) fn duplicate(&mut self, path: &Path, value: &str) {
        self.error(path, format!("Duplicate value: {value:?}"));
    }
    pub(crate) fn not_found(&mut self, path: &Path, value: &str) {
        self.error(path, format!("Not found: {value:?}"));
    }
    pub(crate) fn forbidden(&mut self, path: &Path, why: &str) {
        self.error(path, format!("Forbidden: {why}"));
    }
    pub(crate) fn unsupported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        let mut sorted = supported.to_vec();
        sorted.sort_unstable();
        let list = sorted.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        self.error(path, format!("Unsupported value: {value:?}: supported values: {list}"));
    }
    /// Valid Kubernetes that Orlop would run wrongly: refused.
    pub(crate) fn not_yet(&mut self, path: &Path) {
        self.not_yet += 1;
        self.forbidden(path, "not supported by Orlop yet");
    }
    /// A sysctl that this node's configuration does not allow.
    pub(crate) fn sysctl(&mut self, path: &Path, name: &str, why: &str, message: &str) {
        self.sysctl.get_or_insert_with(|| format!("forbidden sysctl: {name:?} {why}"));
        self.forbidden(path, message);
    }
    /// Valid Kubernetes that the pod can run without: said, not refused.
    pub(crate) fn warn(&mut self, path: &Path, message: impl Into<String>) {
        self.warnings.push(FieldError { path: path.0.clone(), message: message.into() });
    }
    /// Runs a check and tells whether it found no error.
    pub(crate) fn clean(&mut self, check: impl FnOnce(&mut Self)) -> bool {
        let before = self.errors.len();
        check(self);
        self.errors.len() == before
    }
}
