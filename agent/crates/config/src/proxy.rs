//! KubeProxyConfiguration as far as Orlop carries it.

use crate::text;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::net::{IpAddr, SocketAddr};

/// Port of the health check where an address has none.
const HEALTHZ_PORT: u16 = 10256;
/// Port of the metrics where an address has none.
const METRICS_PORT: u16 = 10249;

/// `kubeproxy.config.k8s.io/v1alpha1`, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeProxyConfiguration {
    /// Where the health check of Services answers.
    #[serde(deserialize_with = "healthz")]
    pub healthz_bind_address: SocketAddr,
    /// Where the metrics are.
    #[serde(deserialize_with = "metrics")]
    pub metrics_bind_address: SocketAddr,
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

/// `ADDRESS:PORT`, or an address alone.
fn listen(text: &str, port: u16) -> Result<SocketAddr, String> {
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    text.parse().or_else(|_| alone()).map_err(|_| format!("{text:?} must be an address such as 0.0.0.0:{port}"))
}

fn healthz<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    listen(&String::deserialize(from)?, HEALTHZ_PORT).map_err(Error::custom)
}

fn metrics<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    listen(&String::deserialize(from)?, METRICS_PORT).map_err(Error::custom)
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
