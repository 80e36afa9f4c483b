//! A Service, understood: names checked, defaults filled in.

use crate::IpFamily;
use ipnet::IpNet;
use jiff::Timestamp;
use orlop_model::{Protocol, ServiceKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// `spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// Reached inside the cluster.
    ClusterIP,
    /// Also on a port of every node.
    NodePort,
    /// Also through a load balancer outside, and on the addresses that it announced.
    LoadBalancer,
    /// A DNS alias; nothing for the tables.
    ExternalName,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
        })
    }
}

/// `spec.ipFamilyPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamilyPolicy {
    /// One address.
    SingleStack,
    /// Two where the cluster has both families.
    PreferDualStack,
    /// Two, or an error.
    RequireDualStack,
}

/// The port that an endpoint listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// The same in every pod.
    Number(u16),
    /// A container port's name, resolved pod by pod.
    Name(String),
}

/// One of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// `""` when it is the only one and has no name.
    pub name: String,
    /// Transport.
    pub protocol: Protocol,
    /// Port of the service address.
    pub port: u16,
    /// Port of the endpoint.
    pub target_port: TargetPort,
    /// Port on every node; `None` until one is assigned.
    pub node_port: Option<u16>,
}

/// What few Services have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMore {
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`.
    pub load_balancer_ips: Vec<LoadBalancerIp>,
    /// `spec.loadBalancerSourceRanges`, host bits cleared; empty lets every client in.
    pub source_ranges: Vec<IpNet>,
    /// `spec.sessionAffinity: ClientIP`: its timeout in seconds.
    pub affinity_s: Option<u32>,
    /// `spec.externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `spec.internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// `spec.trafficDistribution`. It speaks to whoever writes the slices; a node
    /// follows the hints that it finds there, as kube-proxy does.
    pub distribution: TrafficDistribution,
    /// `spec.allocateLoadBalancerNodePorts: false`: no node port is given where none is
    /// asked for.
    pub no_node_ports: bool,
}

/// One of `status.loadBalancer.ingress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancerIp {
    /// The address.
    pub ip: IpAddr,
    /// `ipMode: Proxy`: the balancer ends connections itself; nodes leave the address alone.
    pub proxy: bool,
}

/// `spec.trafficDistribution`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficDistribution {
    /// Nothing said, or nothing known.
    #[default]
    Any,
    /// `PreferSameZone`, `PreferClose`.
    SameZone,
    /// `PreferSameNode`.
    SameNode,
}

static NOTHING_MORE: ServiceMore = ServiceMore {
    external_ips: Vec::new(),
    load_balancer_ips: Vec::new(),
    source_ranges: Vec::new(),
    affinity_s: None,
    external_local: false,
    internal_local: false,
    health_check_node_port: None,
    distribution: TrafficDistribution::Any,
    no_node_ports: false,
};

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// `metadata.creationTimestamp`; a Service without one counts as newer than
    /// any with one.
    pub created: Option<Timestamp>,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `clusterIP: None`: no address of its own.
    pub headless: bool,
    /// Its addresses, primary first; empty until assigned, or headless.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ipFamilies`; empty when nothing is said.
    pub families: Vec<IpFamily>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: Option<IpFamilyPolicy>,
    /// Labels a pod must have; empty selects nothing.
    pub selector: BTreeMap<String, String>,
    /// Pods count as ready at once and until they are gone.
    pub publish_not_ready: bool,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `spec.externalName`.
    pub external_name: Option<String>,
    /// Another proxy serves it, or none is to, as labels
    /// `service.kubernetes.io/service-proxy-name` and `/headless` say: it has nothing in
    /// the tables.
    pub other_proxy: bool,
    /// What few Services have.
    pub more: Option<Box<ServiceMore>>,
}

impl Service {
    /// What few Services have; the defaults where it has nothing of it.
    #[must_use]
    pub fn more(&self) -> &ServiceMore {
        self.more.as_deref().unwrap_or(&NOTHING_MORE)
    }

    /// Whether clients outside the cluster are served by local endpoints only, and
    /// keep their address. Only the types that are open outside have the policy
    /// (k8s.io/kubernetes/pkg/api/v1/service `ExternalPolicyLocal`).
    #[must_use]
    pub fn external_local(&self) -> bool {
        let open = match self.kind {
            ServiceType::NodePort | ServiceType::LoadBalancer => true,
            ServiceType::ClusterIP => !self.more().external_ips.is_empty(),
            ServiceType::ExternalName => false,
        };
        open && self.more().external_local
    }

    /// The port on which a load balancer asks whether this node has local endpoints.
    #[must_use]
    pub fn health_check_node_port(&self) -> Option<u16> {
        let wanted = self.kind == ServiceType::LoadBalancer && self.external_local();
        self.more().health_check_node_port.filter(|_| wanted)
    }

    /// Whether it has an address of its own (once assigned).
    #[must_use]
    pub fn wants_cluster_ip(&self) -> bool {
        !self.headless && self.kind != ServiceType::ExternalName
    }

    /// Whether it has entries in the tables (once assigned).
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.wants_cluster_ip() && !self.other_proxy
    }

    /// Whether its ports are open on the node's addresses.
    #[must_use]
    pub fn wants_node_ports(&self) -> bool {
        matches!(self.kind, ServiceType::NodePort | ServiceType::LoadBalancer)
    }

    /// Who comes first when two Services want the same: the older, then by name.
    pub(crate) fn rank(&self) -> Rank {
        (self.created.unwrap_or(Timestamp::MAX), self.key.clone())
    }
}

/// Order in which Services get what they ask for.
pub(crate) type Rank = (Timestamp, ServiceKey);
