//! What the data path needs from time to time: a repair after a failed write, an audit of the
//! service tables, flows that have ended forgotten, and somebody who says what it had no room for.

mod faults;

use crate::api::TableView;
use crate::events::NODE;
use crate::node::Node;
use crate::pod::chain;
use faults::FaultWatch;
use k8s_openapi::api::core::v1::Node as ApiNode;
use orlop_datapath::{CollectReport, Datapath, Fault, TableUse, monotonic_s};
use orlop_ebpf_abi::MAPS;
use orlop_kernel::Netns;
use orlop_model::{EventKind, Protocol};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often flows that are over are forgotten: a full table of the default size is read in some 30 ms.
const FORGET_EVERY: Duration = Duration::from_secs(10);
/// How often the programs' faults are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Says which zone a node is in (KEP-2433).
const ZONE: &str = "topology.kubernetes.io/zone";
/// After a write failed the tables are repaired so much later, at first and at most: reading them
/// whole is dear.
const REPAIR_MIN: Duration = Duration::from_secs(1);
const REPAIR_MAX: Duration = Duration::from_secs(30);

/// Begins all of it, for ever.
pub(crate) fn begin(node: &Arc<Node>) {
    tokio::spawn(repair(Arc::clone(node)));
    tokio::spawn(bury(Arc::clone(node)));
    tokio::spawn(watch_faults(Arc::clone(node)));
    tokio::spawn(forget_flows(Arc::clone(node)));
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

/// Ends the connected UDP sockets whose backend answers no more: they would never hear of it.
async fn bury(node: Arc<Node>) {
    loop {
        let dead: Vec<SocketAddr> = node.services.died().await.into_iter().collect();
        let burying = Arc::clone(&node);
        let work = move || burying.datapath.destroy_sockets(Protocol::Udp, &dead, &namespaces(&burying));
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(0)) => {}
            Ok(Ok(sockets)) => tracing::info!(sockets, "UDP sockets of backends that are gone were ended"),
            Ok(Err(error)) => tracing::warn!(err = %chain(&error), "UDP sockets of backends that are gone stay"),
            Err(error) => tracing::error!(err = %error, "ending UDP sockets broke off"),
        }
    }
}

/// The network namespaces of the node and of its pods.
fn namespaces(node: &Node) -> Vec<Netns> {
    let pods = node.pods.snapshots().into_iter().filter(|pod| !pod.want.host_network);
    // A pod that is just ending has no sockets left.
    let of_pods = pods.filter_map(|pod| Netns::open(&node.config.pod_run(pod.want.uid.as_str()).join("ns/net")).ok());
    Netns::current().into_iter().chain(of_pods).collect()
}

/// Forgets the flows that are over: the programs only give their place to others when there is no
/// other.
async fn forget_flows(node: Arc<Node>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        let datapath = Arc::clone(&node.datapath);
        match tokio::task::spawn_blocking(move || datapath.collect_flows(monotonic_s())).await {
            Ok(Ok(CollectReport { seen, removed, snat_in_use, .. })) => {
                tracing::debug!(seen, removed, snat_in_use, "flows that are over were forgotten");
            }
            Ok(Err(error)) => tracing::warn!(err = %chain(&error), "flows that are over stay"),
            Err(error) => tracing::error!(err = %error, "forgetting flows broke off"),
        }
    }
}

/// Tells of what the programs had no room for.
async fn watch_faults(node: Arc<Node>) {
    let mut watch = FaultWatch::default();
    loop {
        let looking = Arc::clone(&node);
        let found = tokio::task::spawn_blocking(move || look_for_faults(watch, &looking)).await;
        match found {
            Ok(back) => watch = back,
            Err(error) => {
                tracing::error!(err = %error, "looking for faults broke off");
                watch = FaultWatch::default();
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn look_for_faults(mut watch: FaultWatch, node: &Node) -> FaultWatch {
    let counts = match node.datapath.faults() {
        Ok(counts) => counts,
        Err(error) => {
            tracing::warn!(err = %chain(&error), "faults are not counted");
            return watch;
        }
    };
    let news = watch.look(&counts, Instant::now());
    if !news.is_empty() {
        let tables = node.datapath.table_use().unwrap_or_default();
        let ports = node.config.services.snat_ports;
        let ports = format!("{}-{}", ports.first, ports.last);
        for (fault, times) in news {
            let (reason, message) = faults::words(fault, times, &tables, &ports);
            node.events.record(NODE, EventKind::Warning, reason, message);
        }
    }
    watch
}

/// That a map is full, and how it is given more room.
pub(crate) fn more_room(datapath: &Datapath, map: &str) -> String {
    faults::more_room(map, &datapath.table_use().unwrap_or_default())
}

/// All tables of the programs: how full they are, and what did not go in.
///
/// # Errors
/// A map that cannot be read.
pub(crate) fn table_views(datapath: &Datapath) -> Result<Vec<TableView>, orlop_datapath::Error> {
    let faults = datapath.faults()?;
    let failed = |map: &str| {
        let of_map = Fault::ALL.iter().filter(|(fault, name)| *name == map && *fault != Fault::SnatPorts);
        of_map.flat_map(|(fault, _)| faults.iter().filter(move |(one, _)| one == fault)).map(|(_, count)| count).sum()
    };
    let purpose = |map: &str| MAPS.iter().find(|spec| spec.name == map).map_or("", |spec| spec.purpose);
    let view = |table: TableUse| TableView {
        map: table.name.to_owned(),
        entries: table.entries,
        max_entries: table.max_entries,
        failed_inserts: failed(table.name),
        purpose: purpose(table.name).to_owned(),
    };
    Ok(datapath.table_use()?.into_iter().map(view).collect())
}
