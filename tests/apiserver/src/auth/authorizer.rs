//! Authorization: administrators, nodes, and a list of rules.

use super::{Rule, User, node_of};
use crate::resource;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{State, Store};

/// What a request wants to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The path of a request that is not for a resource.
    pub(crate) path: String,
    pub(crate) selector: Selector,
}

/// `Ok` when allowed; otherwise the reason, often empty.
pub(crate) fn authorize(store: &Store, rules: &[Rule], user: &User, asked: &Attributes) -> Result<(), String> {
    if user.is_in("system:masters") {
        return Ok(());
    }
    if open_to_all(user, asked) || rules.iter().any(|rule| rule.allows(user, asked)) {
        return Ok(());
    }
    match node_of(user) {
        Some(node) => store.read(|state| on_node(state, node, asked)),
        None => Err(String::new()),
    }
}

/// The answer to who may not: `pods "x" is forbidden: User "u" cannot get …`.
pub(crate) fn denied(user: &User, asked: &Attributes, why: &str) -> Status {
    let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
    if asked.resource.is_empty() {
        let message = format!("forbidden: User {:?} cannot {} path {:?}{reason}", user.name, asked.verb, asked.path);
        return Status::new(403, "Forbidden", message);
    }
    let within = match (asked.subresource.as_str(), asked.resource.as_str()) {
        ("", resource) => resource.to_owned(),
        (sub, resource) => format!("{resource}/{sub}"),
    };
    let scope = match asked.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let said = format!(
        "User {:?} cannot {} resource {within:?} in API group {:?} {scope}{reason}",
        user.name, asked.verb, asked.group
    );
    match resource::at(&asked.group, "v1", &asked.resource) {
        Some(resource) => Status::forbidden(resource, &asked.name, &said),
        None => Status::new(403, "Forbidden", format!("{} is forbidden: {said}", asked.resource)),
    }
}

impl Rule {
    fn allows(&self, user: &User, asked: &Attributes) -> bool {
        let is = |rule: &str, asked: &str| rule.is_empty() || rule == "*" || rule == asked;
        let within = if asked.subresource.is_empty() {
            asked.resource.clone()
        } else {
            format!("{}/{}", asked.resource, asked.subresource)
        };
        let what = if asked.resource.is_empty() { &asked.path } else { &within };
        (is(&self.subject, &user.name) || user.is_in(&self.subject))
            && is(&self.verb, &asked.verb)
            && is(&self.resource, what)
            && is(&self.namespace, &asked.namespace)
    }
}

/// What the bootstrap policy gives to everybody, and to joining nodes.
fn open_to_all(user: &User, asked: &Attributes) -> bool {
    if asked.resource.is_empty() {
        let known = user.is_in("system:authenticated");
        let open = ["/healthz", "/livez", "/readyz", "/version"];
        return open.iter().any(|one| asked.path.starts_with(one))
            || (known && (asked.path.starts_with("/api") || asked.path.starts_with("/openapi")));
    }
    let reads = ["get", "list", "watch"].contains(&asked.verb.as_str());
    match (asked.resource.as_str(), asked.subresource.as_str()) {
        ("configmaps", "") => asked.namespace == "kube-public" && asked.name == "cluster-info" && asked.verb == "get",
        ("selfsubjectaccessreviews" | "selfsubjectreviews", _) => user.is_in("system:authenticated"),
        ("certificatesigningrequests", "") => {
            (user.is_in("system:bootstrappers") || user.is_in("system:nodes")) && (reads || asked.verb == "create")
        }
        _ => false,
    }
}

/// The Node authorizer. Source of its words: plugin/pkg/auth/authorizer/node, v1.36.
fn on_node(state: &State, node: &str, asked: &Attributes) -> Result<(), String> {
    let verb = asked.verb.as_str();
    let reads = ["get", "list", "watch"].contains(&verb);
    let no = |why: &str| Err(why.to_owned());
    match (asked.resource.as_str(), asked.subresource.as_str()) {
        ("secrets" | "configmaps", sub) => match () {
            () if !reads => no("can only read resources of this type"),
            () if !sub.is_empty() => no("cannot read subresource"),
            () if asked.namespace.is_empty() => no("can only read namespaced object of this type"),
            () if asked.name.is_empty() => no("No Object name found"),
            () => related(state, node, asked),
        },
        ("serviceaccounts", "") if verb == "get" => related(state, node, asked),
        ("serviceaccounts", "token") if verb == "create" && !asked.name.is_empty() => related(state, node, asked),
        ("serviceaccounts", _) => no("can only create tokens for individual service accounts"),
        ("persistentvolumeclaims", "") if verb == "get" => related(state, node, asked),
        ("persistentvolumeclaims" | "persistentvolumes", _) if verb != "get" => {
            no("can only get individual resources of this type")
        }
        ("leases", _) => lease(node, asked),
        ("nodes", sub) => own_node(node, asked, sub),
        ("pods", sub) => own_pods(state, node, asked, sub),
        ("services" | "runtimeclasses" | "csidrivers" | "persistentvolumes", "") if reads => Ok(()),
        ("endpointslices", "") if reads => Ok(()),
        ("csinodes", _) if asked.name == node || verb == "create" => Ok(()),
        ("events", _) if ["create", "update", "patch"].contains(&verb) => Ok(()),
        ("tokenreviews" | "subjectaccessreviews", _) if verb == "create" => Ok(()),
        _ => no(""),
    }
}

fn lease(node: &str, asked: &Attributes) -> Result<(), String> {
    if !["get", "create", "update", "patch", "delete"].contains(&asked.verb.as_str()) {
        return Err("can only get, create, update, patch, or delete a node lease".into());
    }
    if asked.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    if asked.verb != "create" && asked.name != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

/// A node may read every node only by the rules of kube-proxy, which Orlop also is:
/// these are given by the usual binding of `system:node-proxier` to the node's group.
fn own_node(_node: &str, asked: &Attributes, sub: &str) -> Result<(), String> {
    match (sub, asked.verb.as_str()) {
        ("" | "status", "create" | "update" | "patch") | ("", "get" | "list" | "watch") => Ok(()),
        ("", verb) => Err(format!("cannot {verb} nodes")),
        _ => Err("cannot access nodes subresource".into()),
    }
}

fn own_pods(state: &State, node: &str, asked: &Attributes, sub: &str) -> Result<(), String> {
    match (sub, asked.verb.as_str()) {
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
        ("", "list" | "watch") => match asked.selector.required("spec.nodeName") {
            Some(wanted) if wanted == node => Ok(()),
            _ => Err("can only list/watch pods with spec.nodeName field selector".into()),
        },
        ("", "get") => {
            let here = state
                .get(resource::named("pods"), &asked.namespace, &asked.name)
                .is_none_or(|pod| pod["spec"]["nodeName"] == *node);
            if here { Ok(()) } else { Err(unrelated(node)) }
        }
        _ => Err(String::new()),
    }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// Whether a pod of the node refers to the object.
fn related(state: &State, node: &str, asked: &Attributes) -> Result<(), String> {
    let refers = state.of("pods").any(|((_, namespace, _), pod)| {
        *namespace == asked.namespace
            && pod["spec"]["nodeName"] == *node
            && crate::admission::references(&pod["spec"])
                .iter()
                .any(|(resource, name)| *resource == asked.resource && *name == asked.name)
    });
    // Secrets of the service account are reached through it.
    let through_account = || {
        asked.resource == "secrets"
            && state.of("serviceaccounts").any(|((_, namespace, account), object)| {
                *namespace == asked.namespace
                    && ["secrets", "imagePullSecrets"].iter().any(|list| {
                        object[*list].as_array().is_some_and(|list| list.iter().any(|one| one["name"] == *asked.name))
                    })
                    && state.of("pods").any(|((_, namespace, _), pod)| {
                        *namespace == asked.namespace
                            && pod["spec"]["nodeName"] == *node
                            && pod["spec"]["serviceAccountName"] == *account
                    })
            })
    };
    if refers || through_account() { Ok(()) } else { Err(unrelated(node)) }
}
