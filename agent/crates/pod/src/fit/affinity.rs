//! `nodeSelector` and the required part of `nodeAffinity`.

use super::NodeFacts;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Whether the node is one that the pod wants: all of `nodeSelector`, and one of the terms.
pub(super) fn matches(spec: &PodSpec, node: &NodeFacts<'_>) -> bool {
    let mut selected = spec.node_selector.iter().flatten();
    if !selected.all(|(key, value)| node.labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|one| term(one, node)))
}

/// An empty term matches nothing.
fn term(term: &NodeSelectorTerm, node: &NodeFacts<'_>) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|one| label(one, node.labels.get(&one.key).map(String::as_str)))
        && fields.iter().all(|one| field(one, node))
}

fn label(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let numbers = || match (value, values) {
        (Some(value), [bound]) => Some((value.parse::<i64>().ok()?, bound.parse::<i64>().ok()?)),
        _ => None,
    };
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        // A term with an operator that is none matches nothing.
        _ => false,
    }
}

/// `metadata.name` is the only field; a DaemonSet's pods are bound by it.
fn field(wanted: &NodeSelectorRequirement, node: &NodeFacts<'_>) -> bool {
    let value = if wanted.key == "metadata.name" { node.name } else { "" };
    match (wanted.operator.as_str(), wanted.values.as_deref().unwrap_or_default()) {
        ("In", [only]) => only == value,
        ("NotIn", [only]) => only != value,
        _ => false,
    }
}
