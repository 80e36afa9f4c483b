//! Services in words: for the command line and for the counters.

use super::{Inner, Services};
use crate::api::{BackendView, ServicePortView, ServiceView};
use orlop_lb::describe;
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

    /// Names of backends' counters: (service, backend) numbers to words.
    pub fn names(&self) -> BTreeMap<(u32, u32), BackendName> {
        let inner = self.lock();
        let mut names = BTreeMap::new();
        for service in describe(&inner.compiler, inner.inputs()) {
            for port in &service.ports {
                let label = if port.name.is_empty() { port.port.to_string() } else { port.name.clone() };
                let ids = port.frontends.iter().filter_map(|frontend| frontend.service_id);
                for id in ids.collect::<BTreeSet<u32>>() {
                    // What found no backend is counted under number 0.
                    let refused = format!("{}/{}:{label}", service.namespace, service.name);
                    names.insert((id, 0), BackendName { service: refused, backend: "refused".to_owned(), pod: None });
                    for backend in &port.backends {
                        let Some(backend_id) = backend.backend_id else { continue };
                        let name = BackendName {
                            service: format!("{}/{}:{label}", service.namespace, service.name),
                            backend: SocketAddr::new(backend.addr, backend.port).to_string(),
                            pod: backend.pod.clone(),
                        };
                        names.insert((id, backend_id), name);
                    }
                }
            }
        }
        names
    }
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
        }
    }
}

fn backend_view(backend: &orlop_lb::BackendView) -> BackendView {
    BackendView { addr: backend.addr, port: backend.port, state: backend.status.to_string(), pod: backend.pod.clone() }
}
