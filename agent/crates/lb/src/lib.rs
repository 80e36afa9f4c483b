//! The Services compiler: Services and their endpoints become the entries of the
//! eBPF maps, and a change becomes an ordered plan of single map operations.
//!
//! ```text
//!  ServiceManifest ─validate▶ Service ─assign▶ Service ─┐
//!  pods ─endpoints_from_pods▶ Endpoint ─────────────────┼▶ Input ─▶ Compiler ─▶ LbPlan(Vec<MapOp>)
//!  LeanService, LeanEndpointSlice, own pods ─▶ Cluster ─┘              ▲ dump
//! ```
//!
//! Services come from manifests, with endpoints from the node's own pods, or from an
//! API server: [`Cluster`] keeps both lists lean and says which Services an event
//! touches.
//!
//! [`Compiler`] keeps numbers, no Services. Carry its plans out in order; when an
//! operation fails, dump the maps and take the plan of [`Compiler::resync`]. After a
//! start, [`Compiler::restore`] takes the dump and all Services, and its plan is
//! empty when nothing changed.
//!
//! A Service port has a number for each address family, because a frontend must
//! lead to its own family only; the frontends of one number (cluster IP and node
//! port) share slots. A backend is one (address, port, protocol), shared by all
//! Services that use it: active while any slot names it, draining while it is only
//! an endpoint.
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
