//! From what is there to what should be there. Pure.

use super::{PeerProblem, ROUTE_PROTOCOL, TunnelWanted, Underlay, WantedPeers, WantedRoute, Way};
use ipnet::IpNet;
use orlop_kernel::{Mac, SeenRoute};
use orlop_model::Ifindex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What the kernel has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeersObserved {
    /// Devices with our names.
    pub tunnels: BTreeMap<Underlay, TunnelSeen>,
    /// The main table.
    pub routes: Vec<SeenRoute>,
}

/// A device with a tunnel's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSeen {
    /// Its index.
    pub index: Ifindex,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// Network identifier and UDP port; `None` when it is no VXLAN device at all.
    pub vxlan: Option<(u32, u16)>,
    /// Source of outer packets, if it is fixed.
    pub local: Option<IpAddr>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Permanent neighbour entries.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Forwarding entries.
    pub forwarding: BTreeMap<Mac, IpAddr>,
}

/// A step. Steps are carried out in their order; one that fails holds up no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAction {
    /// Deletes a device that is not wanted or not as it should be; its routes go with it.
    DeleteTunnel(Underlay, Ifindex),
    /// Makes a device, down and empty.
    CreateTunnel(Underlay, Box<TunnelWanted>),
    /// Sets a device's MTU.
    SetTunnelMtu(Underlay, u32),
    /// Brings a device up.
    RaiseTunnel(Underlay),
    /// Gives a device an address.
    AddTunnelAddress(Underlay, IpAddr),
    /// Takes one away.
    RemoveTunnelAddress(Underlay, IpAddr),
    /// Writes a next hop's Ethernet address.
    PutNeighbour(Underlay, IpAddr, Mac, Arc<str>),
    /// Removes it.
    RemoveNeighbour(Underlay, IpAddr, Mac),
    /// Writes which node an Ethernet address is behind.
    PutForwarding(Underlay, Mac, IpAddr, Arc<str>),
    /// Removes it.
    RemoveForwarding(Underlay, Mac, IpAddr),
    /// Adds a route where none is.
    AddRoute(IpNet, WantedRoute),
    /// Writes a route over one of ours.
    ReplaceRoute(IpNet, WantedRoute),
    /// Removes one of ours.
    RemoveRoute(IpNet),
}

/// Steps, and what stands in their way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeersPlan {
    /// None when all is as it should be.
    pub actions: Vec<PeerAction>,
    /// Those of [`WantedPeers::problems`], and routes of others.
    pub problems: Vec<PeerProblem>,
}

/// The steps from what is there to what should be there; none when it is so.
#[must_use]
pub fn plan_peers(wanted: &WantedPeers, observed: &PeersObserved) -> PeersPlan {
    let mut plan = PeersPlan { actions: Vec::new(), problems: wanted.problems.clone() };
    // What a route goes by and what leads to the next hop is there before the route,
    // and goes after it.
    let (mut kept, mut after) = (BTreeMap::new(), Vec::new());
    for underlay in Underlay::ALL {
        match (wanted.tunnels.get(&underlay), observed.tunnels.get(&underlay)) {
            (Some(want), seen) => {
                let fits = seen.filter(|seen| is_same_device(want, seen));
                if let (None, Some(seen)) = (fits, seen) {
                    plan.actions.push(PeerAction::DeleteTunnel(underlay, seen.index));
                }
                if let Some(seen) = fits {
                    kept.insert(underlay, seen);
                }
                plan_tunnel(underlay, want, fits, (&mut plan.actions, &mut after));
            }
            (None, Some(seen)) => after.push(PeerAction::DeleteTunnel(underlay, seen.index)),
            (None, None) => {}
        }
    }
    plan_routes(wanted, observed, &kept, &mut plan);
    plan.actions.append(&mut after);
    plan
}

/// What cannot be changed on a device that is there.
fn is_same_device(want: &TunnelWanted, seen: &TunnelSeen) -> bool {
    let local = seen.local.unwrap_or(if want.local.is_ipv4() {
        Underlay::V4.unspecified()
    } else {
        Underlay::V6.unspecified()
    });
    seen.vxlan == Some((want.vni, want.port)) && seen.mac == Some(want.mac) && local == want.local
}

fn plan_tunnel(
    underlay: Underlay,
    want: &TunnelWanted,
    seen: Option<&TunnelSeen>,
    (actions, after): (&mut Vec<PeerAction>, &mut Vec<PeerAction>),
) {
    match seen {
        None => actions.push(PeerAction::CreateTunnel(underlay, Box::new(want.clone()))),
        Some(seen) if seen.mtu != want.mtu => actions.push(PeerAction::SetTunnelMtu(underlay, want.mtu)),
        Some(_) => {}
    }
    if !seen.is_some_and(|seen| seen.up) {
        actions.push(PeerAction::RaiseTunnel(underlay));
    }
    // Setting a link down takes IPv6 addresses away.
    let has = |ip: &IpAddr| seen.is_some_and(|seen| seen.addresses.contains(ip) && (seen.up || ip.is_ipv4()));
    let missing = want.addresses.iter().filter(|ip| !has(ip));
    actions.extend(missing.map(|ip| PeerAction::AddTunnelAddress(underlay, *ip)));
    for (mac, (remote, peer)) in &want.forwarding {
        if seen.and_then(|seen| seen.forwarding.get(mac)) != Some(remote) {
            actions.push(PeerAction::PutForwarding(underlay, *mac, *remote, Arc::clone(peer)));
        }
    }
    for (ip, (mac, peer)) in &want.neighbours {
        if seen.and_then(|seen| seen.neighbours.get(ip)) != Some(mac) {
            actions.push(PeerAction::PutNeighbour(underlay, *ip, *mac, Arc::clone(peer)));
        }
    }
    let Some(seen) = seen else { return };
    let neighbours = seen.neighbours.iter().filter(|(ip, _)| !want.neighbours.contains_key(*ip));
    after.extend(neighbours.map(|(ip, mac)| PeerAction::RemoveNeighbour(underlay, *ip, *mac)));
    let forwarding = seen.forwarding.iter().filter(|(mac, _)| !want.forwarding.contains_key(*mac));
    after.extend(forwarding.map(|(mac, remote)| PeerAction::RemoveForwarding(underlay, *mac, *remote)));
    let addresses = seen.addresses.difference(&want.addresses);
    after.extend(addresses.map(|ip| PeerAction::RemoveTunnelAddress(underlay, *ip)));
}

fn plan_routes(
    wanted: &WantedPeers,
    observed: &PeersObserved,
    kept: &BTreeMap<Underlay, &TunnelSeen>,
    plan: &mut PeersPlan,
) {
    // Routes of a device that is made anew go with the old one.
    let replaced = |link: Ifindex| {
        let anew = |underlay| wanted.tunnels.contains_key(underlay) && !kept.contains_key(underlay);
        observed.tunnels.iter().any(|(underlay, seen)| seen.index == link && anew(underlay))
    };
    let (mut ours, mut foreign) = (BTreeMap::<IpNet, &SeenRoute>::new(), BTreeMap::<IpNet, &SeenRoute>::new());
    for route in &observed.routes {
        let Ok(cidr) = IpNet::new(route.destination.0, route.destination.1) else { continue };
        if route.protocol != ROUTE_PROTOCOL {
            foreign.insert(cidr, route);
        } else if !route.entry.is_some_and(|entry| replaced(entry.route.link)) {
            ours.insert(cidr, route);
        }
    }
    for (cidr, want) in &wanted.routes {
        let (mine, other) = (ours.get(cidr), foreign.get(cidr));
        match (mine, other) {
            (Some(mine), _) if is_as_wanted(mine, want, kept) => {}
            (Some(_), None) => plan.actions.push(PeerAction::ReplaceRoute(*cidr, want.clone())),
            (None, None) => plan.actions.push(PeerAction::AddRoute(*cidr, want.clone())),
            // A replacement might hit the other's.
            (Some(_), Some(_)) => {
                plan.actions.push(PeerAction::RemoveRoute(*cidr));
                plan.actions.push(PeerAction::AddRoute(*cidr, want.clone()));
            }
            (None, Some(other)) => plan.problems.push(PeerProblem::ForeignRoute {
                peer: Arc::clone(&want.peer),
                cidr: *cidr,
                route: other.to_string(),
            }),
        }
    }
    let gone = ours.keys().filter(|cidr| !wanted.routes.contains_key(*cidr));
    plan.actions.extend(gone.map(|cidr| PeerAction::RemoveRoute(*cidr)));
}

fn is_as_wanted(seen: &SeenRoute, want: &WantedRoute, kept: &BTreeMap<Underlay, &TunnelSeen>) -> bool {
    let link = match want.way {
        Way::Direct(link) => Some(link),
        // Setting a link down takes its routes away, also those that a list still had.
        Way::Tunnel(underlay) => kept.get(&underlay).filter(|tunnel| tunnel.up).map(|tunnel| tunnel.index),
    };
    seen.entry.is_some_and(|entry| {
        let route = entry.route;
        Some(route.link) == link
            && route.gateway == Some(want.gateway)
            && route.source == want.source
            && entry.mtu == want.mtu
    })
}
