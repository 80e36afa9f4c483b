//! Services as a person wants to see them.

use crate::address::{is_node_port, socket_text};
use crate::{Compiler, IpFamily, LbTables, addr_bytes, addr_ip, frontend_key, port_bytes, port_number};
use crate::{Endpoint, Input, ServicePort};
use orlop_ebpf_abi::{BackendState, FrontendKey};
use orlop_model::{Protocol, ServiceKey};
use serde::Serialize;
use std::net::IpAddr;

/// A Service with what it has in the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName` or `Headless`.
    pub kind: String,
    /// Its addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<PortView>,
}

/// One of its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    /// Name, `""` for none.
    pub name: String,
    /// Port.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Where clients connect.
    pub frontends: Vec<FrontendView>,
    /// Where connections go, in the order of addresses.
    pub backends: Vec<BackendView>,
}

/// An address where clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendView {
    /// `10.96.0.7:80/TCP`; a NodePort as `0.0.0.0:30080/TCP` or `[::]:30080/TCP`.
    pub address: String,
    /// Open on every address of the node.
    pub node_port: bool,
    /// The Service port's number in the tables and in the counters; `None` when it
    /// has none.
    pub service_id: Option<u32>,
    /// How many backends take new connections here; 0 refuses them.
    pub active: u32,
    /// Another Service has this frontend.
    pub taken_by: Option<String>,
}

/// What a backend does, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendStatus {
    /// Takes new connections.
    Active,
    /// Terminating, but takes new connections because no other does.
    ActiveTerminating,
    /// Terminating: keeps the connections it has.
    Draining,
    /// Not ready.
    NotReady,
}

impl std::fmt::Display for BackendStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::ActiveTerminating => "active-terminating",
            Self::Draining => "draining",
            Self::NotReady => "not-ready",
        })
    }
}

/// An address where connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// Its number in the tables and in the counters; `None` for a Service without
    /// frontends.
    pub backend_id: Option<u32>,
    /// Address.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// `namespace/name` of the pod, when known.
    pub pod: Option<String>,
    /// What it does.
    pub status: BackendStatus,
}

/// These Services, as given to a compiler, by name.
#[must_use]
pub fn describe(compiler: &Compiler, inputs: impl IntoIterator<Item = Input>) -> Vec<ServiceView> {
    let mut views: Vec<ServiceView> = inputs.into_iter().map(|input| service_view(compiler, &input)).collect();
    views.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    views
}

fn service_view(compiler: &Compiler, input: &Input) -> ServiceView {
    let service = &input.service;
    ServiceView {
        namespace: service.key.namespace().to_owned(),
        name: service.key.name().to_owned(),
        kind: if service.headless { "Headless".to_owned() } else { service.kind.to_string() },
        cluster_ips: service.cluster_ips.clone(),
        ports: service.ports.iter().map(|port| port_view(compiler, input, port)).collect(),
    }
}

fn port_view(compiler: &Compiler, input: &Input, port: &ServicePort) -> PortView {
    let service = &input.service;
    let mut keys = Vec::new();
    if service.wants_cluster_ip() && port.protocol != Protocol::Sctp {
        keys.extend(service.cluster_ips.iter().map(|&ip| (frontend_key(ip, port.port, port.protocol), false)));
        if let (true, Some(node_port)) = (service.wants_node_ports(), port.node_port) {
            let families = [IpFamily::IPv4, IpFamily::IPv6].into_iter();
            let families = families.filter(|family| service.cluster_ips.iter().any(|ip| IpFamily::of(*ip) == *family));
            keys.extend(families.map(|family| (frontend_key(family.unspecified(), node_port, port.protocol), true)));
        }
    }
    let mut backends: Vec<BackendView> =
        input.endpoints.iter().filter_map(|endpoint| backend_view(compiler, port, endpoint)).collect();
    backends.sort_by_key(|backend| (backend.addr, backend.port, backend.status));
    // Two slices may tell of one address; the better counts, as in the tables.
    backends.dedup_by_key(|backend| (backend.addr, backend.port));
    PortView {
        name: port.name.clone(),
        port: port.port,
        protocol: port.protocol,
        frontends: keys.into_iter().map(|(key, node)| frontend_view(compiler, &service.key, key, node)).collect(),
        backends,
    }
}

fn frontend_view(compiler: &Compiler, service: &ServiceKey, key: FrontendKey, node_port: bool) -> FrontendView {
    let found = compiler.frontend(&key);
    let owner = found.map(|(owner, _)| owner);
    let own = found.filter(|(owner, _)| *owner == service).map(|(_, frontend)| frontend);
    FrontendView {
        address: socket_text(key.addr, key.port, key.proto),
        node_port,
        service_id: own.map(|frontend| frontend.service),
        active: own.map_or(0, |frontend| frontend.count),
        taken_by: owner.filter(|owner| *owner != service).map(ToString::to_string),
    }
}

fn backend_view(compiler: &Compiler, port: &ServicePort, endpoint: &Endpoint) -> Option<BackendView> {
    let target = endpoint.target(port)?;
    let name = (addr_bytes(endpoint.addr), port_bytes(target), port.protocol.number());
    let known = compiler.backend(name);
    let (backend_id, active) = (known.map(|(id, _)| id), known.is_some_and(|(_, active)| active));
    let status = match (endpoint.ready, endpoint.terminating) {
        (true, _) => BackendStatus::Active,
        (false, true) if active && endpoint.serving => BackendStatus::ActiveTerminating,
        (false, true) => BackendStatus::Draining,
        (false, false) => BackendStatus::NotReady,
    };
    let pod = endpoint.pod.as_ref().map(ToString::to_string);
    Some(BackendView { backend_id, addr: endpoint.addr, port: target, pod, status })
}

/// A frontend as a dump shows it, without names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableView {
    /// `10.96.0.7:80/TCP`.
    pub address: String,
    /// Open on every address of the node.
    pub node_port: bool,
    /// The Service port's number.
    pub service_id: u32,
    /// Which set of slots holds.
    pub epoch: u32,
    /// Backends by slot; `None` where the slot or its backend is missing.
    pub backends: Vec<Option<TableBackendView>>,
}

/// A backend as a dump shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableBackendView {
    /// Its number.
    pub backend_id: u32,
    /// Address.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// Takes new connections.
    pub active: bool,
}

/// What a dump of the maps says, frontend by frontend.
#[must_use]
pub fn describe_tables(tables: &LbTables) -> Vec<TableView> {
    let backend = |service: u32, epoch: u32, index: u32| {
        let id = tables.slot(service, epoch, index)?;
        let backend = tables.backends.get(&id)?;
        Some(TableBackendView {
            backend_id: id,
            addr: addr_ip(backend.addr),
            port: port_number(backend.port),
            active: backend.state == BackendState::Active as u8,
        })
    };
    let view = |(key, frontend): (&FrontendKey, &orlop_ebpf_abi::Frontend)| TableView {
        address: socket_text(key.addr, key.port, key.proto),
        node_port: is_node_port(frontend.flags),
        service_id: frontend.service,
        epoch: frontend.epoch,
        backends: (0..frontend.count).map(|index| backend(frontend.service, frontend.epoch, index)).collect(),
    };
    tables.frontends.iter().map(view).collect()
}
