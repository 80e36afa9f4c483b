//! Services as a person wants to see them.

use crate::address::{flag_names, is_node_port, socket_text};
use crate::lower::{frontends, targets};
use crate::topology::Part;
use crate::{Compiler, IpFamily, LbTables, addr_bytes, addr_ip, port_number};
use crate::{Endpoint, Input, Service, ServicePort};
use orlop_ebpf_abi::{BackendState, Frontend, FrontendFlags, FrontendKey};
use orlop_model::Protocol;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

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
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Its load balancer's addresses, without those that the balancer serves itself
    /// (`ipMode: Proxy`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Clients outside get backends of this node only.
    pub external_local: bool,
    /// Clients inside get backends of this node only.
    pub internal_local: bool,
    /// How long a client keeps its backend, in seconds; `None` without affinity.
    pub session_affinity_s: Option<u32>,
    /// Networks of the clients that the load balancer's addresses serve; empty for all.
    pub source_ranges: Vec<String>,
    /// Where a load balancer asks whether this node has backends.
    pub health_check_node_port: Option<u16>,
    /// Another proxy serves it.
    pub other_proxy: bool,
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

/// What sort of address a frontend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontendKind {
    /// A cluster IP.
    ClusterIp,
    /// A node port.
    NodePort,
    /// A load balancer's address.
    LoadBalancer,
    /// One of `spec.externalIPs`.
    ExternalIp,
}

impl std::fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "cluster-ip",
            Self::NodePort => "node-port",
            Self::LoadBalancer => "load-balancer",
            Self::ExternalIp => "external-ip",
        })
    }
}

/// What a new connection meets at a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontendState {
    /// A backend.
    Open,
    /// A refusal: the Service has no endpoint anywhere.
    Refuses,
    /// Nothing: its policy is `Local`, and the endpoints are on other nodes.
    Drops,
    /// It is not in the tables: somebody else has it.
    Taken,
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
    /// How many backends take new connections here, of those that the traffic policy
    /// names.
    pub active: u32,
    /// Another has this frontend: a Service as `namespace/name`.
    pub taken_by: Option<String>,
    /// What sort of address it is.
    pub kind: FrontendKind,
    /// What a new connection meets.
    pub state: FrontendState,
    /// Only backends of this node are used, for the clients that the address is meant
    /// for: of a cluster IP those inside, else those outside.
    pub local: bool,
    /// Only clients of certain networks are served.
    pub limited: bool,
    /// Replies of backends on other nodes go straight to the client.
    pub dsr: bool,
    /// Places of the Maglev table; 0: clients outside are led at random too.
    pub maglev: u32,
}

/// What a backend does, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendStatus {
    /// Takes new connections.
    Active,
    /// Terminating, but takes new connections because no other does.
    ActiveTerminating,
    /// Ready, but this node's connections go to others: nearer ones, or those of this
    /// node.
    Standby,
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
            Self::Standby => "standby",
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
    /// It is on this node.
    pub local: bool,
}

/// These Services, as given to a compiler, by name.
#[must_use]
pub fn describe(compiler: &Compiler, inputs: impl IntoIterator<Item = Input>) -> Vec<ServiceView> {
    let mut views: Vec<ServiceView> = inputs.into_iter().map(|input| service_view(compiler, &input)).collect();
    views.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    views
}

fn service_view(compiler: &Compiler, input: &Input) -> ServiceView {
    let (service, more) = (&input.service, input.service.more());
    ServiceView {
        namespace: service.key.namespace().to_owned(),
        name: service.key.name().to_owned(),
        kind: if service.headless { "Headless".to_owned() } else { service.kind.to_string() },
        cluster_ips: service.cluster_ips.clone(),
        external_ips: more.external_ips.clone(),
        load_balancer_ips: more.load_balancer_ips.iter().filter(|one| !one.proxy).map(|one| one.ip).collect(),
        external_local: service.external_local(),
        internal_local: more.internal_local,
        session_affinity_s: more.affinity_s,
        source_ranges: more.source_ranges.iter().map(ToString::to_string).collect(),
        health_check_node_port: service.health_check_node_port(),
        other_proxy: service.other_proxy,
        ports: service.ports.iter().map(|port| port_view(compiler, input, port)).collect(),
    }
}

const FAMILIES: [IpFamily; 2] = [IpFamily::IPv4, IpFamily::IPv6];
/// Flags of frontends for which the local set is worked out.
const LOCAL: u32 = FrontendFlags::INTERNAL_LOCAL | FrontendFlags::EXTERNAL_LOCAL | FrontendFlags::DSR;

fn port_view(compiler: &Compiler, input: &Input, port: &ServicePort) -> PortView {
    let service = &input.service;
    let wanted = FAMILIES.into_iter().filter(|_| service.is_served());
    let wanted: Vec<_> = wanted.flat_map(|family| frontends(service, port, family, compiler.settings())).collect();
    let mut views: Vec<FrontendView> =
        wanted.iter().map(|(key, flags)| frontend_view(compiler, service, *key, *flags)).collect();
    views.sort_by_key(|view| view.kind);
    let local = wanted.iter().any(|(_, flags)| flags & LOCAL != 0);
    let targets = FAMILIES.into_iter().flat_map(|family| targets(port, family, &input.endpoints, local));
    let backends = targets.map(|(name, endpoint, part)| BackendView {
        backend_id: compiler.backend(name).map(|(id, _)| id),
        addr: endpoint.addr,
        port: port_number(name.1),
        pod: endpoint.pod.as_ref().map(ToString::to_string),
        status: status(endpoint, part),
        local: endpoint.local,
    });
    PortView {
        name: port.name.clone(),
        port: port.port,
        protocol: port.protocol,
        frontends: views,
        backends: backends.collect(),
    }
}

fn status(endpoint: &Endpoint, part: Part) -> BackendStatus {
    match (part.cluster || part.local, endpoint.ready, endpoint.terminating) {
        (true, true, _) => BackendStatus::Active,
        (true, false, _) => BackendStatus::ActiveTerminating,
        (false, true, _) => BackendStatus::Standby,
        (false, false, true) => BackendStatus::Draining,
        (false, false, false) => BackendStatus::NotReady,
    }
}

fn frontend_view(compiler: &Compiler, service: &Service, key: FrontendKey, flags: u32) -> FrontendView {
    let found = compiler.frontend(&key);
    let is_own = |owner: &crate::owner::Owner| owner.service() == Some(&service.key);
    let own = found.filter(|(owner, _)| is_own(owner)).map(|(_, frontend)| frontend);
    let set = |flag: u32| flags & flag != 0;
    let local = set(FrontendFlags::INTERNAL_LOCAL | FrontendFlags::EXTERNAL_LOCAL);
    let balancer = service.more().load_balancer_ips.iter().any(|one| addr_bytes(one.ip) == key.addr);
    FrontendView {
        address: socket_text(key.addr, key.port, key.proto),
        node_port: is_node_port(flags),
        service_id: own.map(|frontend| frontend.service),
        active: own.map_or(0, |frontend| if local { frontend.local } else { frontend.count }),
        taken_by: found.map(|(owner, _)| owner).filter(|owner| !is_own(owner)).map(owner_text),
        kind: match (set(FrontendFlags::NODE_PORT), set(FrontendFlags::EXTERNAL), balancer) {
            (true, ..) => FrontendKind::NodePort,
            (_, true, true) => FrontendKind::LoadBalancer,
            (_, true, false) => FrontendKind::ExternalIp,
            (_, false, _) => FrontendKind::ClusterIp,
        },
        state: match own {
            None => FrontendState::Taken,
            Some(Frontend { count: 0, .. }) => FrontendState::Refuses,
            Some(Frontend { local: 0, .. }) if local => FrontendState::Drops,
            Some(_) => FrontendState::Open,
        },
        local,
        limited: set(FrontendFlags::SOURCE_RANGES),
        dsr: set(FrontendFlags::DSR),
        maglev: own.map_or(0, |frontend| if kind_is_outside(flags) { frontend.maglev } else { 0 }),
    }
}

fn kind_is_outside(flags: u32) -> bool {
    flags & (FrontendFlags::NODE_PORT | FrontendFlags::EXTERNAL) != 0
}

/// A Service as `namespace/name`, a pod as `Pod namespace/name`.
fn owner_text(owner: &crate::owner::Owner) -> String {
    owner.service().map_or_else(|| owner.public().to_string(), ToString::to_string)
}

/// A pod's host port, and what it has in the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPortView {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// `192.0.2.7:8080/TCP`; `0.0.0.0` or `[::]` for every address of the node.
    pub address: String,
    /// Where connections go.
    pub target: SocketAddr,
    /// Its number in the tables and in the counters; `None` when it has none.
    pub service_id: Option<u32>,
    /// The backend's number; `None` when it has none.
    pub backend_id: Option<u32>,
    /// Another has this frontend: a Service as `namespace/name`, else `Pod
    /// namespace/name`.
    pub taken_by: Option<String>,
}

/// All host ports, by pod and address.
#[must_use]
pub fn describe_host_ports(compiler: &Compiler) -> Vec<HostPortView> {
    let mut views = Vec::new();
    for (pod, key, name, winner) in compiler.host_ports() {
        let own = compiler.frontend(&key).filter(|(owner, _)| winner.is_none() && owner.service().is_none());
        views.push(HostPortView {
            pod: pod.to_string(),
            address: socket_text(key.addr, key.port, key.proto),
            target: SocketAddr::new(addr_ip(name.0), port_number(name.1)),
            service_id: own.map(|(_, frontend)| frontend.service),
            backend_id: compiler.backend(name).map(|(id, _)| id),
            taken_by: winner.map(owner_text),
        });
    }
    views.sort_by(|a, b| (&a.pod, &a.address).cmp(&(&b.pod, &b.address)));
    views
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
    /// Which list of slots holds.
    pub epoch: u32,
    /// What else is said of it, by the names of the flags.
    pub flags: Vec<&'static str>,
    /// How long a client keeps its backend, in seconds; 0 for no time.
    pub session_affinity_s: u32,
    /// How many of the backends, from the first, are for the policy `Local`.
    pub local: u32,
    /// How many of the backends, from the last, are for the policy `Cluster`.
    pub cluster: u32,
    /// Places of the Maglev table.
    pub maglev: u32,
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
    let view = |(key, frontend): (&FrontendKey, &Frontend)| TableView {
        address: socket_text(key.addr, key.port, key.proto),
        node_port: is_node_port(frontend.flags),
        service_id: frontend.service,
        epoch: frontend.epoch,
        flags: flag_names(frontend.flags).collect(),
        session_affinity_s: frontend.affinity_s,
        local: frontend.local,
        cluster: frontend.count,
        maglev: frontend.maglev,
        backends: (0..frontend.listed()).map(|index| backend(frontend.service, frontend.epoch, index)).collect(),
    };
    tables.frontends.iter().map(view).collect()
}
