//! Services in words: for the command line and for the counters.

use super::{Inner, Services};
use crate::api::{BackendView, HostPortView, ServicePortView, ServiceView};
use orlop_lb::{describe, describe_host_ports};
use orlop_model::{PodKey, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

impl Services {
    /// Services that select the pod, `namespace/name`.
    pub fn of_pod(&self, key: &PodKey) -> Vec<String> {
        let inner = self.lock();
        let Some(pod) = inner.pods.values().find(|pod| pod.key == *key) else { return Vec::new() };
        let manifests = inner.wanted.values().filter(|service| service.selects(pod)).map(|service| &service.key);
        let cluster = inner.cluster.services().filter(|service| service.selects(pod)).map(|service| &service.key);
        let mut names: Vec<String> = manifests.chain(cluster).map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// All services as the command line shows them.
    pub fn views(&self) -> Vec<ServiceView> {
        let inner = self.lock();
        describe(&inner.compiler, inner.inputs()).into_iter().map(|view| inner.view(view)).collect()
    }

    /// Host ports of all pods.
    pub fn host_ports(&self) -> Vec<HostPortView> {
        let views = describe_host_ports(&self.lock().compiler);
        let view = |port: orlop_lb::HostPortView| HostPortView {
            pod: port.pod,
            address: port.address,
            target: port.target.to_string(),
            taken_by: port.taken_by,
        };
        views.into_iter().map(view).collect()
    }

    /// Names of the counters that there are: (service, backend) numbers to words. Of
    /// what was never used no name is made: there may be 100,000 backends.
    pub fn names(&self) -> BTreeMap<(u32, u32), BackendName> {
        let inner = self.lock();
        // Unreadable counters are not gone: then everything has a name.
        let counted = self.datapath.service_counters().ok();
        let counted: Option<BTreeSet<(u32, u32)>> = counted.map(|all| all.into_iter().map(|(ids, _)| ids).collect());
        if !inner.open {
            // Whose they are is not known yet; that they are somebody's is.
            let numbered = |ids: (u32, u32)| BackendName {
                service: format!("service {}", ids.0),
                backend: format!("backend {}", ids.1),
                pod: None,
            };
            return counted.into_iter().flatten().map(|ids| (ids, numbered(ids))).collect();
        }
        let wanted = |ids: &(u32, u32)| counted.as_ref().is_none_or(|counted| counted.contains(ids));
        let used =
            |id: u32| counted.as_ref().is_none_or(|counted| counted.range((id, 0)..=(id, u32::MAX)).next().is_some());
        let keys = inner.wanted.keys().chain(inner.cluster.services().map(|service| &service.key));
        let mut names = BTreeMap::new();
        for key in keys.filter(|key| inner.compiler.numbers(key).any(used)) {
            for service in describe(&inner.compiler, inner.inputs_of(key)) {
                names.extend(names_of(&service).filter(|(ids, _)| wanted(ids)));
            }
        }
        for port in describe_host_ports(&inner.compiler) {
            names.extend(names_of_host_port(&port).into_iter().filter(|(ids, _)| wanted(ids)));
        }
        names
    }
}

/// A host port's part of [`Services::names`].
fn names_of_host_port(port: &orlop_lb::HostPortView) -> Vec<((u32, u32), BackendName)> {
    let Some(id) = port.service_id else { return Vec::new() };
    let service = format!("host port {}", port.address);
    let refused = BackendName { service: service.clone(), backend: "refused".to_owned(), pod: None };
    let to_pod = BackendName { service, backend: port.target.to_string(), pod: Some(port.pod.clone()) };
    let to_pod = port.backend_id.map(|backend| ((id, backend), to_pod));
    [Some(((id, 0), refused)), to_pod].into_iter().flatten().collect()
}

/// A Service's part of [`Services::names`].
fn names_of(service: &orlop_lb::ServiceView) -> impl Iterator<Item = ((u32, u32), BackendName)> {
    service.ports.iter().flat_map(move |port| {
        let label = if port.name.is_empty() { port.port.to_string() } else { port.name.clone() };
        let label = format!("{}/{}:{label}", service.namespace, service.name);
        let ids: BTreeSet<u32> = port.frontends.iter().filter_map(|frontend| frontend.service_id).collect();
        ids.into_iter().flat_map(move |id| {
            // What found no backend is counted under number 0.
            let refused = BackendName { service: label.clone(), backend: "refused".to_owned(), pod: None };
            let label = label.clone();
            let backends = port.backends.iter().filter_map(move |backend| {
                let name = BackendName {
                    service: label.clone(),
                    backend: SocketAddr::new(backend.addr, backend.port).to_string(),
                    pod: backend.pod.clone(),
                };
                Some(((id, backend.backend_id?), name))
            });
            std::iter::once(((id, 0), refused)).chain(backends)
        })
    })
}

/// A backend's counters in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendName {
    /// `namespace/name:port`.
    pub service: String,
    /// `addr:port`.
    pub backend: String,
    /// The pod behind it.
    pub pod: Option<String>,
}

impl Inner {
    fn view(&self, view: orlop_lb::ServiceView) -> ServiceView {
        let key = ServiceKey::new(&view.namespace, &view.name).ok();
        let wanted = key.as_ref().and_then(|key| self.wanted.get(key));
        let lean = key.as_ref().and_then(|key| self.cluster.service(key));
        let node_port = |port: &orlop_lb::PortView| {
            let of_manifest = wanted.into_iter().flat_map(|one| &one.ports).map(|p| (p.port, p.protocol, p.node_port));
            let of_cluster = lean.into_iter().flat_map(|one| &one.ports).map(|p| (p.port, p.protocol, p.node_port));
            let mut all = of_manifest.chain(of_cluster);
            all.find(|(number, protocol, _)| (*number, *protocol) == (port.port, port.protocol))?.2
        };
        let ports = view.ports.iter().map(|port| ServicePortView {
            name: (!port.name.is_empty()).then(|| port.name.clone()),
            protocol: port.protocol.to_string(),
            port: port.port,
            node_port: node_port(port),
            backends: port.backends.iter().map(backend_view).collect(),
        });
        ServiceView {
            ports: ports.collect(),
            created: lean
                .and_then(|one| one.created)
                .or_else(|| key.as_ref().and_then(|key| self.since.get(key).copied())),
            namespace: view.namespace,
            name: view.name,
            kind: view.kind,
            cluster_ips: view.cluster_ips,
            external_ips: view.external_ips,
            load_balancer_ips: view.load_balancer_ips,
            external_local: view.external_local,
            internal_local: view.internal_local,
            session_affinity_s: view.session_affinity_s,
            source_ranges: view.source_ranges,
            health_check_node_port: view.health_check_node_port,
            other_proxy: view.other_proxy,
        }
    }
}

fn backend_view(backend: &orlop_lb::BackendView) -> BackendView {
    BackendView { addr: backend.addr, port: backend.port, state: backend.status.to_string(), pod: backend.pod.clone() }
}
