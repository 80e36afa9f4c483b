//! What the programs are to know, worked out from what is seen. Pure.

use crate::config::{Config, ServiceConfig};
use crate::nodes::NodesView;
use ipnet::IpNet;
use orlop_cni::NodeLink;
use orlop_datapath::{NodeDevice, NodeSettings};
use orlop_kernel::Mac;
use orlop_model::Ifindex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Everybody's: not masqueraded, because nobody answers to a group's sender (RFC 5771, RFC 4291 2.7).
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Addresses of the node, and whether NodePorts answer on each.
    pub own: Vec<(IpAddr, bool)>,
    /// Uplinks and tunnels.
    pub devices: Vec<NodeDevice>,
    /// What is known of the other nodes; `None` before their list was whole.
    pub cluster: Option<Cluster>,
    /// What the programs were told to do.
    pub settings: NodeSettings,
    /// Addresses of the Node that are on no interface.
    pub missing: BTreeSet<IpAddr>,
}

/// The other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    /// Their addresses.
    pub peers: Vec<IpAddr>,
    /// What pods reach with their own address.
    pub non_masquerade: Vec<IpNet>,
}

impl Surroundings {
    pub fn of(view: &NodesView, config: &Config, macs: &BTreeMap<Ifindex, Mac>) -> Self {
        Self::with(view, &config.node_ips, &config.services, macs)
    }

    fn with(view: &NodesView, node_ips: &[IpAddr], services: &ServiceConfig, macs: &BTreeMap<Ifindex, Mac>) -> Self {
        let uplinks = || view.uplinks.iter().filter(|link| macs.contains_key(&link.index));
        let here: BTreeSet<IpAddr> =
            view.uplinks.iter().flat_map(|link| &link.addresses).map(IpNet::addr).filter(|ip| is_told(*ip)).collect();
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let all: BTreeSet<IpAddr> = node_ips.iter().copied().chain(here.iter().copied()).chain(loopback).collect();
        let serves = |ip: IpAddr| services.serves_node_ports(ip, node_ips.contains(&ip));
        let mut own: Vec<(IpAddr, bool)> = all.into_iter().map(|ip| (ip, serves(ip))).collect();
        let tunnels = view.tunnels.iter().filter(|tunnel| macs.contains_key(&tunnel.index));
        own.extend(tunnels.clone().flat_map(|tunnel| &tunnel.addresses).map(|ip| (*ip, false)));

        let uplink = |link: &NodeLink| {
            let address = |v4| source(link, node_ips, v4);
            device(link.index, link.mtu, [address(true), address(false)], macs)
        };
        let tunnel = |tunnel: &orlop_cni::TunnelDevice| {
            let address = |v4| tunnel.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
            let addresses = [address(true), address(false)];
            let device = device(tunnel.index, tunnel.mtu, addresses, macs);
            NodeDevice { is_tunnel: true, answers_neighbours: false, ..device }
        };
        let ports = services.snat_ports;
        Self {
            own,
            devices: uplinks().map(uplink).chain(tunnels.map(tunnel)).collect(),
            cluster: view.peers.is_some().then(|| Cluster {
                peers: view.peer_addresses().into_iter().collect(),
                non_masquerade: non_masquerade(view, services),
            }),
            settings: NodeSettings {
                masquerade: services.masquerade,
                snat_port_first: ports.first,
                snat_ports: ports.last - ports.first + 1,
            },
            missing: node_ips.iter().copied().filter(|ip| !here.contains(ip)).collect(),
        }
    }
}

/// Link-local IPv6 addresses are on every link, and no client's business.
fn is_told(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// The address that translated packets get on a link: the Node's when it has that, else
/// the link's first, else the Node's all the same.
fn source(link: &NodeLink, node_ips: &[IpAddr], v4: bool) -> Option<IpAddr> {
    let own: Vec<IpAddr> =
        link.addresses.iter().map(IpNet::addr).filter(|ip| ip.is_ipv4() == v4 && is_told(*ip)).collect();
    let node = || node_ips.iter().copied().filter(|ip| ip.is_ipv4() == v4);
    let primary = node().find(|ip| own.contains(ip));
    primary.or_else(|| own.first().copied()).or_else(|| node().next())
}

fn device(device: Ifindex, mtu: u32, addresses: [Option<IpAddr>; 2], macs: &BTreeMap<Ifindex, Mac>) -> NodeDevice {
    let [v4, v6] = addresses;
    NodeDevice {
        device,
        snat_v4: v4.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
        snat_v6: v6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }),
        mac: macs.get(&device).map_or([0; 6], |mac| mac.0),
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        is_tunnel: false,
        answers_neighbours: true,
    }
}

fn non_masquerade(view: &NodesView, services: &ServiceConfig) -> Vec<IpNet> {
    let multicast = MULTICAST.iter().filter_map(|network| network.parse().ok());
    let mut networks = view.pod_cidrs();
    networks.extend(services.non_masquerade_cidrs.iter().copied().chain(multicast));
    networks.into_iter().collect()
}

#[cfg(test)]
mod tests;
