//! Other Nodes.

use super::{Invalid, InvalidItem, RawMetadata};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;

/// One of `status.addresses` that is an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAddress {
    /// `InternalIP`, else `ExternalIP`.
    pub internal: bool,
    /// The address.
    pub ip: IpAddr,
}

/// A Node as other nodes need it: how its pods are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeanNode {
    /// Name.
    pub name: Box<str>,
    /// When the object was made: of two that claim one range of pod addresses the older has it.
    pub created: Option<jiff::Timestamp>,
    /// Its IP addresses, in the order of the status.
    pub addresses: Box<[NodeAddress]>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Box<[IpNet]>,
    /// Label `topology.kubernetes.io/zone`; empty when it has none.
    pub zone: Box<str>,
    /// Condition Ready is True.
    pub ready: bool,
    /// What was left out.
    pub invalid: Box<[InvalidItem]>,
}

const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Deserialize)]
struct Raw {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
struct RawSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct RawStatus {
    addresses: Option<Vec<RawAddress>>,
    conditions: Option<Vec<RawCondition>>,
}

#[derive(Deserialize)]
struct RawAddress {
    r#type: String,
    address: String,
}

#[derive(Deserialize)]
struct RawCondition {
    r#type: String,
    status: String,
}

impl<'de> Deserialize<'de> for LeanNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(Raw::deserialize(deserializer)?))
    }
}

impl LeanNode {
    fn of(raw: Raw) -> Self {
        let mut invalid = Invalid::default();
        let zone = raw.metadata.label(LABEL_ZONE).unwrap_or("").into();
        let mut addresses = Vec::new();
        for (n, address) in raw.status.addresses.iter().flatten().enumerate() {
            let internal = match address.r#type.as_str() {
                "InternalIP" => true,
                "ExternalIP" => false,
                _ => continue,
            };
            let ip = invalid.ip(&address.address, || format!("status.addresses[{n}].address"));
            addresses.extend(ip.map(|ip| NodeAddress { internal, ip }));
        }
        let cidrs = raw.spec.pod_cidrs.unwrap_or_else(|| raw.spec.pod_cidr.into_iter().collect());
        let mut pod_cidrs = Vec::new();
        for (n, cidr) in cidrs.iter().filter(|cidr| !cidr.is_empty()).enumerate() {
            match cidr.parse::<IpNet>() {
                Ok(net) => pod_cidrs.push(net.trunc()),
                Err(_) => invalid.add(|| format!("spec.podCIDRs[{n}]"), format!("{cidr:?} is not a CIDR")),
            }
        }
        let ready = raw.status.conditions.iter().flatten().any(|one| one.r#type == "Ready" && one.status == "True");
        Self {
            name: raw.metadata.name.into(),
            created: raw.metadata.creation_timestamp,
            addresses: addresses.into(),
            pod_cidrs: pod_cidrs.into(),
            zone,
            ready,
            invalid: invalid.done(),
        }
    }
}
