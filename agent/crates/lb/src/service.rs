//! A Service, understood: names checked, defaults filled in.

use crate::IpFamily;
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
    /// Also through a load balancer outside; here as NodePort.
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
}

impl Service {
    /// Whether it has an address of its own (once assigned).
    #[must_use]
    pub fn wants_cluster_ip(&self) -> bool {
        !self.headless && self.kind != ServiceType::ExternalName
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
