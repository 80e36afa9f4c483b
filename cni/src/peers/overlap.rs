//! Which node has which range, when several claim the same addresses. Pure.

use super::{ClusterNode, PeerProblem};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Ranges by their first address; no two overlap.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    taken: BTreeMap<IpAddr, (IpNet, Arc<str>)>,
}

impl Ranges {
    /// Takes a range for `name`, or says who has (part of) it.
    pub fn take(&mut self, cidr: IpNet, name: &Arc<str>) -> Result<(), (IpNet, Arc<str>)> {
        // Ranges of CIDRs nest or are apart, so the only ones that can overlap are the last that
        // begins before this one's end and those that begin inside it. Families sort apart.
        let before = self.taken.range(..=cidr.broadcast()).next_back();
        if let Some((_, (other, owner))) = before
            && (other.contains(&cidr.network()) || cidr.contains(&other.network()))
        {
            return Err((*other, Arc::clone(owner)));
        }
        self.taken.insert(cidr.network(), (cidr, Arc::clone(name)));
        Ok(())
    }
}

/// The ranges of the peers that each really has. This node keeps its own whatever others say: its
/// pods have addresses of it. Of the others the older one wins, then the first by name.
pub(super) fn settle<'a>(
    own: &ClusterNode,
    peers: &'a [Arc<ClusterNode>],
    problems: &mut Vec<PeerProblem>,
) -> Vec<(&'a ClusterNode, IpNet)> {
    let mut ranges = Ranges::default();
    for cidr in &own.pod_cidrs {
        // Two of its own that overlap are one.
        let _ = ranges.take(cidr.trunc(), &own.name);
    }
    let mut order: Vec<&ClusterNode> = peers.iter().map(AsRef::as_ref).filter(|peer| peer.name != own.name).collect();
    // One without a time has not been written by an API server; it comes last.
    order.sort_by(|a, b| (a.created.is_none(), a.created, &a.name).cmp(&(b.created.is_none(), b.created, &b.name)));
    let mut settled = Vec::with_capacity(order.len());
    for peer in order {
        for cidr in peer.pod_cidrs.iter().map(IpNet::trunc) {
            match ranges.take(cidr, &peer.name) {
                Ok(()) => settled.push((peer, cidr)),
                Err((_, owner)) if owner == peer.name => {}
                Err((taken, owner)) => {
                    problems.push(PeerProblem::Overlap { peer: Arc::clone(&peer.name), cidr, owner, taken });
                }
            }
        }
    }
    settled
}
