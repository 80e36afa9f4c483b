//! What has to be done to put a pod on the wire. Pure.

use crate::name::LinkNames;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use orlop_kernel::Mac;
use orlop_model::Ifindex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Next hop of a pod's IPv4 default route. Link-local (RFC 3927) and on no interface.
pub const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// Next hop of a pod's IPv6 default route. Link-local and on no interface.
pub const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// How the pod is to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Names and MAC addresses.
    pub names: LinkNames,
    /// At most one a family.
    pub addresses: Vec<IpAddr>,
    /// Where the pod's own routes by the gateways lead: for a pod [`default_routes`].
    pub routes: Vec<IpNet>,
    /// Bytes.
    pub mtu: u32,
}

/// The default route of each family that has an address.
#[must_use]
pub fn default_routes(addresses: &[IpAddr]) -> Vec<IpNet> {
    let whole = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    };
    addresses.iter().map(whole).collect()
}

/// The host side as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSide {
    /// Index in the node's namespace.
    pub index: Ifindex,
    /// Index of its other end, in whichever namespace that is.
    pub peer: Option<u32>,
    /// Its address.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// Host routes that lead out of it.
    pub routes: BTreeSet<IpAddr>,
    /// Permanent neighbours.
    pub neighbours: BTreeMap<IpAddr, Mac>,
}

/// The pod side as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSide {
    /// Index in the pod's namespace.
    pub index: Ifindex,
    /// Index of its other end.
    pub peer: Option<u32>,
    /// Its address.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Where routes by the gateways of their families lead.
    pub routes: BTreeSet<IpNet>,
    /// Permanent neighbours.
    pub neighbours: BTreeMap<IpAddr, Mac>,
}

/// What there is of a pod's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The host side, found by name.
    pub host: Option<HostSide>,
    /// The pod side, found by name in the pod's namespace.
    pub pod: Option<PodSide>,
    /// The pod's loopback is up.
    pub loopback_up: bool,
}

/// One step. Those of one side are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A host side that belongs to another, older sandbox of this pod.
    DeleteHostLink(Ifindex),
    /// A pod side that leads elsewhere.
    DeletePodLink(Ifindex),
    /// Make the pair, both ends down.
    CreateVeth,
    /// Write the host side's sysctls and bring it up.
    RaiseHost,
    /// A permanent neighbour entry for a pod address.
    HostNeighbour(IpAddr),
    /// A host route to a pod address.
    HostRoute(IpAddr),
    /// Bring the pod's loopback up.
    RaiseLoopback,
    /// Write the pod side's sysctls and bring it up.
    RaisePod,
    /// An address of the pod side.
    PodAddress(IpAddr),
    /// A permanent neighbour entry for a gateway.
    PodNeighbour(IpAddr),
    /// A route by the gateway of its family.
    PodRoute(IpNet),
}

/// The gateway of an address's family.
#[must_use]
pub(crate) const fn gateway_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => GATEWAY_V4,
        IpAddr::V6(_) => GATEWAY_V6,
    }
}

impl Observed {
    /// Both sides are there and belong together.
    fn paired(&self) -> Option<(&HostSide, &PodSide)> {
        let (host, pod) = (self.host.as_ref()?, self.pod.as_ref()?);
        let joined = host.peer == Some(pod.index.get()) && pod.peer == Some(host.index.get());
        joined.then_some((host, pod))
    }

    /// Both sides are there and are the two ends of one veth.
    #[must_use]
    pub fn are_paired(&self) -> bool {
        self.paired().is_some()
    }
}

/// The steps from what is seen to what is wanted; none when it is so.
#[must_use]
pub fn plan(wanted: &Wanted, observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    let pair = observed.paired().filter(|(host, pod)| {
        // Addresses and MTU are given when the pair is made; a pair with others is not ours.
        host.mac == Some(wanted.names.host_mac) && pod.mac == Some(wanted.names.pod_mac) && host.mtu == wanted.mtu
    });
    if pair.is_none() {
        actions.extend(observed.host.as_ref().map(|host| Action::DeleteHostLink(host.index)));
        // Deleting one end of a pair deletes the other.
        let with_host = observed.paired().is_some();
        actions.extend(observed.pod.as_ref().filter(|_| !with_host).map(|pod| Action::DeletePodLink(pod.index)));
        actions.push(Action::CreateVeth);
    }
    plan_host(wanted, pair.map(|(host, _)| host), &mut actions);
    if !observed.loopback_up {
        actions.push(Action::RaiseLoopback);
    }
    plan_pod(wanted, pair.map(|(_, pod)| pod), &mut actions);
    actions
}

fn plan_host(wanted: &Wanted, host: Option<&HostSide>, actions: &mut Vec<Action>) {
    if !host.is_some_and(|host| host.up) {
        actions.push(Action::RaiseHost);
    }
    for &ip in &wanted.addresses {
        if host.and_then(|host| host.neighbours.get(&ip)) != Some(&wanted.names.pod_mac) {
            actions.push(Action::HostNeighbour(ip));
        }
        // Setting a link down takes its routes away.
        if !host.is_some_and(|host| host.up && host.routes.contains(&ip)) {
            actions.push(Action::HostRoute(ip));
        }
    }
}

fn plan_pod(wanted: &Wanted, pod: Option<&PodSide>, actions: &mut Vec<Action>) {
    if !pod.is_some_and(|pod| pod.up) {
        actions.push(Action::RaisePod);
    }
    for &ip in &wanted.addresses {
        let gateway = gateway_of(ip);
        // Setting a link down takes IPv6 addresses away with the routes.
        if !pod.is_some_and(|pod| pod.addresses.contains(&ip) && (pod.up || ip.is_ipv4())) {
            actions.push(Action::PodAddress(ip));
        }
        if pod.and_then(|pod| pod.neighbours.get(&gateway)) != Some(&wanted.names.host_mac) {
            actions.push(Action::PodNeighbour(gateway));
        }
    }
    for &route in &wanted.routes {
        if !pod.is_some_and(|pod| pod.up && pod.routes.contains(&route)) {
            actions.push(Action::PodRoute(route));
        }
    }
}
