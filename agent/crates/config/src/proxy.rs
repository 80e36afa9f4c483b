//! KubeProxyConfiguration as far as Orlop carries it.

use crate::service::{HEALTHZ_PORT, listen, network};
use crate::{NodePortAddresses, text};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::net::SocketAddr;

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
    /// Which rules kube-proxy would write; it decides where node ports answer when nothing says it.
    pub mode: ProxyMode,
    /// Where node ports answer.
    pub node_port_addresses: NodePortAddresses,
    /// What only mode iptables has.
    pub iptables: IpTables,
}

impl KubeProxyConfiguration {
    /// Where node ports answer. Where nothing was said, kube-proxy of mode nftables keeps to the
    /// Node's own addresses; the other modes serve all.
    #[must_use]
    pub fn node_ports(&self) -> NodePortAddresses {
        match (&self.node_port_addresses, self.mode) {
            (NodePortAddresses::All, ProxyMode::Nftables) => NodePortAddresses::Primary,
            (said, _) => said.clone(),
        }
    }
}

/// `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// `iptables`.
    Iptables,
    /// `ipvs`.
    Ipvs,
    /// `nftables`.
    Nftables,
}

/// `iptables`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpTables {
    /// Node ports answer on 127.0.0.0/8.
    pub localhost_node_ports: bool,
}

fn healthz<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    listen(&String::deserialize(from)?, HEALTHZ_PORT).map_err(Error::custom)
}

fn metrics<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    listen(&String::deserialize(from)?, METRICS_PORT).map_err(Error::custom)
}

fn cidrs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let text = text::some(from)?.unwrap_or_default();
    let list: Vec<IpNet> = text
        .split(',')
        .filter(|text| !text.is_empty())
        .map(network)
        .collect::<Result<_, _>>()
        .map_err(Error::custom)?;
    match list.as_slice() {
        [] | [_] => Ok(list),
        [a, b] if a.addr().is_ipv4() != b.addr().is_ipv4() => Ok(list),
        _ => Err(Error::custom(format!("{text:?} must be at most one IPv4 and one IPv6 network"))),
    }
}
