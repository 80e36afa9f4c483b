//! The NodeRestriction admission plugin: a node changes only what is its own. Source of
//! its words: plugin/pkg/admission/noderestriction, v1.36.

use serde_json::Value;

use super::{Attributes, User};
use crate::resource;
use crate::status::Status;
use crate::store::State;

/// The name of the node that a user is, when it is one.
pub(crate) fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.is_in("system:nodes"))
}

/// Whether a user who is a node may make this change. `old` is nothing for a creation,
/// `new` is nothing for a removal.
pub(crate) fn admit_on_node(
    state: &State,
    user: &User,
    asked: &Attributes,
    (old, new): (Option<&Value>, Option<&Value>),
) -> Result<(), Status> {
    let Some(node) = node_of(user) else { return Ok(()) };
    let refused = match (asked.resource.as_str(), asked.subresource.as_str()) {
        ("pods", "") => match (old, new) {
            (None, Some(pod)) => mirror(state, node, pod),
            (Some(pod), None) => (pod["spec"]["nodeName"] != *node)
                .then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
            _ => Some(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods")),
        },
        ("pods", "status") => pod_status(node, old, new),
        ("pods", "eviction") => old
            .filter(|pod| pod["spec"]["nodeName"] != *node)
            .map(|_| format!("node {node} can only evict pods with spec.nodeName set to itself")),
        ("nodes", _) => own_node(node, asked, (old, new)),
        ("leases", _) => {
            let name = new.or(old).and_then(|lease| lease["metadata"]["name"].as_str());
            (name != Some(node)).then(|| "can only access node lease with the same name as the requesting node".into())
        }
        _ => None,
    };
    match refused {
        None => Ok(()),
        Some(why) => {
            let name = new.or(old).and_then(|object| object["metadata"]["name"].as_str()).unwrap_or(&asked.name);
            Err(Status::forbidden(resource::named(&asked.resource), name, &why))
        }
    }
}

fn mirror(state: &State, node: &str, pod: &Value) -> Option<String> {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let owners = pod["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return Some(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if pod["spec"]["nodeName"] != *node {
        return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let [owner] = owners else {
        let which = if owners.is_empty() { "an owner reference" } else { "a single owner reference" };
        return Some(format!("node {node:?} can only create pods with {which} set to itself"));
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != *node {
        return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Some(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return Some(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let Some(object) = state.get(resource::named("nodes"), "", node) else {
        return Some(format!("error looking up node {node} to verify uid: node {node:?} not found"));
    };
    if object["metadata"]["uid"] != owner["uid"] {
        return Some(format!(
            "node {node} UID mismatch: expected {} got {}",
            owner["uid"].as_str().unwrap_or_default(),
            object["metadata"]["uid"].as_str().unwrap_or_default()
        ));
    }
    let refers = crate::admission::references(&pod["spec"]);
    refers.first().map(|(resource, _)| format!("node {node:?} can not create pods that reference {resource}"))
}

fn pod_status(node: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    let (old, new) = (old?, new?);
    if old["spec"]["nodeName"] != *node {
        return Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    (old["metadata"]["labels"] != new["metadata"]["labels"])
        .then(|| format!("node {node:?} cannot update labels through pod status"))
}

fn own_node(node: &str, asked: &Attributes, (old, new): (Option<&Value>, Option<&Value>)) -> Option<String> {
    let name = new.or(old).and_then(|object| object["metadata"]["name"].as_str()).unwrap_or(&asked.name);
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let new = new?;
    let forbidden = forbidden_labels(old, new);
    match old {
        None if !forbidden.is_empty() => {
            Some(format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", ")))
        }
        None => None,
        Some(old) if old["spec"]["taints"] != new["spec"]["taints"] => {
            Some(format!("node {node:?} is not allowed to modify taints"))
        }
        Some(old) if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] => {
            Some(format!("node {node:?} is not allowed to modify ownerReferences"))
        }
        Some(_) if !forbidden.is_empty() => Some(format!("is not allowed to modify labels: {}", forbidden.join(", "))),
        Some(_) => None,
    }
}

/// Why a node may not have a token: it must be for a pod of its own, by unique id, and an
/// audience that the pod's volumes name. `pod` is the pod bound to, when there is one.
pub(crate) fn token_refused(user: &User, spec: &Value, pod: Option<&Value>) -> Option<String> {
    let node = node_of(user)?;
    let reference = &spec["boundObjectRef"];
    if reference["kind"] != "Pod" || reference["apiVersion"] != "v1" {
        return Some("node requested token not bound to a pod".into());
    }
    if reference["uid"].as_str().is_none_or(str::is_empty) {
        return Some("node requested token with a pod binding without a uid".into());
    }
    let pod = pod?;
    if pod["spec"]["nodeName"] != *node {
        return Some("node requested token bound to a pod scheduled on a different node".into());
    }
    let audiences = spec["audiences"].as_array().map_or(&[][..], Vec::as_slice);
    let audience = match audiences {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Some("node may only request 0 or 1 audiences".into()),
    };
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mut sources = volumes.flat_map(|volume| volume["projected"]["sources"].as_array()).flatten();
    let named = sources.any(|source| {
        source
            .get("serviceAccountToken")
            .is_some_and(|token| token["audience"].as_str().unwrap_or_default() == audience)
    });
    (!named).then(|| {
        format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            user.name
        )
    })
}

/// The labels changed that a kubelet may not set on itself.
fn forbidden_labels(old: Option<&Value>, new: &Value) -> Vec<String> {
    const KUBELET: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    ];
    let none = serde_json::Map::new();
    let new = new["metadata"]["labels"].as_object().unwrap_or(&none);
    let old = old.and_then(|old| old["metadata"]["labels"].as_object()).unwrap_or(&none);
    let within = |domain: &str, of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    let mut names: Vec<String> = new
        .keys()
        .chain(old.keys())
        .filter(|name| new.get(*name) != old.get(*name))
        .filter(|name| {
            let domain = name.split_once('/').map_or("", |(domain, _)| domain);
            let kubernetes = within(domain, "kubernetes.io") || within(domain, "k8s.io");
            let kubelets = KUBELET.contains(&name.as_str())
                || within(domain, "kubelet.kubernetes.io")
                || within(domain, "node.kubernetes.io");
            within(domain, "node-restriction.kubernetes.io") || (kubernetes && !kubelets)
        })
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}
