//! EndpointSlices of Services with selectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{all, call, make, text};
use crate::cluster::Core;
use crate::operations;
use crate::removal::{self, DeleteOptions};
use crate::selector::matches_map;

const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
const SERVICE: &str = "kubernetes.io/service-name";

/// Whether a pod's condition Ready is true.
pub(super) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .is_some_and(|list| list.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// One slice a Service and set of port numbers: a named port may differ between pods.
pub(super) fn reconcile(core: &Core) {
    let pods = all(core, "pods");
    let mut wanted: BTreeMap<(String, String), Value> = BTreeMap::new();
    for service in all(core, "services") {
        if !service["spec"]["selector"].is_object() || service["spec"]["type"] == "ExternalName" {
            continue;
        }
        let mut groups = groups(&service, &pods);
        if groups.is_empty() {
            groups.insert("[]".into(), (json!([]), Vec::new()));
        }
        for (index, (_, (ports, endpoints))) in groups.into_iter().enumerate() {
            let name = format!("{}-slice{index}", text(&service, "/metadata/name"));
            let namespace = text(&service, "/metadata/namespace").to_owned();
            let slice = slice(&service, &name, (ports, json!(endpoints)));
            wanted.insert((namespace, name), slice);
        }
    }
    for slice in all(core, "endpointslices") {
        let key = (text(&slice, "/metadata/namespace").to_owned(), text(&slice, "/metadata/name").to_owned());
        if slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] != MANAGED_BY {
            continue;
        }
        let own = call("endpointslices", &key.0, &key.1);
        match wanted.remove(&key) {
            None => drop(removal::delete(core, &own, &DeleteOptions::default())),
            Some(new) => drop(operations::update(core, &own, new)),
        }
    }
    for ((namespace, _), slice) in wanted {
        make(core, "endpointslices", &namespace, slice);
    }
}

fn slice(service: &Value, name: &str, (ports, endpoints): (Value, Value)) -> Value {
    let six = text(service, "/spec/ipFamilies/0") == "IPv6";
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": service["metadata"]["namespace"],
            "labels": {SERVICE: service["metadata"]["name"], "endpointslice.kubernetes.io/managed-by": MANAGED_BY},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": service["metadata"]["name"],
                "uid": service["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "addressType": if six { "IPv6" } else { "IPv4" }, "ports": ports, "endpoints": endpoints,
    })
}

type Groups = BTreeMap<String, (Value, Vec<Value>)>;

/// The endpoints of a Service by their ports.
fn groups(service: &Value, pods: &[Arc<Value>]) -> Groups {
    let mut groups = Groups::new();
    let publish = service["spec"]["publishNotReadyAddresses"] == true;
    for pod in pods {
        let ended = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
        let here = pod["metadata"]["namespace"] == service["metadata"]["namespace"]
            && matches_map(&service["spec"]["selector"], pod);
        if !here || ended || text(pod, "/status/podIP").is_empty() {
            continue;
        }
        let ports = ports(service, pod);
        let (ready, terminating) = (is_ready(pod), !pod["metadata"]["deletionTimestamp"].is_null());
        let endpoint = json!({
            "addresses": [pod["status"]["podIP"]],
            "conditions": {
                "ready": publish || (ready && !terminating), "serving": publish || ready, "terminating": terminating,
            },
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": {
                "kind": "Pod", "namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"],
                "uid": pod["metadata"]["uid"],
            },
        });
        groups.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
    }
    groups
}

/// The Service's ports as numbers in this pod; a port that the pod does not name is left out.
fn ports(service: &Value, pod: &Value) -> Value {
    let found = service["spec"]["ports"].as_array().into_iter().flatten().filter_map(|port| {
        let number = match &port["targetPort"] {
            Value::String(name) => named(pod, name, &port["protocol"])?,
            number => number.as_u64()?,
        };
        let name = port["name"].as_str().unwrap_or_default();
        let mut entry = json!({"name": name, "port": number, "protocol": port["protocol"]});
        if !port["appProtocol"].is_null() {
            entry["appProtocol"] = port["appProtocol"].clone();
        }
        Some(entry)
    });
    found.collect()
}

fn named(pod: &Value, name: &str, protocol: &Value) -> Option<u64> {
    let containers = ["containers", "initContainers"].into_iter().flat_map(|kind| pod["spec"][kind].as_array());
    let mut ports = containers.flatten().flat_map(|container| container["ports"].as_array()).flatten();
    ports.find(|port| port["name"] == *name && port["protocol"] == *protocol)?["containerPort"].as_u64()
}
