//! Endpoints: where a Service's connections may go.

use orlop_model::PodKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One address behind a Service, as one element of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub addr: IpAddr,
    /// The pod that has it, when that is known.
    pub pod: Option<PodKey>,
    /// The pod is on this node.
    pub local: bool,
    /// Takes new connections.
    pub ready: bool,
    /// Would pass its readiness probe, terminating or not.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
    /// Target port by the Service port's name (`""` for an unnamed one). A Service
    /// port that is missing here does not get this endpoint.
    pub ports: BTreeMap<String, u16>,
}
