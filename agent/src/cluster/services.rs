//! Services and EndpointSlices of the cluster, into the node's tables.

use crate::node::Node;
use crate::services::{ServiceEvent, SliceEvent};
use orlop_apiclient::{Client, ENDPOINT_SLICES, SERVICES, Selectors, WatchEvent, WatchHealth, WatchOptions, watch};
use orlop_lb::{LeanEndpointSlice, LeanService};
use orlop_model::EventKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as signal;

/// Slices that kube-proxy leaves out of its watch: another proxy's, and of headless Services.
const OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// How often a watch that is down is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Nodes may read Services, but EndpointSlices only as kube-proxy may.
pub(super) const GRANT: &str = "kubectl create clusterrolebinding orlop-node-proxier --clusterrole=system:node-proxier \
                     --group=system:nodes";

/// Follows both for ever; the maps are opened once both lists were whole. `known`
/// tells when Services were listed.
pub(super) async fn follow(node: Arc<Node>, client: Client, known: signal::Sender<bool>) {
    // Of Services all are asked for: pods' variables name also those of another proxy.
    let mut services = watch::<LeanService>(&client, SERVICES.everywhere(), WatchOptions::default());
    let options = WatchOptions::new(Selectors::labels(OURS));
    let mut slices = watch::<LeanEndpointSlice>(&client, ENDPOINT_SLICES.everywhere(), options);
    let (mut services_whole, mut slices_whole, mut open) = (false, false, false);
    loop {
        tokio::select! {
            Some(event) = services.next() => {
                services_whole |= matches!(event, WatchEvent::Done);
                known.send_if_modified(|known| std::mem::replace(known, services_whole) != services_whole);
                node.services.service_event(service_event(event), &node.events);
            }
            Some(event) = slices.next() => {
                slices_whole |= matches!(event, WatchEvent::Done);
                node.services.slice_event(slice_event(event), &node.events);
            }
            () = tokio::time::sleep(LOOK_AGAIN), if !open => {
                complain(&node, &[services.health(), slices.health()]);
                continue;
            }
            else => return,
        }
        if services_whole && slices_whole && !open {
            open = true;
            match node.services.open(&node.events) {
                Ok(changes) => {
                    tracing::info!(map_operations = changes, "the cluster's Services are in the tables");
                    // The lists and what was read of the maps.
                    let _ = tokio::task::spawn_blocking(orlop_kernel::trim_heap).await;
                }
                Err(error) => {
                    node.events.record("Node", EventKind::Warning, "ServiceMapReadFailed", crate::pod::chain(&error));
                    open = false;
                }
            }
        }
    }
}

/// Says what to do when the API server forbids to read what Services need.
fn complain(node: &Node, watches: &[WatchHealth]) {
    for error in watches.iter().filter_map(|watch| watch.state().last_error) {
        if error.contains("forbidden") {
            let message = format!("Services do not work on this node: {error}; allow it with: {GRANT}");
            node.events.record("Node", EventKind::Warning, "ServicesForbidden", message);
        }
    }
}

fn service_event(event: WatchEvent<LeanService>) -> ServiceEvent {
    match event {
        WatchEvent::Begin => ServiceEvent::Restarting,
        WatchEvent::Item(service) | WatchEvent::Applied(service) => ServiceEvent::Applied(service),
        WatchEvent::Done => ServiceEvent::Restarted,
        WatchEvent::Deleted(service) => ServiceEvent::Deleted(service.key),
    }
}

fn slice_event(event: WatchEvent<LeanEndpointSlice>) -> SliceEvent {
    match event {
        WatchEvent::Begin => SliceEvent::Restarting,
        WatchEvent::Item(slice) | WatchEvent::Applied(slice) => SliceEvent::Applied(slice),
        WatchEvent::Done => SliceEvent::Restarted,
        WatchEvent::Deleted(slice) => {
            SliceEvent::Deleted { namespace: slice.namespace().to_owned(), name: slice.name().to_owned() }
        }
    }
}
