//! After a start of the agent: what is there of each pod becomes what is seen of it.
//!
//! A pod is found by its record. Its monitor, if it answers, says all about its
//! containers; its network is put right where it is not; nothing is restarted.

use super::record::PodRecord;
use super::registry::Found;
use super::sandbox::{self, Phases, Sandbox};
use crate::node::Node;
use anyhow::{Context, Result};
use jiff::Timestamp;
use orlop_model::{PodDesired, PodUid, VolumeDesired, VolumeSource};
use orlop_pod::{PodObserved, SandboxState, Step};
use orlop_runtime::Monitor;
use orlop_volume::Roots;
use orlop_wire::AttemptRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Finds all pods of an earlier agent and starts their workers.
pub(crate) async fn recover(node: &Arc<Node>) {
    sweep_files(node);
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
    let mut record = PodRecord::load(&node.config.record(uid.as_str()))?;
    let admitted =
        orlop_pod::admit(&record.pod, uid.clone(), &node.admit_context()).context("admit the recorded pod")?;
    let mut want = admitted.pod;
    want.deletion = record.deletion;
    let mut seen = PodObserved {
        accepted: record.accepted,
        sandbox: SandboxState::Pending(Step::Absent),
        volumes: Step::Absent,
        images: BTreeMap::new(),
        image_errors: BTreeMap::new(),
        containers: BTreeMap::new(),
        failed: record.failed.clone(),
        teardown: Step::Absent,
    };
    if record.finished {
        seen.containers = record.containers(&BTreeSet::new(), Timestamp::now());
        // One that was to be deleted after its end still has its logs and its record.
        seen.teardown = if record.deletion.is_some() { Step::Absent } else { Step::Ready };
        return Ok((record, want, Found { seen, sandbox: None, volumes: BTreeMap::new() }));
    }
    let sandbox = find_sandbox(node, &mut record, &want, &mut seen).await?;
    let volumes = volumes_of(node, &want, &seen);
    if volumes.is_some() {
        seen.volumes = Step::Ready;
    }
    Ok((record, want, Found { seen, sandbox, volumes: volumes.unwrap_or_default() }))
}

/// The sandbox and what is known of its containers: from the monitor, or from what
/// it wrote before it went.
async fn find_sandbox(
    node: &Arc<Node>,
    record: &mut PodRecord,
    want: &PodDesired,
    seen: &mut PodObserved,
) -> Result<Option<Sandbox>> {
    let dir = node.config.pod_run(want.uid.as_str());
    let (monitor, snapshot, events) = match Monitor::connect(&dir).await {
        Ok(found) => found,
        Err(error) => {
            written(&dir).iter().for_each(|attempt| record.note(attempt));
            seen.containers = record.containers(&BTreeSet::new(), Timestamp::now());
            if dir.exists() {
                tracing::warn!(pod = %want.key, err = %super::chain(&error), "the pod's monitor is gone");
                seen.sandbox = SandboxState::Broken { removal: Step::Absent };
            }
            return Ok(None);
        }
    };
    snapshot.containers.iter().for_each(|attempt| record.note(attempt));
    let present = snapshot.containers.iter().map(|attempt| attempt.id.clone()).collect();
    seen.containers = record.containers(&present, Timestamp::now());
    let ips = if want.host_network {
        node.config.node_ips.clone()
    } else {
        node.ipam.lock().expect("no panic while addresses are held").addresses(&want.uid)
    };
    if !want.host_network {
        let repaired = sandbox::connect(node, want, &ips, &mut Phases::begin()).await;
        repaired.map_err(|error| anyhow::anyhow!("{}", error.message)).context("repair its network")?;
    }
    // The agent before may have been killed between its monitor and these.
    let (node_too, want_too) = (Arc::clone(node), want.clone());
    let made = tokio::task::spawn_blocking(move || sandbox::folders(&node_too, &want_too)).await;
    made.context("make its folders")?.context("repair its folders")?;
    seen.sandbox = SandboxState::Ready { ips: ips.clone(), created: snapshot.created };
    Ok(Some(Sandbox::new(monitor, &snapshot, events, ips)))
}

/// What a monitor that is gone wrote of its containers.
fn written(dir: &Path) -> Vec<AttemptRecord> {
    let entries = fs::read_dir(dir.join("containers")).into_iter().flatten().flatten();
    let records = entries.filter_map(|entry| fs::read(entry.path().join("record.json")).ok());
    records.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect()
}

/// Volumes of a pod that has started a container are set up. What is in them is not
/// asked for: the API server may be away.
fn volumes_of(node: &Node, want: &PodDesired, seen: &PodObserved) -> Option<BTreeMap<String, std::path::PathBuf>> {
    if seen.containers.is_empty() || want.deletion.is_some() || !matches!(seen.sandbox, SandboxState::Ready { .. }) {
        return None;
    }
    let roots = Roots::new(&node.config.root_dir);
    let path = |volume: &VolumeDesired| match &volume.source {
        VolumeSource::HostPath { path, .. } => Some(path.clone()),
        source => roots.volume(&want.uid, &volume.name, source).filter(|path| path.is_dir()),
    };
    want.volumes.iter().map(|volume| Some((volume.name.clone(), path(volume)?))).collect()
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
        if let Err(error) = ipam.retain(live, Timestamp::now()) {
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

/// Takes away half-written records, and the writable layers of containers without a
/// bundle: those of before a boot, and one that a crash came upon while it was made.
/// Before the first worker, which makes the layer first and then the bundle.
fn sweep_files(node: &Node) {
    let names = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in names(&node.config.records()).filter(|path| path.extension().is_some_and(|ext| ext == "new")) {
        let _ = fs::remove_file(path);
    }
    let pods: Vec<_> = names(&node.config.run_dir.join("pods")).collect();
    for dir in names(&node.config.state_dir.join("containers")) {
        let Some(id) = dir.file_name() else { continue };
        if pods.iter().any(|pod| pod.join("bundles").join(id).exists()) {
            continue;
        }
        let removed = orlop_image::Rootfs::at(&dir).unmount_and_remove();
        if let Err(error) = removed.map_err(anyhow::Error::from).and_then(|()| Ok(fs::remove_dir(&dir)?)) {
            tracing::warn!(dir = %dir.display(), err = %format!("{error:#}"), "a container's layer is not removed");
        }
    }
}
