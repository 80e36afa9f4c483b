//! From Node objects to the routes and tunnels that should be there. Pure.

use super::overlap::settle;
use super::{ClusterNode, NodeLink, PeerMode, PeerProblem, PeerSettings, Underlay, is_v4};
use ipnet::IpNet;
use orlop_kernel::Mac;
use orlop_model::Ifindex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// MTU of an underlay whose link is not known.
const MTU_UNKNOWN: u32 = 1500;

/// What should be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedPeers {
    /// Devices, only those that some peer needs.
    pub tunnels: BTreeMap<Underlay, TunnelWanted>,
    /// Routes by destination.
    pub routes: BTreeMap<IpNet, WantedRoute>,
    /// Peers and ranges that get none.
    pub problems: Vec<PeerProblem>,
}

/// A VXLAN device and who is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelWanted {
    /// Its Ethernet address, as the peers derive it too.
    pub mac: Mac,
    /// Bytes: the underlay's less the overhead.
    pub mtu: u32,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Source of outer packets; unspecified when our address in the Node object is on none of our links.
    pub local: IpAddr,
    /// Its own addresses: the first of each of our ranges, which pods never get.
    pub addresses: BTreeSet<IpAddr>,
    /// Next hops with their Ethernet addresses, and whose they are.
    pub neighbours: BTreeMap<IpAddr, (Mac, Arc<str>)>,
    /// Ethernet addresses with the node behind, and whose they are.
    pub forwarding: BTreeMap<Mac, (IpAddr, Arc<str>)>,
}

/// A route to a peer's range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRoute {
    /// Whose.
    pub peer: Arc<str>,
    /// By which device.
    pub way: Way,
    /// Next hop.
    pub gateway: IpAddr,
    /// What this node's own packets have as their source.
    pub source: Option<IpAddr>,
    /// Bytes, where it is not the device's own.
    pub mtu: Option<u32>,
}

/// The device of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A link that the peer is on too.
    Direct(Ifindex),
    /// The VXLAN device.
    Tunnel(Underlay),
}

/// The Ethernet address of a node's tunnel device, from the address that its Node object shows: every
/// node derives the same for it. Locally administered, 46 bits of the SHA-256 of `orlop vtep` and the
/// address's bytes. Never to be changed: nodes of two versions would not reach each other.
#[must_use]
pub fn vtep_mac(address: IpAddr) -> Mac {
    let mut hash = Sha256::new_with_prefix(b"orlop vtep");
    match address {
        IpAddr::V4(ip) => hash.update(ip.octets()),
        IpAddr::V6(ip) => hash.update(ip.octets()),
    }
    let hash = hash.finalize();
    let mut mac = [0; 6];
    mac.copy_from_slice(&hash[..6]);
    mac[0] = mac[0] & 0xfc | 0x02;
    Mac(mac)
}

/// The next hop on the tunnel's device. For IPv6 a link-local address (RFC 4291, appendix A): the
/// kernel refuses another one while any other route covers it.
fn tunnel_gateway(cidr: IpNet, mac: Mac) -> IpAddr {
    if is_v4(cidr) {
        return cidr.network();
    }
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f).into()
}

/// What should be there for `own` to reach the pods of all `peers` (its own entry among them is passed over).
#[must_use]
pub fn wanted_peers(
    own: &ClusterNode,
    links: &[NodeLink],
    peers: &[Arc<ClusterNode>],
    settings: PeerSettings,
) -> WantedPeers {
    let mut wanted = WantedPeers::default();
    if settings.mode == PeerMode::None {
        return wanted;
    }
    let cx = Context { own, links, settings };
    for (peer, cidr) in settle(own, peers, &mut wanted.problems) {
        if let Some(address) = cx.covered(peer, cidr) {
            wanted.problems.push(PeerProblem::CoversNode { peer: Arc::clone(&peer.name), cidr, address });
            continue;
        }
        match cx.way(peer, cidr) {
            Found::Direct(link, gateway) if link.up => {
                let source = cx.direct_source(link, is_v4(cidr));
                let (peer, way) = (Arc::clone(&peer.name), Way::Direct(link.index));
                wanted.routes.insert(cidr, WantedRoute { peer, way, gateway, source, mtu: None });
            }
            // With the link its routes come back; another way would only be taken for a moment.
            Found::Direct(..) | Found::Routers => {}
            Found::Tunnel { underlay, local, remote } => {
                let tunnel = wanted.tunnels.entry(underlay).or_insert_with(|| cx.tunnel(underlay, local));
                let route = cx.behind(tunnel, underlay, (peer, cidr), remote);
                wanted.routes.insert(cidr, route);
            }
            Found::Nothing => {
                wanted.problems.push(PeerProblem::NoWay { peer: Arc::clone(&peer.name), cidr });
            }
        }
    }
    wanted
}

enum Found<'a> {
    Direct(&'a NodeLink, IpAddr),
    Tunnel { underlay: Underlay, local: IpAddr, remote: IpAddr },
    Routers,
    Nothing,
}

struct Context<'a> {
    own: &'a ClusterNode,
    links: &'a [NodeLink],
    settings: PeerSettings,
}

impl Context<'_> {
    fn way(&self, peer: &ClusterNode, cidr: IpNet) -> Found<'_> {
        if self.settings.mode != PeerMode::Vxlan {
            let hops = peer.addresses.iter().copied().filter(|ip| ip.is_ipv4() == is_v4(cidr));
            if let Some((link, hop)) = hops.filter_map(|ip| Some((self.link_of(ip)?, ip))).next() {
                return Found::Direct(link, hop);
            }
            if self.settings.mode == PeerMode::Direct {
                return Found::Routers;
            }
        }
        let common = Underlay::ALL.into_iter().find_map(|underlay| {
            let v4 = underlay.is_v4();
            let remote = peer.address(v4).filter(|ip| !self.has(*ip))?;
            Some(Found::Tunnel { underlay, local: self.own.address(v4)?, remote })
        });
        common.unwrap_or(Found::Nothing)
    }

    /// The link that a peer's address is on: the one with the longest prefix, and of several in one
    /// network the one that we are known by. Our own address is nobody's next hop.
    fn link_of(&self, ip: IpAddr) -> Option<&NodeLink> {
        if self.has(ip) {
            return None;
        }
        let on = self.links.iter().filter(|link| !link.loopback).filter_map(|link| {
            let fits = link.addresses.iter().filter(|net| net.contains(&ip)).map(IpNet::prefix_len).max()?;
            Some((fits, link))
        });
        let known_by = |link: &NodeLink| link.addresses.iter().any(|net| self.own.addresses.contains(&net.addr()));
        on.max_by_key(|(prefix, link)| (*prefix, link.up, known_by(link))).map(|(_, link)| link)
    }

    /// An address of either node that lies in the range.
    fn covered(&self, peer: &ClusterNode, cidr: IpNet) -> Option<IpAddr> {
        let own = self.links.iter().flat_map(|link| &link.addresses).map(IpNet::addr);
        own.chain(peer.addresses.iter().copied()).find(|ip| cidr.contains(ip))
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.links.iter().any(|link| link.addresses.iter().any(|net| net.addr() == ip))
    }

    /// The node's own address: the one that others know it by, if it can be had.
    fn direct_source(&self, link: &NodeLink, v4: bool) -> Option<IpAddr> {
        let own = || self.own.addresses.iter().copied().filter(move |ip| ip.is_ipv4() == v4);
        let here = own().find(|ip| link.addresses.iter().any(|net| net.addr() == *ip));
        here.or_else(|| own().find(|ip| self.has(*ip)))
    }

    fn tunnel(&self, underlay: Underlay, own: IpAddr) -> TunnelWanted {
        let under = self.links.iter().find(|link| link.addresses.iter().any(|net| net.addr() == own));
        let mtus = || self.links.iter().filter(|link| link.up && !link.loopback).map(|link| link.mtu);
        // An address on the loopback (routed hosts) may leave by any link.
        let mtu = under.filter(|link| !link.loopback).map(|link| link.mtu).or_else(|| mtus().min());
        TunnelWanted {
            mac: vtep_mac(own),
            mtu: mtu.unwrap_or(MTU_UNKNOWN).saturating_sub(underlay.overhead()),
            vni: self.settings.vni,
            port: self.settings.port,
            local: if under.is_some() { own } else { underlay.unspecified() },
            addresses: self.own.pod_cidrs.iter().map(IpNet::network).collect(),
            neighbours: BTreeMap::new(),
            forwarding: BTreeMap::new(),
        }
    }

    /// Adds a peer to a tunnel and gives the route to its range.
    fn behind(
        &self,
        tunnel: &mut TunnelWanted,
        underlay: Underlay,
        (peer, cidr): (&ClusterNode, IpNet),
        remote: IpAddr,
    ) -> WantedRoute {
        let mac = vtep_mac(remote);
        let gateway = tunnel_gateway(cidr, mac);
        tunnel.neighbours.insert(gateway, (mac, Arc::clone(&peer.name)));
        tunnel.forwarding.insert(mac, (remote, Arc::clone(&peer.name)));
        let v4 = is_v4(cidr);
        let first = tunnel.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
        // Without a range of our own the answers come back beside the tunnel, to the node's address.
        let source = first.or_else(|| self.own.address(v4).filter(|ip| self.has(*ip)));
        WantedRoute { peer: Arc::clone(&peer.name), way: Way::Tunnel(underlay), gateway, source, mtu: Some(tunnel.mtu) }
    }
}
