//! The cluster's Nodes, for the ways to their pods.

use super::services::GRANT;
use crate::node::Node;
use orlop_apiclient::{Client, NODES, WatchOptions, watch};
use orlop_lb::LeanNode;
use orlop_model::EventKind;
use std::sync::Arc;
use std::time::Duration;

/// How often a watch that is down is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Follows all Nodes for ever. Each is kept as its name, addresses and ranges.
pub(super) async fn follow(node: Arc<Node>, client: Client) {
    let mut nodes = watch::<LeanNode>(&client, NODES.everywhere(), WatchOptions::default());
    loop {
        tokio::select! {
            event = nodes.next() => match event {
                Some(event) => node.nodes.take(event),
                None => return,
            },
            () = tokio::time::sleep(LOOK_AGAIN) => {
                // A node may read its own Node; all of them only as kube-proxy may.
                if let Some(error) = nodes.health().state().last_error.filter(|error| error.contains("forbidden")) {
                    let message = format!("pods of other nodes are not reached: {error}; allow it with: {GRANT}");
                    node.events.record("Node", EventKind::Warning, "NodesForbidden", message);
                }
            }
        }
    }
}
