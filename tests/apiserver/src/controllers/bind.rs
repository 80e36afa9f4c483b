//! The scheduler's part: pending pods get a node.

use serde_json::{Value, json};

use super::{all, call, text};
use crate::admission::tolerates;
use crate::cluster::Core;
use crate::options::Bind;
use crate::subresources;

/// Binds every pending pod that has somewhere to go; `turn` goes round the nodes.
pub(super) fn reconcile(core: &Core, to: &Bind, turn: &mut usize) {
    let nodes = all(core, "nodes");
    for pod in all(core, "pods") {
        let gated = pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
        let leaving = !pod["metadata"]["deletionTimestamp"].is_null();
        if !text(&pod, "/spec/nodeName").is_empty() || gated || leaving {
            continue;
        }
        let fitting: Vec<&str> =
            nodes.iter().filter(|node| fits(&pod, node)).map(|node| text(node, "/metadata/name")).collect();
        let node = match to {
            Bind::To(node) => node.as_str(),
            Bind::RoundRobin if !fitting.is_empty() => fitting[*turn % fitting.len()],
            Bind::RoundRobin | Bind::Off => continue,
        };
        *turn += 1;
        let (namespace, name) = (text(&pod, "/metadata/namespace"), text(&pod, "/metadata/name"));
        let mut binding = call("pods", namespace, name);
        binding.asked.subresource = "binding".into();
        let target = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        // A pod that went meanwhile needs no node; the next change looks again.
        let _ = subresources::bind(core, &binding, &target);
    }
}

fn fits(pod: &Value, node: &Value) -> bool {
    let ready = node["status"]["conditions"]
        .as_array()
        .is_some_and(|list| list.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
    let taints = node["spec"]["taints"].as_array().map_or(&[][..], Vec::as_slice);
    let tolerated = taints
        .iter()
        .filter(|taint| taint["effect"] != "PreferNoSchedule")
        .all(|taint| tolerates(&pod["spec"]["tolerations"], taint));
    let selected = pod["spec"]["nodeSelector"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| node["metadata"]["labels"][key] == *value));
    ready && tolerated && selected && node["spec"]["unschedulable"] != true
}
