//! What keeps a peer's pods from being reached, in words for an event.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What is wrong with a peer. [`fmt::Display`] says it for the person on call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerProblem {
    /// Its range is, all or part, that of an older node.
    Overlap {
        /// Whose range is left out.
        peer: Arc<str>,
        /// That range.
        cidr: IpNet,
        /// Who has it.
        owner: Arc<str>,
        /// The range that it has.
        taken: IpNet,
    },
    /// Its range has an address of a node in it: a route to it would cut that node off.
    CoversNode {
        /// Whose range is left out.
        peer: Arc<str>,
        /// That range.
        cidr: IpNet,
        /// An address of this node or of the peer.
        address: IpAddr,
    },
    /// It is on none of our links, and no address family is common to both nodes.
    NoWay {
        /// Who.
        peer: Arc<str>,
        /// The range that has no route.
        cidr: IpNet,
    },
    /// A route of somebody else leads to its range already. It is left alone.
    ForeignRoute {
        /// Whose range.
        peer: Arc<str>,
        /// The range.
        cidr: IpNet,
        /// The route that is there.
        route: String,
    },
    /// The kernel refused a step.
    Refused {
        /// Whose; `None` for the tunnel's device, which concerns all peers behind it.
        peer: Option<Arc<str>>,
        /// The step and the refusal.
        error: String,
    },
}

impl PeerProblem {
    /// Reason of an event, in one word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Overlap { .. } => "PodCIDROverlap",
            Self::CoversNode { .. } => "PodCIDRCoversNode",
            Self::NoWay { .. } => "NodeUnreachable",
            Self::ForeignRoute { .. } => "ForeignRoute",
            Self::Refused { peer: Some(_), .. } => "NodeRouteFailed",
            Self::Refused { peer: None, .. } => "TunnelFailed",
        }
    }

    /// Whether it may pass by itself: then it is worth another try.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl fmt::Display for PeerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap { peer, cidr, owner, taken } => write!(
                f,
                "podCIDR {cidr} of node {peer} overlaps {taken} of the older node {owner}: pods of {peer} are not \
                 reached from here; delete the Node {peer} and let it join again"
            ),
            Self::CoversNode { peer, cidr, address } => write!(
                f,
                "podCIDR {cidr} of node {peer} has the node address {address} in it and gets no route: give pods a \
                 range of their own"
            ),
            Self::NoWay { peer, cidr } => write!(
                f,
                "pods of node {peer} ({cidr}) are not reached from here: none of its InternalIPs is on a link of this \
                 node or of a family that both nodes have"
            ),
            Self::ForeignRoute { peer, cidr, route } => write!(
                f,
                "podCIDR {cidr} of node {peer} has a route that is not Orlop's: {route}; it is left as it is, remove \
                 it or set nodeRouting: none"
            ),
            Self::Refused { peer: Some(peer), error } => {
                write!(f, "pods of node {peer} are not reached from here: {error}")
            }
            Self::Refused { peer: None, error } => write!(f, "the tunnel to other nodes does not work: {error}"),
        }
    }
}
