//! The Services compiler: Services and their endpoints become the entries of the
//! eBPF maps, and a change becomes an ordered plan of single map operations.
//!
//! ```text
//!  ServiceManifest ─validate▶ Service ─assign▶ Service ─┐
//!  pods ─endpoints_from_pods▶ Endpoint ─────────────────┼▶ Input ─▶ Compiler ─▶ LbPlan(Vec<MapOp>)
//!  LeanService, LeanEndpointSlice, own pods ─▶ Cluster ─┘              ▲ ▲ dump
//!  containers' hostPorts ─▶ HostPorts ─────────────────────────────────┘
//! ```
//!
//! Services come from manifests, with endpoints from the node's own pods, or from an
//! API server: [`Cluster`] keeps both lists lean and says which Services an event
//! touches.
//!
//! [`Compiler`] keeps numbers, no Services. Carry its plans out in order; when an
//! operation fails, dump the maps and take the plan of [`Compiler::resync`]. After a
//! start, [`Compiler::restore_with`] takes the dump, all Services and all host ports,
//! and its plan is empty when nothing changed. An [`Audit`] compares the maps with the
//! compiler element by element.
//!
//! A Service port has a number for each address family, because a frontend must
//! lead to its own family only; the frontends of one number (cluster IPs, node port,
//! load balancer's addresses, external addresses) share slots. A host port has a number
//! of its own. A backend is one (address, port, protocol), shared by all that use it:
//! active while any slot names it, draining while it is only an endpoint.
//!
//! # What a frontend says
//!
//! | Frontend | Flags | Clients inside | Clients outside |
//! |---|---|---|---|
//! | cluster IP | | cluster set | |
//! | the same, `internalTrafficPolicy: Local` | `INTERNAL_LOCAL` | local set | |
//! | node port (wildcard key) | `NODE_PORT` | cluster set | cluster set |
//! | load balancer's or external address | `EXTERNAL` | cluster set | cluster set |
//! | each of these two, `externalTrafficPolicy: Local` | and `EXTERNAL_LOCAL` | cluster set | local set |
//! | load balancer's address with source ranges | and `SOURCE_RANGES` | as above, of these networks only | the same |
//! | each but `EXTERNAL_LOCAL`, in DSR mode | and `DSR` | as above | cluster set; its node takes its local set |
//! | host port | `HOST_PORT` | its one backend | the same |
//!
//! A host port on every address has the wildcard key of a node port, without
//! `NODE_PORT`: it is open on addresses where node ports are not.
//!
//! `count` 0: no endpoint anywhere, connections are refused. The client's set is the
//! local one and `local` is 0, but `count` is not: they are dropped, another node may
//! serve them.
//!
//! Which endpoints are in a set is decided as kube-proxy 1.36 does: ready ones, else
//! those that terminate and still serve, for each set apart; hints narrow the cluster
//! set only.
//!
//! Everything is a pure function of its arguments; nothing here touches the
//! kernel, the clock or the network.
#![forbid(unsafe_code)]

mod address;
mod assign;
mod cluster;
mod compiler;
mod describe;
mod diff;
mod endpoint;
mod error;
mod host_port;
mod ids;
mod lean;
mod lower;
mod maglev;
mod manifest;
mod owner;
mod service;
mod settings;
mod slab;
mod tables;
mod topology;
mod validate;

pub use address::{IpFamily, addr_bytes, addr_ip, frontend_key, port_bytes, port_number, protocol_of};
pub use assign::{Assigned, Assignment, ServiceCidr, assign};
pub use cluster::{Cluster, ListKind, Touched};
pub use compiler::{Audit, AuditReport, Compiler, HealthCheck};
pub use describe::{
    BackendStatus, BackendView, FrontendKind, FrontendState, FrontendView, HostPortView, PortView, ServiceView,
    TableBackendView, TableView, describe, describe_host_ports, describe_tables,
};
pub use diff::diff;
pub use endpoint::{Endpoint, EndpointPort, Hint, Input, NamedPort, PodEndpoint, endpoints_from_pods};
pub use error::{Conflict, FieldError, FieldProblem, LbError};
pub use host_port::{HostPort, HostPorts};
pub use lean::{
    AddressType, EndpointFlags, InvalidItem, LeanEndpoint, LeanEndpointSlice, LeanNode, LeanService, LeanServicePort,
    LeanSlicePort, NodeAddress, Selector, ServiceVariables, Span,
};
pub use manifest::ServiceManifest;
pub use owner::FrontendOwner;
pub use service::{
    IpFamilyPolicy, LoadBalancerIp, Service, ServiceMore, ServicePort, ServiceType, TargetPort, TrafficDistribution,
};
pub use settings::ServiceSettings;
pub use tables::{LbPlan, LbTables, MapOp};
pub use validate::Validated;
