//! `hostPort` of a pod's containers: a frontend on the node's addresses with one
//! backend, the pod.

use jiff::Timestamp;
use orlop_model::{PodKey, PodUid, Protocol};
use std::net::IpAddr;

/// All host ports of one pod. A pod in the node's network has none: its ports are the
/// node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPorts {
    /// The pod.
    pub uid: PodUid,
    /// Its name, for whoever reads of a conflict.
    pub pod: PodKey,
    /// Since when it is there: of two pods the older has what both want.
    pub created: Option<Timestamp>,
    /// The pod's addresses; of each family the first counts.
    pub ips: Vec<IpAddr>,
    /// Its host ports.
    pub ports: Vec<HostPort>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// `hostIP`: `None` for every address of the node in both families, an unspecified
    /// address for every one of its family, else this one only. A loopback address is
    /// reached from the node itself.
    pub host_ip: Option<IpAddr>,
    /// `hostPort`.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
    /// `containerPort`.
    pub target: u16,
}
