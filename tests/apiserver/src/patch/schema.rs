//! How lists merge: the `patchStrategy` and `listType` tags of the served kinds.

/// What a list is to a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// Replaced as a whole.
    Atomic,
    /// A set of plain values.
    Set,
    /// Items told apart by this field.
    Map(&'static str),
}

/// The list at a path of field names (items of lists leave no step) in an object of a
/// kind. Source: the tags in `k8s.io/api`, v1.36. Taints and tolerations are atomic there.
pub(super) fn list_at(kind: &str, path: &[&str]) -> List {
    let parent = path.len().checked_sub(2).map_or("", |at| path[at]);
    let Some(field) = path.last() else { return List::Atomic };
    match (*field, parent) {
        ("ownerReferences", "metadata") => List::Map("uid"),
        ("finalizers", "metadata") | ("podCIDRs", "spec") => List::Set,
        ("conditions", "status") if kind == "CertificateSigningRequest" => List::Atomic,
        ("conditions" | "addresses", "status") => List::Map("type"),
        ("podIPs" | "hostIPs", "status") => List::Map("ip"),
        ("resourceClaimStatuses", "status") => List::Map("name"),
        ("containers" | "initContainers" | "ephemeralContainers", "spec") => List::Map("name"),
        ("volumes", "spec") if kind != "Node" => List::Map("name"),
        ("resourceClaims" | "schedulingGates" | "imagePullSecrets", "spec") => List::Map("name"),
        ("hostAliases", "spec") => List::Map("ip"),
        ("topologySpreadConstraints", "spec") => List::Map("topologyKey"),
        ("ports", "containers" | "initContainers" | "ephemeralContainers") => List::Map("containerPort"),
        ("ports", "spec") if kind == "Service" => List::Map("port"),
        ("env", _) => List::Map("name"),
        ("volumeMounts", _) => List::Map("mountPath"),
        ("volumeDevices", _) => List::Map("devicePath"),
        ("secrets" | "imagePullSecrets", "") if kind == "ServiceAccount" => List::Map("name"),
        _ => List::Atomic,
    }
}
