//! Pods of other nodes: routes to their ranges, by the link that both nodes are on or
//! through a VXLAN device.
//!
//! ```text
//!   Node objects ─▶ ClusterNode ─┐
//!   NodeLink (this node's links) ├─▶ wanted_peers ─▶ WantedPeers ─┐
//!   PeerSettings ────────────────┘                                ├─▶ plan_peers ─▶ PeerAction, PeerProblem
//!   PeersObserved (the kernel's tables) ──────────────────────────┘          │
//!                                                              PeerNetwork carries out
//! ```
//!
//! One peer, one range, one route:
//!
//! | The peer's address is | Route to its range |
//! |---|---|
//! | in a network of one of our links | `RANGE via ADDRESS dev LINK onlink src OWN-ADDRESS proto 111` |
//! | elsewhere, IPv4 range | `RANGE via FIRST-OF-RANGE dev orlop-vxlan onlink src FIRST-OF-OWN-RANGE mtu … proto 111` |
//! | elsewhere, IPv6 range | `RANGE via fe80::EUI-64 dev orlop-vxlan onlink src FIRST-OF-OWN-RANGE mtu … proto 111` |
//!
//! The next hop on the VXLAN device has a permanent neighbour entry, its Ethernet address
//! ([`vtep_mac`]) a forwarding entry with the peer's address: nothing is asked for on the
//! wire and nothing is learned. Outer packets are IPv4 where both nodes have such an
//! address, else IPv6 over a second device, `orlop-vxlan6`; both ends come to the same
//! answer from the Node objects alone.

mod network;
mod overlap;
mod plan;
mod problem;
mod wanted;

pub use network::{PeerNetwork, PeersReport, TunnelDevice};
pub use plan::{PeerAction, PeersObserved, PeersPlan, TunnelSeen, plan_peers};
pub use problem::PeerProblem;
pub use wanted::{TunnelWanted, WantedPeers, WantedRoute, Way, vtep_mac, wanted_peers};

use ipnet::IpNet;
use jiff::Timestamp;
use orlop_model::Ifindex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// `rtm_protocol` of the routes made here, by which they are told from those of others: `o` in ASCII.
/// Taken neither by linux/rtnetlink.h nor by iproute2's `rt_protos`; Calico uses 80, Cilium none of its own.
pub const ROUTE_PROTOCOL: u8 = 111;
/// Bytes that a VXLAN packet has more than the inner IP packet, over IPv4: outer IP header 20, UDP 8,
/// VXLAN 8, inner Ethernet header 14 (RFC 7348).
pub const OVERHEAD_V4: u32 = 50;
/// The same over IPv6, whose header has 40 bytes.
pub const OVERHEAD_V6: u32 = 70;

/// A node as the API server shows it, this one or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// Name.
    pub name: Arc<str>,
    /// When the Node object was made; of two that claim one range the older has it.
    pub created: Option<Timestamp>,
    /// Its InternalIPs, in the order of the status.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
}

impl ClusterNode {
    /// Its first address of a family.
    pub(crate) fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4)
    }
}

/// A link of this node with an address on it: neither a pod's nor one of the tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLink {
    /// Its index.
    pub index: Ifindex,
    /// Its name.
    pub name: String,
    /// Bytes.
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// IFF_LOOPBACK: its addresses are the node's own, but nobody else is on it.
    pub loopback: bool,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// How other nodes' pods are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerMode {
    /// Directly where both nodes are on one link, through VXLAN elsewhere.
    #[default]
    Auto,
    /// Directly on one link; elsewhere the routers between are taken to know the ranges.
    Direct,
    /// Always through VXLAN: for links that drop packets with pods' addresses.
    Vxlan,
    /// Somebody else sees to it: the cloud's routes, another agent.
    None,
}

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSettings {
    /// How.
    pub mode: PeerMode,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub port: u16,
}

impl Default for PeerSettings {
    /// Number and port of flannel: firewalls and security groups of clusters let them through.
    fn default() -> Self {
        Self { mode: PeerMode::Auto, vni: 1, port: 8472 }
    }
}

/// What outer packets of a tunnel are: there is one device for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Underlay {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Underlay {
    /// Both, in the order in which they are preferred.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Name of its device.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::V4 => "orlop-vxlan",
            Self::V6 => "orlop-vxlan6",
        }
    }

    /// Bytes that the inner packet has to leave free.
    #[must_use]
    pub const fn overhead(self) -> u32 {
        match self {
            Self::V4 => OVERHEAD_V4,
            Self::V6 => OVERHEAD_V6,
        }
    }

    pub(crate) const fn is_v4(self) -> bool {
        matches!(self, Self::V4)
    }

    pub(crate) const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

pub(crate) fn is_v4(net: IpNet) -> bool {
    net.addr().is_ipv4()
}
