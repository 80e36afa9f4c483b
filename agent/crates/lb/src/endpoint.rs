//! Endpoints: where a Service's connections may go.

use crate::{Service, ServicePort, TargetPort};
use orlop_model::{PodKey, Protocol};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One address behind a Service, as one element of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// `hints.forZones`.
    pub zone: Hint,
    /// `hints.forNodes`.
    pub node: Hint,
    /// Target ports, shared by the endpoints of one pod or slice. A Service port
    /// that is missing here does not get this endpoint.
    pub ports: Arc<[EndpointPort]>,
}

/// What an endpoint's hints of one kind say to this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hint {
    /// It has none.
    #[default]
    None,
    /// This node, or its zone, is named.
    Here,
    /// Only others are named, or this node's zone is not known.
    Elsewhere,
}

/// A port of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// Name of the Service port that it is for; `""` for an unnamed one.
    pub name: Box<str>,
    /// Transport; a Service port finds only its own.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// Where connections to this Service port go on this endpoint.
    #[must_use]
    pub fn target(&self, port: &ServicePort) -> Option<u16> {
        let mut ports = self.ports.iter();
        ports.find(|one| *one.name == *port.name && one.protocol == port.protocol).map(|one| one.port)
    }
}

/// A Service with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The Service, address assigned.
    pub service: Service,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A port that a pod's container names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// Its transport; a Service port finds only its own.
    pub protocol: Protocol,
}

/// What a Service needs to know of a pod. Pods that have ended (phase Succeeded or
/// Failed) are to be left out by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEndpoint {
    /// The pod.
    pub key: PodKey,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its Ready condition.
    pub ready: bool,
    /// Would it be ready if it were not being deleted; the Ready condition again.
    pub serving: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// Named ports of its containers.
    pub ports: Vec<NamedPort>,
}

/// The endpoints that a Service's selector finds, one for each address, in the
/// order of pod names. The rules are the endpoint slice controller's: an endpoint
/// is ready when its pod is ready and not terminating, or when the Service
/// publishes not-ready addresses.
#[must_use]
pub fn endpoints_from_pods(service: &Service, pods: &[PodEndpoint]) -> Vec<Endpoint> {
    let mut chosen: Vec<&PodEndpoint> = pods.iter().filter(|pod| service.selects(pod)).collect();
    chosen.sort_by_key(|pod| &pod.key);
    chosen.into_iter().flat_map(|pod| of_pod(service, pod)).collect()
}

impl Service {
    /// Whether the pod is one of the Service's endpoints, ready or not. A Service
    /// without a selector has its endpoints from elsewhere and selects no pod.
    #[must_use]
    pub fn selects(&self, pod: &PodEndpoint) -> bool {
        pod.key.namespace() == self.key.namespace()
            && !self.selector.is_empty()
            && self.selector.iter().all(|(label, value)| pod.labels.get(label) == Some(value))
    }
}

fn of_pod(service: &Service, pod: &PodEndpoint) -> Vec<Endpoint> {
    let ports: Arc<[EndpointPort]> = service
        .ports
        .iter()
        .filter_map(|port| {
            let target = match &port.target_port {
                TargetPort::Number(number) => *number,
                TargetPort::Name(name) => {
                    pod.ports.iter().find(|one| one.name == *name && one.protocol == port.protocol)?.port
                }
            };
            Some(EndpointPort { name: (*port.name).into(), protocol: port.protocol, port: target })
        })
        .collect();
    if ports.is_empty() && !service.ports.is_empty() {
        return Vec::new();
    }
    pod.ips
        .iter()
        .map(|&addr| Endpoint {
            addr,
            pod: Some(pod.key.clone()),
            local: true,
            zone: Hint::None,
            node: Hint::None,
            ready: service.publish_not_ready || (pod.ready && !pod.terminating),
            serving: pod.serving,
            terminating: pod.terminating,
            ports: Arc::clone(&ports),
        })
        .collect()
}
