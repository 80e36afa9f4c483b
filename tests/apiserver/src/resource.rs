//! The kinds that this server serves. One table; discovery, routing and storage read it.

/// One served resource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// The API group; empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    /// Whether it has a `status` sub-resource.
    pub(crate) status: bool,
    /// Whether `metadata.generation` counts changes of `spec`.
    pub(crate) generation: bool,
    pub(crate) short_names: &'static [&'static str],
    /// The prefix it is stored under: both groups of Events share one.
    pub(crate) stored_as: &'static str,
}

impl Resource {
    /// `pods`, `leases.coordination.k8s.io`: as messages name it.
    pub(crate) fn qualified(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// `v1`, `coordination.k8s.io/v1`.
    pub(crate) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    pub(crate) fn singular(&self) -> String {
        self.kind.to_lowercase()
    }
}

const fn row(group: &'static str, plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource {
        group,
        version: "v1",
        plural,
        kind,
        namespaced,
        status: false,
        generation: false,
        short_names: &[],
        stored_as: plural,
    }
}

const NAMESPACED: bool = true;
const CLUSTER: bool = false;

/// Everything that is served.
pub(crate) static RESOURCES: &[Resource] = &[
    Resource { status: true, generation: true, short_names: &["po"], ..row("", "pods", "Pod", NAMESPACED) },
    Resource { status: true, short_names: &["no"], ..row("", "nodes", "Node", CLUSTER) },
    Resource { status: true, short_names: &["ns"], ..row("", "namespaces", "Namespace", CLUSTER) },
    Resource { status: true, short_names: &["svc"], ..row("", "services", "Service", NAMESPACED) },
    Resource { short_names: &["cm"], ..row("", "configmaps", "ConfigMap", NAMESPACED) },
    row("", "secrets", "Secret", NAMESPACED),
    Resource { short_names: &["sa"], ..row("", "serviceaccounts", "ServiceAccount", NAMESPACED) },
    Resource { short_names: &["ev"], ..row("", "events", "Event", NAMESPACED) },
    Resource { status: true, short_names: &["pv"], ..row("", "persistentvolumes", "PersistentVolume", CLUSTER) },
    Resource {
        status: true,
        short_names: &["pvc"],
        ..row("", "persistentvolumeclaims", "PersistentVolumeClaim", NAMESPACED)
    },
    Resource { short_names: &["limits"], ..row("", "limitranges", "LimitRange", NAMESPACED) },
    Resource { short_names: &["quota"], ..row("", "resourcequotas", "ResourceQuota", NAMESPACED) },
    Resource { short_names: &["ev"], ..row("events.k8s.io", "events", "Event", NAMESPACED) },
    row("coordination.k8s.io", "leases", "Lease", NAMESPACED),
    Resource { generation: true, ..row("discovery.k8s.io", "endpointslices", "EndpointSlice", NAMESPACED) },
    Resource {
        status: true,
        short_names: &["csr"],
        ..row("certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest", CLUSTER)
    },
    row("node.k8s.io", "runtimeclasses", "RuntimeClass", CLUSTER),
    row("storage.k8s.io", "csidrivers", "CSIDriver", CLUSTER),
    row("storage.k8s.io", "csinodes", "CSINode", CLUSTER),
    row("storage.k8s.io", "storageclasses", "StorageClass", CLUSTER),
    Resource { short_names: &["pc"], ..row("scheduling.k8s.io", "priorityclasses", "PriorityClass", CLUSTER) },
    Resource {
        status: true,
        generation: true,
        short_names: &["pdb"],
        ..row("policy", "poddisruptionbudgets", "PodDisruptionBudget", NAMESPACED)
    },
];

/// Reviews: created, answered, never stored. (group, plural, kind)
pub(crate) static REVIEWS: &[(&str, &str, &str)] = &[
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
];

/// The resource at a path, when it is served.
pub(crate) fn at(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|one| one.group == group && one.version == version && one.plural == plural)
}

/// By the name a test gives: `pods`, `leases`, or `events.events.k8s.io`.
///
/// # Panics
/// When there is none: the test is wrong.
pub(crate) fn named(name: &str) -> &'static Resource {
    RESOURCES
        .iter()
        .find(|one| one.plural == name || one.qualified() == name)
        .unwrap_or_else(|| panic!("this API server has no resource {name:?}"))
}
