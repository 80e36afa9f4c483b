//! Ranges of pod addresses that the control plane gives to the node.

use super::NODE_EVENTS;
use crate::node::Node;
use crate::pod::chain;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as ApiNode;
use orlop_cni::Ipam;
use orlop_model::EventKind;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where addresses' leases are kept.
pub(crate) fn leases_file(state_dir: &Path) -> PathBuf {
    state_dir.join("leases.json")
}

fn ranges_file(state_dir: &Path) -> PathBuf {
    state_dir.join("pod-cidrs.json")
}

/// The ranges that the Node had last: with them pods can be made while the API server
/// is away. Without such a file, or with a damaged one, there are none until it answers.
pub(crate) fn remembered(state_dir: &Path) -> Vec<IpNet> {
    let file = ranges_file(state_dir);
    let read = fs::read(&file).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
    read.unwrap_or_else(|error| {
        if error.kind() != ErrorKind::NotFound {
            tracing::warn!(file = %file.display(), %error, "the pod CIDRs of before are lost, waiting for the API server's");
        }
        Vec::new()
    })
}

fn remember(state_dir: &Path, ranges: &[IpNet]) -> io::Result<()> {
    let file = ranges_file(state_dir);
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(ranges)?)?;
    fs::rename(&new, &file)
}

impl Node {
    /// The ranges that pods get their addresses from.
    pub(crate) fn pod_ranges(&self) -> Vec<IpNet> {
        let ipam = self.ipam.lock().expect("no panic while addresses are held");
        ipam.pools().iter().map(orlop_cni::AddressPool::cidr).collect()
    }
}

/// Gives out addresses of the Node's ranges from now on, unless the agent was told its
/// own. Pods keep the addresses they have. Says whether the ranges are new.
pub(super) fn take(node: &Node, stored: &ApiNode) -> bool {
    let warn = |reason, message: String| node.events.record(NODE_EVENTS, EventKind::Warning, reason, message);
    if !node.config.pod_cidrs.is_empty() {
        return false;
    }
    let ranges = match orlop_node::pod_cidrs(stored) {
        Ok(ranges) => ranges,
        Err(error) => {
            warn("InvalidPodCIDR", chain(&error));
            return false;
        }
    };
    let had = node.pod_ranges();
    // One that was made again has none for a moment.
    if ranges.is_empty() || ranges == had {
        return false;
    }
    if let Err(message) = open(node, &ranges) {
        warn("PodCIDRNotUsed", message);
        return false;
    }
    let now = listed(&ranges);
    tracing::info!(pod_cidrs = now, "pods get addresses of the Node's podCIDRs");
    if !had.is_empty() {
        let had = listed(&had);
        warn("PodCIDRChanged", format!("podCIDRs were {had} and are {now}: pods that run keep their old addresses"));
    }
    if let Err(error) = remember(&node.config.state_dir, &ranges) {
        tracing::warn!(%error, "the pod CIDRs could not be saved: after a restart they have to be asked for");
    }
    // Sandboxes that waited for an address try again now.
    node.pods.objects_changed();
    true
}

/// Under the lock: a lease that is written meanwhile would be lost.
fn open(node: &Node, ranges: &[IpNet]) -> Result<(), String> {
    let mut ipam = node.ipam.lock().expect("no panic while addresses are held");
    *ipam = Ipam::open(&leases_file(&node.config.state_dir), ranges).map_err(|error| chain(&error))?;
    Ok(())
}

fn listed(ranges: &[IpNet]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_remembered_and_a_damaged_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(remembered(dir.path()).is_empty());
        let ranges: Vec<IpNet> = vec!["10.244.3.0/24".parse().unwrap(), "fd00:3::/64".parse().unwrap()];
        remember(dir.path(), &ranges).unwrap();
        assert_eq!(remembered(dir.path()), ranges);
        fs::write(ranges_file(dir.path()), "[\"10.2").unwrap();
        assert!(remembered(dir.path()).is_empty());
    }
}
