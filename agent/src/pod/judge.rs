//! Which of the given pods may run. Pure.

use super::source::{Origin, PodSource};
use crate::manifest::Problem;
use orlop_model::{PodDesired, PodUid, Protocol};
use orlop_pod::AdmitContext;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// All that is wanted now.
pub(crate) struct Given {
    /// Pods, in the order of their claims to ports of the node.
    pub pods: Vec<Arc<PodSource>>,
    /// What is wrong with manifests.
    pub problems: Vec<Problem>,
    /// The API server has said what it wants, or there is none.
    pub api_known: bool,
}

/// A pod that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `namespace/name`.
    pub key: String,
    /// Its UID; empty for a manifest that gives none.
    pub uid: String,
    /// Who wants it.
    pub origin: Origin,
    /// CamelCase.
    pub reason: &'static str,
    /// Why, with the field.
    pub message: String,
}

/// Pods judged: those that may run and those that may not.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// By UID, as given and as admitted.
    pub pods: BTreeMap<PodUid, (Arc<PodSource>, PodDesired)>,
    /// By `namespace/name`.
    pub refused: BTreeMap<String, Refused>,
    /// Object and message.
    pub warnings: Vec<(String, String)>,
}

/// Admits what can be admitted. Of two manifests the first in the order of their names
/// has a port of the node that both ask for. What was judged before (`last`) and is the
/// same is not judged again.
pub(super) fn judge(given: &Given, cx: &AdmitContext, last: &BTreeMap<PodUid, (Arc<PodSource>, PodDesired)>) -> Judged {
    let mut judged = Judged::default();
    for problem in &given.problems {
        let Some(key) = problem.object.as_deref().and_then(|object| object.strip_prefix("Pod ")) else { continue };
        let origin = Origin::File(problem.file.clone());
        judged.refuse(key.to_owned(), String::new(), origin, "Invalid", problem.message.clone());
    }
    let mut ports = BTreeMap::new();
    for source in &given.pods {
        let refuse = |judged: &mut Judged, reason, message| {
            judged.refuse(key_of(source), source.uid.clone(), source.origin.clone(), reason, message);
        };
        let uid = match PodUid::new(source.uid.clone()) {
            Ok(uid) => uid,
            Err(error) => {
                refuse(&mut judged, "Invalid", error.to_string());
                continue;
            }
        };
        let admitted = match last.get(&uid) {
            Some((before, admitted)) if Arc::ptr_eq(before, source) => Ok(admitted.clone()),
            _ => orlop_pod::admit(&source.pod, uid.clone(), cx).map(|admitted| {
                judged.warn(source, &admitted);
                admitted.pod
            }),
        };
        match admitted {
            Err(rejection) => refuse(&mut judged, rejection.reason, rejection.to_string()),
            Ok(pod) => {
                // The API server's pods are weighed against what runs: `Node::admits`.
                let clash = matches!(source.origin, Origin::File(_)).then(|| port_clash(&pod, &mut ports)).flatten();
                match clash {
                    Some(clash) => refuse(&mut judged, "Invalid", clash),
                    None => drop(judged.pods.insert(uid, (Arc::clone(source), pod))),
                }
            }
        }
    }
    judged
}

fn key_of(source: &PodSource) -> String {
    let meta = &source.pod.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}

impl Judged {
    fn refuse(&mut self, key: String, uid: String, origin: Origin, reason: &'static str, message: String) {
        self.refused.insert(key.clone(), Refused { key, uid, origin, reason, message });
    }

    fn warn(&mut self, source: &PodSource, admitted: &orlop_pod::Admitted) {
        let object = crate::node::pod_object(&admitted.pod);
        // Who says nothing about DNS need not hear that the node has no cluster DNS.
        let silent = source.pod.spec.as_ref().is_some_and(|spec| spec.dns_policy.is_none());
        let told = admitted.warnings.iter().filter(|w| !(silent && w.path == "spec.dnsPolicy"));
        self.warnings.extend(told.map(|w| (object.clone(), w.to_string())));
    }
}

/// Ports of the node that pods have asked for, on which address (`None` is all of them), and who was first.
type NodePorts = BTreeMap<(u16, Protocol), Vec<(Option<IpAddr>, String)>>;

/// Claims the pod's ports on the node, or says whose they are.
fn port_clash(pod: &PodDesired, taken: &mut NodePorts) -> Option<String> {
    let mut claims = Vec::new();
    for (index, container) in pod.containers.iter().enumerate() {
        for (at, port) in container.ports.iter().enumerate() {
            let on_node = port.host_port.or(pod.host_network.then_some(port.container_port));
            let Some(number) = on_node else { continue };
            let mut owners = taken.get(&(number, port.protocol)).into_iter().flatten();
            let clash = |ip: &Option<IpAddr>| ip.is_none() || port.host_ip.is_none() || *ip == port.host_ip;
            if let Some((_, owner)) = owners.find(|(ip, _)| clash(ip)) {
                return Some(format!(
                    "spec.containers[{index}].ports[{at}].hostPort: Invalid value: {number}: \
                     node didn't have free ports for the requested pod ports: {number}/{} belongs to pod {owner}",
                    port.protocol
                ));
            }
            claims.push(((number, port.protocol), port.host_ip));
        }
    }
    for (claim, ip) in claims {
        taken.entry(claim).or_default().push((ip, pod.key.to_string()));
    }
    None
}
