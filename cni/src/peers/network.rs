//! Looking at the kernel's tables and changing them: the thin half.

use super::plan::{PeerAction, PeersObserved, TunnelSeen, plan_peers};
use super::wanted::{WantedRoute, Way, wanted_peers};
use super::{ClusterNode, NodeLink, PeerProblem, PeerSettings, ROUTE_PROTOCOL, TunnelWanted, Underlay, WantedPeers};
use crate::{CniError, LinkNames};
use ipnet::IpNet;
use orlop_kernel::{
    Address, FdbEntry, KernelError, Link, Neighbour, Netlink, Netns, Request, Route, RouteEntry, Sysctl, Vxlan,
    VxlanSpec, write_sysctls,
};
use orlop_model::Ifindex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The ways from one node to the pods of the others.
#[derive(Debug, Clone)]
pub struct PeerNetwork {
    node: Netns,
}

/// A tunnel as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelDevice {
    /// What its outer packets are.
    pub underlay: Underlay,
    /// Its index.
    pub index: Ifindex,
    /// Bytes of the largest inner packet.
    pub mtu: u32,
    /// Its own addresses, at most one a range of this node.
    pub addresses: Vec<IpAddr>,
}

/// What a reconciliation found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeersReport {
    /// Steps that were taken; 0 when all was as it should be.
    pub steps: usize,
    /// What keeps peers from being reached.
    pub problems: Vec<PeerProblem>,
    /// The tunnels.
    pub tunnels: Vec<TunnelDevice>,
    /// Links of the node that are neither pods' nor tunnels, loopback left out.
    pub uplinks: Vec<NodeLink>,
}

impl PeersReport {
    /// Whether another try may do what this one could not.
    #[must_use]
    pub fn is_worth_another_try(&self) -> bool {
        self.problems.iter().any(PeerProblem::passes)
    }
}

impl PeerNetwork {
    /// The ways from the node whose namespace is `node`.
    #[must_use]
    pub fn new(node: Netns) -> Self {
        Self { node }
    }

    /// Makes everything as it should be for `own` to reach the pods of `peers`. Doing it again
    /// changes nothing. Blocks for as long as the kernel takes: a few milliseconds, and some
    /// ten more for a thousand peers.
    ///
    /// # Errors
    /// The kernel's tables cannot be read. A step that fails is one of the report's problems.
    pub fn reconcile(
        &self,
        own: &ClusterNode,
        peers: &[Arc<ClusterNode>],
        settings: PeerSettings,
    ) -> Result<PeersReport, CniError> {
        let mut netlink = self.open()?;
        let seen = observe(&mut netlink).map_err(reading)?;
        let wanted = wanted_peers(own, &seen.links, peers, settings);
        let plan = plan_peers(&wanted, &seen.peers);
        let mut report = PeersReport { steps: plan.actions.len(), problems: plan.problems, ..PeersReport::default() };
        if !plan.actions.is_empty() {
            let mut work = Work::new(self, &mut netlink, &seen.peers);
            work.carry_out(&plan.actions);
            report.problems.append(&mut work.problems);
        }
        report.tunnels = tunnels(&mut netlink).map_err(reading)?;
        report.uplinks = seen.links.into_iter().filter(|link| !link.loopback).collect();
        Ok(report)
    }

    /// The node's links with their addresses, and the tunnels, without changing anything.
    ///
    /// # Errors
    /// The kernel's tables cannot be read.
    pub fn look(&self) -> Result<PeersReport, CniError> {
        let mut netlink = self.open()?;
        let (all, addresses) = links(&mut netlink).map_err(reading)?;
        let uplinks = node_links(all, &addresses).filter(|link| !link.loopback).collect();
        let tunnels = tunnels(&mut netlink).map_err(reading)?;
        Ok(PeersReport { uplinks, tunnels, ..PeersReport::default() })
    }

    /// Removes all tunnels and routes that [`PeerNetwork::reconcile`] ever made here; says what they were.
    ///
    /// # Errors
    /// The tables cannot be read, or the kernel refuses a removal.
    pub fn remove_all(&self) -> Result<Vec<String>, CniError> {
        let mut netlink = self.open()?;
        let seen = observe(&mut netlink).map_err(reading)?.peers;
        let plan = plan_peers(&WantedPeers::default(), &seen);
        let mut work = Work::new(self, &mut netlink, &seen);
        let requests: Vec<Request> = plan.actions.iter().filter_map(|action| work.request(action)).collect();
        netlink
            .apply_each(requests)
            .and_then(|outcomes| outcomes.into_iter().collect::<Result<(), _>>())
            .map_err(|source| CniError::Node { what: "remove the routes to other nodes", source })?;
        Ok(plan.actions.iter().filter_map(removed).collect())
    }

    fn open(&self) -> Result<Netlink, CniError> {
        let failed = |source| CniError::Node { what: "open a netlink socket", source };
        Netlink::open_in(&self.node).map_err(failed)
    }
}

fn reading(source: KernelError) -> CniError {
    CniError::Node { what: "read links and routes", source }
}

fn removed(action: &PeerAction) -> Option<String> {
    match action {
        PeerAction::DeleteTunnel(underlay, _) => Some(format!("link {}", underlay.device())),
        PeerAction::RemoveRoute(cidr) => Some(format!("route {cidr}")),
        _ => None,
    }
}

/// All that a decision needs.
struct Seen {
    links: Vec<NodeLink>,
    peers: PeersObserved,
}

fn links(netlink: &mut Netlink) -> Result<(Vec<Link>, Vec<Address>), KernelError> {
    Ok((netlink.links()?, netlink.addresses()?))
}

fn observe(netlink: &mut Netlink) -> Result<Seen, KernelError> {
    let (all, addresses) = links(netlink)?;
    let mut peers = PeersObserved { routes: netlink.route_entries()?, ..PeersObserved::default() };
    let own: Vec<(Underlay, &Link)> = all.iter().filter_map(|link| Some((tunnel_of(&link.name)?, link))).collect();
    if !own.is_empty() {
        let (vxlans, neighbours) = (netlink.vxlans()?, netlink.neighbours()?);
        for (underlay, link) in own {
            let vxlan = vxlans.iter().find(|vxlan| vxlan.link.index == link.index);
            let forwarding = if vxlan.is_some() { netlink.fdb(link.index)? } else { Vec::new() };
            let mut seen = tunnel(link, vxlan);
            seen.addresses = addresses_of(link, &addresses).map(|address| address.ip).collect();
            let here = neighbours.iter().filter(|neighbour| neighbour.link == link.index);
            seen.neighbours = here.map(|neighbour| (neighbour.ip, neighbour.mac)).collect();
            seen.forwarding = forwarding.into_iter().map(|entry| (entry.mac, entry.remote)).collect();
            peers.tunnels.insert(underlay, seen);
        }
    }
    Ok(Seen { links: node_links(all, &addresses).collect(), peers })
}

fn node_links(all: Vec<Link>, addresses: &[Address]) -> impl Iterator<Item = NodeLink> {
    let links = all.into_iter().filter(|link| tunnel_of(&link.name).is_none() && !is_pods(&link.name));
    links.filter_map(|link| {
        let here = addresses_of(&link, addresses);
        let addresses: Vec<IpNet> = here.filter_map(|address| IpNet::new(address.ip, address.prefix).ok()).collect();
        let Link { index, name, mtu, up, loopback, .. } = link;
        (!addresses.is_empty()).then_some(NodeLink { index, name, mtu, up, loopback, addresses })
    })
}

/// Without the link-local ones, which are the kernel's own: no node is known by one.
fn addresses_of(link: &Link, all: &[Address]) -> impl Iterator<Item = Address> {
    all.iter().copied().filter(move |address| address.link == link.index && !is_link_local(address.ip))
}

/// The tunnels as they are.
fn tunnels(netlink: &mut Netlink) -> Result<Vec<TunnelDevice>, KernelError> {
    let (all, addresses) = links(netlink)?;
    let mut found: Vec<TunnelDevice> = Vec::new();
    for link in &all {
        let Some(underlay) = tunnel_of(&link.name) else { continue };
        let mut own: Vec<IpAddr> = addresses_of(link, &addresses).map(|address| address.ip).collect();
        own.sort_unstable();
        found.push(TunnelDevice { underlay, index: link.index, mtu: link.mtu, addresses: own });
    }
    found.sort_unstable_by_key(|tunnel| tunnel.underlay);
    Ok(found)
}

fn tunnel(link: &Link, vxlan: Option<&Vxlan>) -> TunnelSeen {
    TunnelSeen {
        index: link.index,
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        vxlan: vxlan.map(|vxlan| (vxlan.vni, vxlan.port)),
        local: vxlan.and_then(|vxlan| vxlan.local),
        addresses: Default::default(),
        neighbours: BTreeMap::new(),
        forwarding: BTreeMap::new(),
    }
}

fn tunnel_of(name: &str) -> Option<Underlay> {
    Underlay::ALL.into_iter().find(|underlay| underlay.device() == name)
}

fn is_pods(name: &str) -> bool {
    LinkNames::is_host_side(name) || LinkNames::is_attachment(name)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Steps under way.
struct Work<'a> {
    node: &'a Netns,
    netlink: &'a mut Netlink,
    devices: BTreeMap<Underlay, Ifindex>,
    problems: Vec<PeerProblem>,
}

impl<'a> Work<'a> {
    fn new(network: &'a PeerNetwork, netlink: &'a mut Netlink, seen: &PeersObserved) -> Self {
        let devices = seen.tunnels.iter().map(|(underlay, seen)| (*underlay, seen.index)).collect();
        Self { node: &network.node, netlink, devices, problems: Vec::new() }
    }

    /// Devices one by one, because the others need their index; all else in batches.
    fn carry_out(&mut self, actions: &[PeerAction]) {
        let mut batch: Vec<(&PeerAction, Request)> = Vec::new();
        for action in actions {
            match action {
                PeerAction::CreateTunnel(underlay, want) => {
                    self.send(std::mem::take(&mut batch));
                    let made = self.create(*underlay, want);
                    self.note(action, made);
                }
                _ => batch.extend(self.request(action).map(|request| (action, request))),
            }
        }
        self.send(batch);
    }

    fn send(&mut self, batch: Vec<(&PeerAction, Request)>) {
        let (actions, requests): (Vec<&PeerAction>, Vec<Request>) = batch.into_iter().unzip();
        match self.netlink.apply_each(requests) {
            Ok(outcomes) => {
                for (action, outcome) in actions.into_iter().zip(outcomes) {
                    self.note(action, outcome);
                }
            }
            Err(error) => self.problems.push(PeerProblem::Refused { peer: None, error: chain(&error) }),
        }
    }

    fn note(&mut self, action: &PeerAction, outcome: Result<(), KernelError>) {
        if let Err(error) = outcome {
            let problem = PeerProblem::Refused { peer: whose(action), error: chain(&error) };
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    fn create(&mut self, underlay: Underlay, want: &TunnelWanted) -> Result<(), KernelError> {
        self.devices.remove(&underlay);
        let name = underlay.device();
        let TunnelWanted { mac, mtu, vni, port, local, .. } = *want;
        let spec = VxlanSpec { name, mac, mtu, vni, port, local };
        let made = self.netlink.apply_then_link(vec![Request::create_vxlan(&spec)], name)?;
        self.devices.extend(made.map(|link| (underlay, link.index)));
        // A peer that sees us on its link answers directly, so that the way back may be another one;
        // addr_gen_mode 1: no link-local address, and so no duplicate detection for one.
        let mut sysctls = vec![Sysctl::ipv4(name, "rp_filter", 0), Sysctl::ipv4(name, "forwarding", 1)];
        sysctls
            .extend([("addr_gen_mode", 1), ("accept_ra", 0), ("forwarding", 1)].map(|(k, v)| Sysctl::ipv6(name, k, v)));
        write_sysctls(self.node, &sysctls)
    }

    /// `None` when the device that it needs is not there, which has been noted.
    fn request(&mut self, action: &PeerAction) -> Option<Request> {
        let device = |underlay: &Underlay| self.devices.get(underlay).copied();
        let whole = |link, ip: IpAddr| Address { link, ip, prefix: if ip.is_ipv4() { 32 } else { 128 } };
        Some(match action {
            PeerAction::CreateTunnel(..) => return None,
            PeerAction::DeleteTunnel(_, index) => Request::delete_link(*index),
            PeerAction::SetTunnelMtu(underlay, mtu) => Request::set_link_mtu(underlay.device(), *mtu),
            PeerAction::RaiseTunnel(underlay) => {
                device(underlay)?;
                Request::set_link_up(underlay.device(), true)
            }
            PeerAction::AddTunnelAddress(underlay, ip) => Request::put_address(whole(device(underlay)?, *ip)),
            PeerAction::RemoveTunnelAddress(underlay, ip) => Request::delete_address(whole(device(underlay)?, *ip)),
            PeerAction::PutNeighbour(underlay, ip, mac, _) => {
                Request::put_neighbour(Neighbour { link: device(underlay)?, ip: *ip, mac: *mac })
            }
            PeerAction::RemoveNeighbour(underlay, ip, mac) => {
                Request::delete_neighbour(Neighbour { link: device(underlay)?, ip: *ip, mac: *mac })
            }
            PeerAction::PutForwarding(underlay, mac, remote, _) => {
                Request::put_fdb(FdbEntry { link: device(underlay)?, mac: *mac, remote: *remote })
            }
            PeerAction::RemoveForwarding(underlay, mac, remote) => {
                Request::delete_fdb(FdbEntry { link: device(underlay)?, mac: *mac, remote: *remote })
            }
            PeerAction::AddRoute(cidr, want) => Request::create_route_entry(self.entry(*cidr, want)?),
            PeerAction::ReplaceRoute(cidr, want) => Request::put_route_entry(self.entry(*cidr, want)?),
            PeerAction::RemoveRoute(cidr) => {
                Request::delete_route_of((cidr.network(), cidr.prefix_len()), ROUTE_PROTOCOL)
            }
        })
    }

    fn entry(&self, cidr: IpNet, want: &WantedRoute) -> Option<RouteEntry> {
        let link = match want.way {
            Way::Direct(link) => link,
            Way::Tunnel(underlay) => *self.devices.get(&underlay)?,
        };
        let destination = (cidr.network(), cidr.prefix_len());
        let route = Route { destination, gateway: Some(want.gateway), link, source: want.source };
        Some(RouteEntry { route, protocol: ROUTE_PROTOCOL, mtu: want.mtu })
    }
}

fn whose(action: &PeerAction) -> Option<Arc<str>> {
    match action {
        PeerAction::PutNeighbour(.., peer) | PeerAction::PutForwarding(.., peer) => Some(Arc::clone(peer)),
        PeerAction::AddRoute(_, want) | PeerAction::ReplaceRoute(_, want) => Some(Arc::clone(&want.peer)),
        PeerAction::DeleteTunnel(..)
        | PeerAction::CreateTunnel(..)
        | PeerAction::SetTunnelMtu(..)
        | PeerAction::RaiseTunnel(..)
        | PeerAction::AddTunnelAddress(..)
        | PeerAction::RemoveTunnelAddress(..)
        | PeerAction::RemoveNeighbour(..)
        | PeerAction::RemoveForwarding(..)
        | PeerAction::RemoveRoute(..) => None,
    }
}

fn chain(error: &KernelError) -> String {
    let mut text = error.to_string();
    let mut at = std::error::Error::source(error);
    while let Some(source) = at {
        text = format!("{text}: {source}");
        at = source.source();
    }
    text
}
