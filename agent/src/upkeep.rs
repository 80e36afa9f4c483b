//! What the data path needs from time to time: a repair after a failed write, an audit of the
//! service tables, flows that have ended forgotten, and somebody who says what it had no room for.

use crate::events::NODE;
use crate::node::Node;
use crate::pod::chain;
use k8s_openapi::api::core::v1::Node as ApiNode;
use orlop_datapath::Datapath;
use orlop_ebpf_abi::MAPS;
use orlop_model::EventKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Says which zone a node is in (KEP-2433).
const ZONE: &str = "topology.kubernetes.io/zone";
/// After a write failed the tables are repaired so much later, at first and at most: reading them
/// whole is dear.
const REPAIR_MIN: Duration = Duration::from_secs(1);
const REPAIR_MAX: Duration = Duration::from_secs(30);

/// Begins all of it, for ever.
pub(crate) fn begin(node: &Arc<Node>) {
    tokio::spawn(repair(Arc::clone(node)));
    if let Some(cluster) = &node.cluster {
        tokio::spawn(follow_zone(Arc::clone(node), cluster.registered.subscribe()));
    }
    if let Some(interval) = node.config.services.audit_interval {
        tokio::spawn(audit(Arc::clone(node), interval));
    }
}

/// Repairs the service tables after a failed write, until it holds.
async fn repair(node: Arc<Node>) {
    loop {
        node.services.some_failed().await;
        let mut wait = REPAIR_MIN;
        loop {
            tokio::time::sleep(wait).await;
            let repairing = Arc::clone(&node);
            let work = move || repairing.services.repair(&repairing.events);
            if tokio::task::spawn_blocking(work).await.unwrap_or(false) {
                break;
            }
            wait = (wait * 2).min(REPAIR_MAX);
        }
    }
}

/// Endpoints that are meant for other zones are left alone, as the Node's label says.
async fn follow_zone(node: Arc<Node>, mut registered: watch::Receiver<Option<Arc<ApiNode>>>) {
    loop {
        let held = registered.borrow_and_update().clone();
        let labels = held.as_ref().and_then(|held| held.metadata.labels.as_ref());
        let zone = labels.and_then(|labels| labels.get(ZONE)).map(String::as_str);
        node.services.set_zone(zone, &node.events);
        if registered.changed().await.is_err() {
            return;
        }
    }
}

/// Compares the service tables with what they should be.
async fn audit(node: Arc<Node>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let auditing = Arc::clone(&node);
        let found = tokio::task::spawn_blocking(move || auditing.services.audit(&auditing.events)).await;
        match found {
            Ok(Ok(Some(report))) => {
                tracing::debug!(seen = report.seen, wrong = report.wrong, missing = report.missing, "tables audited");
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                node.events.record(NODE, EventKind::Warning, "ServiceMapReadFailed", chain(&error));
            }
            Err(error) => tracing::error!(err = %error, "the audit of the service tables broke off"),
        }
    }
}

/// That a map is full, and how it is given more room.
pub(crate) fn more_room(datapath: &Datapath, map: &str) -> String {
    let _ = datapath;
    let entries = MAPS.iter().find(|spec| spec.name == map).map_or(0, |spec| spec.entries);
    format!(
        "the eBPF map {map} is full with {entries} entries: give it more with `mapEntries: {{{map}: {}}}` in \
         OrlopConfiguration, which counts when the map is made anew, after a reboot or `orlop reset`",
        entries.saturating_mul(2)
    )
}
