//! After a start of the agent: what is there of each pod becomes what is seen of it.
//!
//! A pod is found by its record. Its monitor, if it answers, says all about its
//! containers; its network is put right where it is not; nothing is restarted.

use super::record::{self, PodRecord};
use super::registry::Found;
use super::sandbox::{self, Phases, Sandbox};
use crate::node::Node;
use anyhow::{Context, Result};
use orlop_model::{PodDesired, PodUid};
use orlop_pod::{PodObserved, SandboxState, Step};
use orlop_runtime::Monitor;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Finds all pods of an earlier agent and starts their workers.
pub(crate) async fn recover(node: &Arc<Node>) {
    let mut found = JoinSet::new();
    for uid in recorded(node) {
        let node = Arc::clone(node);
        found.spawn(async move {
            let result = observe(&node, &uid).await;
            (uid, result)
        });
    }
    let mut live = BTreeSet::new();
    while let Some(done) = found.join_next().await {
        match done {
            Ok((uid, Ok((record, want, found)))) => {
                live.insert(uid);
                node.show_endpoint(&want, &found.seen);
                node.pods.adopt(node, record, want, found);
            }
            Ok((uid, Err(error))) => {
                // Left as it is: better an orphan that is named than a pod killed for a damaged file.
                live.insert(uid.clone());
                let message = format!("pod {uid} of an earlier run is left alone: {error:#}");
                node.events.record("Node", orlop_model::EventKind::Warning, "PodNotRecovered", message);
            }
            Err(error) => tracing::error!(%error, "observing a pod panicked"),
        }
    }
    sweep(node, &live).await;
}

/// Starts a worker for a pod again after the last one panicked.
pub(crate) async fn readopt(node: &Arc<Node>, uid: &PodUid) {
    match observe(node, uid).await {
        Ok((record, want, found)) => node.pods.adopt(node, record, want, found),
        Err(error) => tracing::error!(pod_uid = %uid, err = %format!("{error:#}"), "the pod is lost to this agent"),
    }
}

fn recorded(node: &Node) -> Vec<PodUid> {
    let entries = fs::read_dir(node.config.records()).into_iter().flatten().flatten();
    entries.filter_map(|entry| PodUid::new(entry.file_name().to_str()?.strip_suffix(".json")?).ok()).collect()
}

async fn observe(node: &Arc<Node>, uid: &PodUid) -> Result<(PodRecord, PodDesired, Found)> {
    let record = PodRecord::load(&node.config.record(uid.as_str()))?;
    let admitted =
        orlop_pod::admit(&record.pod, uid.clone(), &node.admit_context()).context("admit the recorded pod")?;
    let mut want = admitted.pod;
    want.deletion = record.deletion;
    let mut seen = PodObserved {
        accepted: record.accepted,
        sandbox: SandboxState::Pending(Step::Absent),
        volumes: Step::Absent,
        images: BTreeMap::new(),
        containers: BTreeMap::new(),
        failed: record.failed.clone(),
        teardown: Step::Absent,
    };
    for container in &want.containers {
        if node.image(&container.image).is_ok() {
            seen.images.insert(container.image.clone(), Step::Ready);
        }
    }
    if let Some(attempts) = &record.finished {
        seen.containers = record::containers(attempts, &record.probes);
        seen.teardown = Step::Ready;
        return Ok((record, want, Found { seen, sandbox: None, volumes: BTreeMap::new() }));
    }
    let dir = node.config.pod_run(uid.as_str());
    let mut sandbox = None;
    match Monitor::connect(&dir).await {
        Ok((monitor, snapshot, events)) => {
            seen.containers = record::containers(&snapshot.containers, &record.probes);
            let ips = if want.host_network {
                node.config.node_ips.clone()
            } else {
                node.ipam.lock().expect("no panic while addresses are held").addresses(uid)
            };
            let created = snapshot.created;
            let found = Sandbox::new(monitor, snapshot, events, ips.clone());
            if !want.host_network {
                let repaired = sandbox::connect(node, &want, &ips, &mut Phases::begin()).await;
                repaired.map_err(|error| anyhow::anyhow!("{}", error.message)).context("repair its network")?;
            }
            seen.sandbox = SandboxState::Ready { ips, created };
            sandbox = Some(found);
        }
        Err(error) if dir.exists() => {
            tracing::warn!(pod = %want.key, err = %super::chain(&error), "the pod's monitor is gone");
            seen.sandbox = SandboxState::Broken { removal: Step::Absent };
        }
        Err(_) => {}
    }
    let volumes = volumes_of(node, &want, &seen);
    if volumes.is_some() {
        seen.volumes = Step::Ready;
    }
    Ok((record, want, Found { seen, sandbox, volumes: volumes.unwrap_or_default() }))
}

/// Volumes of a pod that has started a container are set up: finding their paths
/// again changes nothing.
fn volumes_of(node: &Node, want: &PodDesired, seen: &PodObserved) -> Option<BTreeMap<String, std::path::PathBuf>> {
    if seen.containers.is_empty() || want.deletion.is_some() {
        return None;
    }
    node.set_up_volumes(want).ok()
}

/// Takes away what belongs to no pod: links, addresses, cgroups and folders of pods
/// whose record is gone.
async fn sweep(node: &Node, live: &BTreeSet<PodUid>) {
    let warn = |what: &str, error: &dyn std::fmt::Display| tracing::warn!(what, %error, "not swept");
    for link in node.network.list().await.unwrap_or_default() {
        if link.uid.as_ref().is_none_or(|uid| !live.contains(uid)) {
            if let Err(error) = node.datapath.detach_pod(link.index) {
                warn("programs", &error);
            }
            if let Err(error) = node.network.remove(&link).await {
                warn("link", &error);
            }
        }
    }
    {
        let mut ipam = node.ipam.lock().expect("no panic while addresses are held");
        if let Err(error) = ipam.retain(live, jiff::Timestamp::now()) {
            warn("addresses", &error);
        }
    }
    for (uid, class) in node.cgroups.list_pods().unwrap_or_default() {
        if !live.contains(&uid)
            && let Err(error) = node.cgroups.pod(&uid, class).remove(std::time::Duration::from_secs(5))
        {
            warn("cgroup", &error);
        }
    }
    let runs = fs::read_dir(node.config.run_dir.join("pods")).into_iter().flatten().flatten();
    for entry in runs {
        let known = entry.file_name().to_str().is_some_and(|name| live.iter().any(|uid| uid.as_str() == name));
        if !known && orlop_kernel::detach_below(&entry.path()).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
