//! What a request may ask for besides its object.

use serde::Serialize;

/// Which objects of a collection are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Such as `spec.nodeName=n1`; empty for all.
    pub fields: String,
    /// Such as `!service.kubernetes.io/headless`; empty for all.
    pub labels: String,
}

impl Selectors {
    /// By fields alone.
    #[must_use]
    pub fn fields(fields: impl Into<String>) -> Self {
        Self { fields: fields.into(), labels: String::new() }
    }

    /// By labels alone.
    #[must_use]
    pub fn labels(labels: impl Into<String>) -> Self {
        Self { fields: String::new(), labels: labels.into() }
    }

    /// The one object of that name.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self::fields(format!("metadata.name={name}"))
    }

    pub(crate) fn query(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("fieldSelector", self.fields.as_str()), ("labelSelector", self.labels.as_str())]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
    }
}

/// How a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Which objects.
    pub selectors: Selectors,
    /// At most so many in one page; all without.
    pub limit: Option<u32>,
    /// [`Page::more`] of the page before.
    pub more: Option<String>,
    /// `Some("0")`: whatever the server has at hand. Another: not older than that. `None`: the newest.
    pub not_older_than: Option<String>,
}

impl ListOptions {
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<_> = self.selectors.query().map(|(key, value)| (key, value.to_owned())).collect();
        if let Some(limit) = self.limit {
            query.push(("limit", limit.to_string()));
        }
        if let Some(more) = &self.more {
            // The token carries the version; both together are refused.
            query.push(("continue", more.clone()));
        } else if let Some(version) = &self.not_older_than {
            query.push(("resourceVersion", version.clone()));
            query.push(("resourceVersionMatch", "NotOlderThan".to_owned()));
        }
        query
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// From where a watch may go on.
    pub resource_version: String,
    /// The token for the next page, if there is one.
    pub more: Option<String>,
    /// The objects.
    pub items: Vec<T>,
}

/// How an object is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    /// Seconds; 0 removes the object at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// What must be so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    /// `Background`, `Foreground` or `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
}

/// What must be so for a deletion to happen; 409 otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// The object is still this one and not another of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Nobody changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Remove it now, if it still is this very object: the kubelet's last word on a pod.
    #[must_use]
    pub fn at_once(uid: impl Into<String>) -> Self {
        Self {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(uid.into()), resource_version: None }),
            propagation_policy: None,
        }
    }
}

/// What kind of patch the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch<'a> {
    /// Kubernetes' own, which knows list keys.
    Strategic,
    /// RFC 7396.
    Merge,
    /// RFC 6902.
    Json,
    /// Server-side apply.
    Apply {
        /// Who owns the fields.
        manager: &'a str,
        /// Take fields from other owners.
        force: bool,
    },
}

impl Patch<'_> {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
            // JSON is YAML, and servers before 1.32 know only this name.
            Self::Apply { .. } => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn query(self) -> Vec<(&'static str, String)> {
        match self {
            Self::Apply { manager, force } => {
                vec![("fieldManager", manager.to_owned()), ("force", force.to_string())]
            }
            Self::Strategic | Self::Merge | Self::Json => Vec::new(),
        }
    }
}
