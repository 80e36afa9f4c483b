//! What the data path has to know of the cluster's nodes.

use ipnet::IpNet;
use orlop_cni::{ClusterNode, NodeLink, PeersReport, TunnelDevice};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Nodes, tunnels and uplinks at one moment. The default is: nothing is known yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct NodesView {
    /// This node: its addresses and ranges as the peers see them.
    pub own: Option<Arc<ClusterNode>>,
    /// All others. `None` until the list of Nodes was whole once: tables that outlived an agent
    /// must not lose entries before that.
    pub peers: Option<Arc<[Arc<ClusterNode>]>>,
    /// Devices to nodes on other links: none, one, or one for each family of outer packets.
    pub tunnels: Vec<TunnelDevice>,
    /// Links of the node with an address on them, but no pod's, no tunnel and no loopback; whether
    /// up or not.
    pub uplinks: Vec<NodeLink>,
}

impl NodesView {
    pub(super) fn new(own: Arc<ClusterNode>, peers: Option<Arc<[Arc<ClusterNode>]>>, report: &PeersReport) -> Self {
        Self { own: Some(own), peers, tunnels: report.tunnels.clone(), uplinks: report.uplinks.clone() }
    }

    fn nodes(&self) -> impl Iterator<Item = &ClusterNode> {
        self.own.iter().chain(self.peers.iter().flat_map(|peers| peers.iter())).map(AsRef::as_ref)
    }

    /// Ranges of pod addresses of all nodes, this one's too: what goes there keeps its source.
    pub fn pod_cidrs(&self) -> BTreeSet<IpNet> {
        self.nodes().flat_map(|node| &node.pod_cidrs).map(IpNet::trunc).collect()
    }

    /// Addresses of the other nodes.
    pub fn peer_addresses(&self) -> BTreeSet<IpAddr> {
        self.peers.iter().flat_map(|peers| peers.iter()).flat_map(|peer| peer.addresses.iter().copied()).collect()
    }
}
