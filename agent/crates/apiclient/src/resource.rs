//! Where objects live below a server's address.

use crate::error::ApiError;

/// One kind of object as the API server's paths name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version of the group.
    pub version: &'static str,
    /// Plural, lower case, as in paths.
    pub plural: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

const fn namespaced(group: &'static str, version: &'static str, plural: &'static str) -> Resource {
    Resource { group, version, plural, namespaced: true }
}

const fn global(group: &'static str, version: &'static str, plural: &'static str) -> Resource {
    Resource { group, version, plural, namespaced: false }
}

/// Pods.
pub const PODS: Resource = namespaced("", "v1", "pods");
/// Nodes.
pub const NODES: Resource = global("", "v1", "nodes");
/// Namespaces.
pub const NAMESPACES: Resource = global("", "v1", "namespaces");
/// Leases; a node's is in the namespace `kube-node-lease`.
pub const LEASES: Resource = namespaced("coordination.k8s.io", "v1", "leases");
/// ConfigMaps.
pub const CONFIG_MAPS: Resource = namespaced("", "v1", "configmaps");
/// Secrets.
pub const SECRETS: Resource = namespaced("", "v1", "secrets");
/// Services.
pub const SERVICES: Resource = namespaced("", "v1", "services");
/// EndpointSlices.
pub const ENDPOINT_SLICES: Resource = namespaced("discovery.k8s.io", "v1", "endpointslices");
/// Events of the core group, which the kubelet writes.
pub const CORE_EVENTS: Resource = namespaced("", "v1", "events");
/// Events of `events.k8s.io`.
pub const EVENTS: Resource = namespaced("events.k8s.io", "v1", "events");
/// Service accounts; tokens come from the sub-resource `token`.
pub const SERVICE_ACCOUNTS: Resource = namespaced("", "v1", "serviceaccounts");
/// Requests for certificates.
pub const CERTIFICATE_SIGNING_REQUESTS: Resource = global("certificates.k8s.io", "v1", "certificatesigningrequests");
/// Who a bearer token belongs to.
pub const TOKEN_REVIEWS: Resource = global("authentication.k8s.io", "v1", "tokenreviews");
/// Whether somebody may do something.
pub const SUBJECT_ACCESS_REVIEWS: Resource = global("authorization.k8s.io", "v1", "subjectaccessreviews");
/// RuntimeClasses.
pub const RUNTIME_CLASSES: Resource = global("node.k8s.io", "v1", "runtimeclasses");
/// PriorityClasses, which mirror pods and admission look at.
pub const PRIORITY_CLASSES: Resource = global("scheduling.k8s.io", "v1", "priorityclasses");
/// CSI drivers known to the cluster.
pub const CSI_DRIVERS: Resource = global("storage.k8s.io", "v1", "csidrivers");
/// What CSI drivers run on which node.
pub const CSI_NODES: Resource = global("storage.k8s.io", "v1", "csinodes");

impl Resource {
    /// The objects of every namespace, or all of a kind that has none.
    #[must_use]
    pub fn everywhere(self) -> Collection {
        Collection { resource: self, namespace: None }
    }

    /// The objects of one namespace.
    #[must_use]
    pub fn within(self, namespace: impl Into<String>) -> Collection {
        Collection { resource: self, namespace: Some(namespace.into()) }
    }

    /// One object of a kind that has no namespaces.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Object {
        self.everywhere().named(name)
    }
}

/// Objects of one kind: of a namespace or of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Collection {
    resource: Resource,
    namespace: Option<String>,
}

impl Collection {
    /// One object of the collection.
    #[must_use]
    pub fn named(&self, name: impl Into<String>) -> Object {
        Object { collection: self.clone(), name: name.into(), sub: None }
    }

    /// What kind of object this is.
    #[must_use]
    pub fn resource(&self) -> Resource {
        self.resource
    }

    /// The namespace, or `None` for all.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Path segments below the server's address.
    pub(crate) fn segments(&self) -> Result<Vec<&str>, ApiError> {
        let Resource { group, version, plural, .. } = self.resource;
        let mut segments = if group.is_empty() { vec!["api", version] } else { vec!["apis", group, version] };
        if let Some(namespace) = &self.namespace {
            segments.extend(["namespaces", checked(namespace)?]);
        }
        segments.push(plural);
        Ok(segments)
    }
}

impl std::fmt::Display for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource.plural)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

/// One object, or one of its sub-resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Object {
    collection: Collection,
    name: String,
    sub: Option<&'static str>,
}

impl Object {
    /// A sub-resource of it: `status`, `token`, `eviction`, `binding`, …
    #[must_use]
    pub fn subresource(mut self, sub: &'static str) -> Self {
        self.sub = Some(sub);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The collection that it is in.
    #[must_use]
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    pub(crate) fn segments(&self) -> Result<Vec<&str>, ApiError> {
        let mut segments = self.collection.segments()?;
        segments.push(checked(&self.name)?);
        segments.extend(self.sub);
        Ok(segments)
    }
}

/// What would change the path's meaning is refused as the API server refuses it
/// (apimachinery pkg/api/validation/path); everything else is escaped.
fn checked(segment: &str) -> Result<&str, ApiError> {
    match segment {
        "" | "." | ".." => Err(ApiError::PathSegment { segment: segment.to_owned() }),
        _ if segment.contains(['/', '%']) => Err(ApiError::PathSegment { segment: segment.to_owned() }),
        _ => Ok(segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |segments: Result<Vec<&str>, ApiError>, want: &str| {
            assert_eq!(segments.map(|s| s.join("/")).unwrap_or_else(|e| e.to_string()), want);
        };
        check(PODS.everywhere().segments(), "api/v1/pods");
        check(PODS.within("web").named("a").subresource("status").segments(), "api/v1/namespaces/web/pods/a/status");
        check(NODES.named("n1").segments(), "api/v1/nodes/n1");
        check(
            LEASES.within("kube-node-lease").named("n1").segments(),
            "apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
        );
        for bad in ["", ".", "..", "a/b", "a%2fb"] {
            assert!(PODS.within(bad).segments().is_err(), "{bad}");
            assert!(PODS.within("web").named(bad).segments().is_err(), "{bad}");
        }
    }
}
