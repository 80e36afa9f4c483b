//! The pod network: which address a pod gets ([`Ipam`]) and the wire it is reached
//! by ([`PodNetwork`]).
//!
//! ```text
//!   pod's namespace                          node's namespace
//!   eth0  10.1.0.7/32  fd00::7/128           orl1f0c…  (hash of the pod's UID)
//!     default via 169.254.1.1 onlink           route 10.1.0.7/32, fd00::7/128
//!     default via fe80::1 onlink     ◀─veth─▶  neighbours: both, at eth0's MAC, permanent
//!     neighbours: both gateways,               rp_filter 0, forwarding 1
//!       at the host side's MAC, permanent
//! ```
//!
//! The gateway addresses exist nowhere: permanent neighbour entries on both sides mean
//! that no ARP and no neighbour discovery is ever sent. What to do is decided by
//! [`plan`], which is pure; doing it is a batch of netlink requests a side.
//!
//! Pods of other nodes are reached by [`PeerNetwork`]: directly where both nodes are on one link, through
//! a VXLAN device elsewhere. [`wanted_peers`] and [`plan_peers`] decide, from the Node objects alone.
//!
//! Other runtimes get the same by the program `orlop-cni`, which is [`run_plugin`]: see cni/README.md.
#![forbid(unsafe_code)]

mod attachment;
mod error;
mod ipam;
mod name;
mod network;
mod observe;
mod peers;
mod plan;
mod plugin;
mod pool;
mod wire;

pub use attachment::Attachment;
pub use error::CniError;
pub use ipam::{Ipam, Lease};
pub use name::{LinkNames, POD_LINK};
pub use network::{AttachRequest, Attached, HostLink, PodNetwork};
pub use peers::{
    ClusterNode, NodeLink, OVERHEAD_V4, OVERHEAD_V6, PeerAction, PeerMode, PeerNetwork, PeerProblem, PeerSettings,
    PeersObserved, PeersPlan, PeersReport, ROUTE_PROTOCOL, TunnelDevice, TunnelSeen, TunnelWanted, Underlay,
    WantedPeers, WantedRoute, Way, plan_peers, vtep_mac, wanted_peers,
};
pub use plan::{Action, GATEWAY_V4, GATEWAY_V6, HostSide, Observed, PodSide, Wanted, default_routes, plan};
pub use plugin::{Code, Failure, plugin_versions, run_plugin};
pub use pool::{AddressPool, REUSE_AFTER_SECS};
