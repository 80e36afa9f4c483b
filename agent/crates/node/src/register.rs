//! A Node that is made, and one that was there before.

use crate::address::{PROVIDED_IP, provided_ip};
use crate::label::{OWN_LABELS, labels};
use crate::resources::HUGEPAGES;
use crate::status::{set_annotation, status};
use crate::{Cloud, NodeFacts, Patch, diff};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The attach-detach controller may act for this node.
const ATTACH_DETACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Keeps pods away until an external cloud provider knows the node.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// A new Node, for `POST nodes`.
#[must_use]
pub fn register(facts: &NodeFacts, now: Timestamp) -> Node {
    let settings = &facts.settings;
    let mut taints = settings.taints.clone();
    if settings.cloud == Cloud::External {
        taints.push(Taint {
            key: UNINITIALIZED.to_owned(),
            value: Some("true".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        });
    }
    let metadata =
        ObjectMeta { name: Some(settings.name.clone()), labels: Some(labels(facts)), ..ObjectMeta::default() };
    let spec = NodeSpec {
        taints: (!taints.is_empty()).then_some(taints),
        provider_id: (!settings.provider_id.is_empty()).then(|| settings.provider_id.clone()),
        ..NodeSpec::default()
    };
    let mut node = Node { metadata, spec: Some(spec), status: Some(status(None, facts, now)) };
    set_annotation(&mut node, ATTACH_DETACH, settings.controller_attach_detach.then(|| "true".to_owned()));
    set_annotation(&mut node, PROVIDED_IP, provided_ip(facts));
    node
}

/// What a Node that was there before the agent started has to be told, once: default
/// labels, the attach-detach annotation, and huge pages that came or went. Taints and
/// labels of `--node-labels` outside Kubernetes' own set are for new Nodes only.
#[must_use]
pub fn reconcile(existing: &Node, facts: &NodeFacts) -> Option<Patch> {
    let mut node = existing.clone();
    let wanted = labels(facts);
    let own = node.metadata.labels.get_or_insert_default();
    for key in OWN_LABELS {
        match wanted.get(key) {
            Some(value) if value.is_empty() => drop(own.remove(key)),
            Some(value) => drop(own.insert(key.to_owned(), value.clone())),
            None => {}
        }
    }
    let attach_detach = facts.settings.controller_attach_detach.then(|| "true".to_owned());
    set_annotation(&mut node, ATTACH_DETACH, attach_detach);
    reconcile_resources(&mut node, facts);
    diff(existing, &node)
}

/// Huge pages follow the machine; capacity and allocatable that were never set are made.
fn reconcile_resources(node: &mut Node, facts: &NodeFacts) {
    let status = node.status.get_or_insert_default();
    let lists = [
        (&mut status.capacity, crate::capacity(facts).quantities()),
        (&mut status.allocatable, crate::allocatable(facts).quantities()),
    ];
    for (list, wanted) in lists {
        let Some(list) = list else {
            *list = Some(wanted);
            continue;
        };
        list.retain(|name, _| !name.starts_with(HUGEPAGES) || wanted.contains_key(name));
        list.extend(wanted.into_iter().filter(|(name, _)| name.starts_with(HUGEPAGES)));
    }
}
