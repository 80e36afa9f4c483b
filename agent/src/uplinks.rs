//! Devices that carry a node address: NodePorts are served there.

use crate::node::Node;
use anyhow::Result;
use orlop_cni::LinkNames;
use orlop_kernel::{LinkEvent, LinkEvents, Netlink, Netns};
use orlop_model::{EventKind, Ifindex};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// After the kernel could not be listened to, it is tried again after so long.
const RETRY: Duration = Duration::from_secs(5);
/// Events come in bursts: a device, its state, its addresses.
const SETTLE: Duration = Duration::from_millis(100);

/// Devices that the programs are attached to.
#[derive(Debug, Default)]
pub(crate) struct Uplinks(BTreeSet<Ifindex>);

impl Uplinks {
    /// Attaches to every device that has a node address now and lets go of those
    /// that have none any more.
    pub fn attach(&mut self, node: &Node) {
        if let Err(error) = self.try_attach(node) {
            node.events.record("Node", EventKind::Warning, "UplinkNotAttached", format!("{error:#}"));
        }
    }

    fn try_attach(&mut self, node: &Node) -> Result<()> {
        let mut netlink = Netlink::open()?;
        let mut wanted = BTreeSet::new();
        for ip in &node.config.node_ips {
            match netlink.link_with_address(*ip)? {
                Some(link) => {
                    wanted.insert(link.index);
                }
                None => {
                    let message = format!("no interface has the node address {ip}: NodePorts do not work from outside");
                    node.events.record("Node", EventKind::Warning, "NodeAddressMissing", message);
                }
            }
        }
        for device in wanted.difference(&self.0.clone()) {
            node.datapath.attach_uplink(*device)?;
            self.0.insert(*device);
        }
        for device in self.0.clone().difference(&wanted) {
            node.datapath.detach_uplink(*device)?;
            self.0.remove(device);
        }
        Ok(())
    }

    /// Follows devices and addresses for ever.
    pub async fn follow(mut self, node: Arc<Node>) {
        loop {
            let events = Netns::current().and_then(|netns| LinkEvents::open(&netns));
            self.attach(&node);
            match events {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        if self.concerns(&event) {
                            tokio::time::sleep(SETTLE).await;
                            self.attach(&node);
                        }
                    }
                }
                Err(error) => tracing::warn!(err = %crate::pod::chain(&error), "devices are not followed"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Pods' own devices come and go all the time and never carry a node address.
    fn concerns(&self, event: &LinkEvent) -> bool {
        match event {
            LinkEvent::Changed(link) => !LinkNames::is_host_side(&link.name) && !self.0.contains(&link.index),
            LinkEvent::Gone(device) => self.0.contains(device),
            LinkEvent::Addresses(_) | LinkEvent::Lost => true,
        }
    }
}
