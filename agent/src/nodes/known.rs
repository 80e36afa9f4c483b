//! The Nodes that the API server has, as little of each as is needed. Pure.

use crate::node::Node;
use orlop_apiclient::WatchEvent;
use orlop_cni::ClusterNode;
use orlop_lb::LeanNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All nodes but this one.
type Peers = Arc<[Arc<ClusterNode>]>;

/// Nodes by name.
#[derive(Debug, Default)]
pub(super) struct Known {
    nodes: BTreeMap<Arc<str>, Arc<ClusterNode>>,
    /// Names of the list under way.
    listing: Option<BTreeSet<Arc<str>>>,
    /// A list was whole.
    listed: bool,
}

/// Some 200 bytes a node: of the object only this is kept.
fn keep(node: LeanNode) -> ClusterNode {
    let of_kind = |internal: bool| -> Vec<_> {
        node.addresses.iter().filter(|address| address.internal == internal).map(|address| address.ip).collect()
    };
    let internal = of_kind(true);
    ClusterNode {
        name: (&*node.name).into(),
        created: node.created,
        // As kube-proxy: without an InternalIP the ExternalIP is all there is.
        addresses: if internal.is_empty() { of_kind(false) } else { internal },
        pod_cidrs: node.pod_cidrs.into_vec(),
    }
}

impl Known {
    /// Takes an event of the watch; whether anything is different now. A list removes
    /// what it has not, once it is whole.
    pub fn take(&mut self, event: WatchEvent<LeanNode>) -> bool {
        match event {
            WatchEvent::Begin => {
                self.listing = Some(BTreeSet::new());
                false
            }
            WatchEvent::Item(node) | WatchEvent::Applied(node) => self.put(keep(node)) && self.listed,
            WatchEvent::Done => {
                let listed = self.listing.take().unwrap_or_default();
                let before = self.nodes.len();
                self.nodes.retain(|name, _| listed.contains(name));
                !std::mem::replace(&mut self.listed, true) || self.nodes.len() != before
            }
            WatchEvent::Deleted(node) => {
                if let Some(listing) = &mut self.listing {
                    listing.remove(&*node.name);
                }
                self.nodes.remove(&*node.name).is_some() && self.listed
            }
        }
    }

    fn put(&mut self, node: ClusterNode) -> bool {
        if let Some(listing) = &mut self.listing {
            listing.insert(Arc::clone(&node.name));
        }
        // Heartbeats and conditions change nothing here.
        if self.nodes.get(&node.name).is_some_and(|before| **before == node) {
            return false;
        }
        self.nodes.insert(Arc::clone(&node.name), Arc::new(node));
        true
    }

    /// This node as its peers see it, and all others; `None` while it is not known who they are.
    pub fn all(&self, node: &Node) -> (Arc<ClusterNode>, Option<Peers>) {
        let config = &node.config;
        let shown = self.nodes.get(&*config.node_name);
        let or = |shown: Option<&Arc<ClusterNode>>| shown.map(|own| own.pod_cidrs.clone()).unwrap_or_default();
        let pod_cidrs = match (config.pod_cidrs.is_empty(), or(shown)) {
            // Pods get their addresses from these, whatever the Node says; before it says anything, from those of before.
            (false, _) => config.pod_cidrs.clone(),
            (true, ranges) if ranges.is_empty() => node.pod_ranges(),
            (true, ranges) => ranges,
        };
        let addresses = shown.map(|own| own.addresses.clone()).filter(|ips| !ips.is_empty());
        let own = ClusterNode {
            name: config.node_name.as_str().into(),
            created: shown.and_then(|own| own.created),
            addresses: addresses.unwrap_or_else(|| config.node_ips.clone()),
            pod_cidrs,
        };
        let others = || self.nodes.values().filter(|other| *other.name != *config.node_name).cloned().collect();
        let known = node.cluster.is_none() || self.listed;
        (Arc::new(own), known.then(others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, ip: &str) -> LeanNode {
        let addresses = json!([{"type": "InternalIP", "address": ip}]);
        let object = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
        serde_json::from_value(object).unwrap()
    }

    #[track_caller]
    fn check(known: &mut Known, events: Vec<(WatchEvent<LeanNode>, bool)>, names: &[&str]) {
        for (event, changed) in events {
            let shown = format!("{event:?}");
            assert_eq!(known.take(event), changed, "{shown}");
        }
        assert_eq!(known.nodes.keys().map(|name| &**name).collect::<Vec<_>>(), names);
    }

    #[test]
    fn a_list_removes_what_it_has_not_once_it_is_whole() {
        let mut known = Known::default();
        let (a, b) = (|| node("a", "192.0.2.1"), || node("b", "192.0.2.2"));
        check(&mut known, vec![(WatchEvent::Begin, false), (WatchEvent::Item(a()), false)], &["a"]);
        check(&mut known, vec![(WatchEvent::Done, true)], &["a"]);
        check(&mut known, vec![(WatchEvent::Applied(a()), false), (WatchEvent::Applied(b()), true)], &["a", "b"]);
        check(&mut known, vec![(WatchEvent::Applied(node("a", "192.0.2.9")), true)], &["a", "b"]);
        check(&mut known, vec![(WatchEvent::Begin, false), (WatchEvent::Item(b()), false)], &["a", "b"]);
        check(&mut known, vec![(WatchEvent::Done, true)], &["b"]);
        check(&mut known, vec![(WatchEvent::Begin, false), (WatchEvent::Item(b()), false)], &["b"]);
        check(&mut known, vec![(WatchEvent::Done, false)], &["b"]);
        check(&mut known, vec![(WatchEvent::Deleted(b()), true), (WatchEvent::Deleted(b()), false)], &[]);
        // One that goes while the list is under way is gone.
        check(&mut known, vec![(WatchEvent::Begin, false), (WatchEvent::Item(a()), true)], &["a"]);
        check(&mut known, vec![(WatchEvent::Deleted(a()), true), (WatchEvent::Done, false)], &[]);
    }

    #[test]
    fn internal_addresses_or_else_external_ones() {
        let of = |kinds: &[&str]| {
            let addresses: Vec<_> =
                (1..).zip(kinds).map(|(n, kind)| json!({"type": kind, "address": format!("192.0.2.{n}")})).collect();
            let object = json!({"metadata": {"name": "a"}, "status": {"addresses": addresses}});
            let kept = keep(serde_json::from_value(object).unwrap());
            kept.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&["ExternalIP", "InternalIP", "Hostname", "InternalIP"]), "192.0.2.2 192.0.2.4");
        assert_eq!(of(&["ExternalIP", "Hostname"]), "192.0.2.1");
    }
}
