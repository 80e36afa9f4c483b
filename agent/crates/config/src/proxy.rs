//! KubeProxyConfiguration as far as Orlop carries it.

use crate::text;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// `kubeproxy.config.k8s.io/v1alpha1`, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeProxyConfiguration {
    /// `ADDRESS:PORT` of the health check; empty for none.
    pub healthz_bind_address: String,
    /// `ADDRESS:PORT` of the metrics; empty for none.
    pub metrics_bind_address: String,
    /// Addresses of all pods of the cluster, at most one range a family.
    #[serde(rename = "clusterCIDR", deserialize_with = "cidrs")]
    pub cluster_cidrs: Vec<IpNet>,
    /// Where node ports answer.
    #[serde(deserialize_with = "node_port_addresses")]
    pub node_port_addresses: NodePortAddresses,
}

/// `nodePortAddresses`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// On every address of the node.
    #[default]
    All,
    /// `primary`: on the Node's own addresses.
    Primary,
    /// On addresses within these.
    Within(Vec<IpNet>),
}

fn parse(text: &str) -> Result<IpNet, String> {
    text.trim().parse().map_err(|_| format!("{text:?} must be a network such as 10.244.0.0/16"))
}

fn cidrs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let text = text::some(from)?.unwrap_or_default();
    let list: Vec<IpNet> =
        text.split(',').filter(|text| !text.is_empty()).map(parse).collect::<Result<_, _>>().map_err(Error::custom)?;
    match list.as_slice() {
        [] | [_] => Ok(list),
        [a, b] if a.addr().is_ipv4() != b.addr().is_ipv4() => Ok(list),
        _ => Err(Error::custom(format!("{text:?} must be at most one IPv4 and one IPv6 network"))),
    }
}

fn node_port_addresses<'de, D: Deserializer<'de>>(from: D) -> Result<NodePortAddresses, D::Error> {
    let list: Vec<String> = text::list(from)?;
    match list.as_slice() {
        [] => Ok(NodePortAddresses::All),
        [one] if one == "primary" => Ok(NodePortAddresses::Primary),
        list => list.iter().map(|text| parse(text)).collect::<Result<_, _>>().map(NodePortAddresses::Within),
    }
    .map_err(Error::custom)
}
