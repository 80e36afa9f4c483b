//! A pod's sandbox: cgroup, address, monitor with its namespaces, network. Made in
//! that order, taken down in the other.

use super::facts::{StepError, chain};
use super::stray;
use crate::node::Node;
use jiff::Timestamp;
use orlop_cni::{AttachRequest, Attached};
use orlop_datapath::PodAttachment;
use orlop_kernel::Netns;
use orlop_model::{HostnameTooLong, PodDesired};
use orlop_runtime::{Monitor, MonitorEvent};
use orlop_volume::Roots;
use orlop_wire::{SandboxConfig, Snapshot};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a killed process may take to go before tear-down is tried again.
const REAP_WITHIN: Duration = Duration::from_secs(10);
/// Size of a pod's shared memory, as containerd gives.
const SHM_BYTES: u64 = 64 << 20;
/// MTU of pods' links, in bytes.
const MTU: u32 = 1500;

/// A standing sandbox.
pub(crate) struct Sandbox {
    /// The monitor.
    pub monitor: Monitor,
    /// What it says; `None` once it is gone.
    pub events: Option<mpsc::Receiver<MonitorEvent>>,
    /// Addresses, primary first.
    pub ips: Vec<IpAddr>,
    /// When it was made.
    pub created: Timestamp,
    /// How long each phase took, in microseconds.
    pub phases: Vec<(String, u64)>,
}

impl Sandbox {
    /// From a monitor that was just started or found.
    pub fn new(monitor: Monitor, snapshot: &Snapshot, events: mpsc::Receiver<MonitorEvent>, ips: Vec<IpAddr>) -> Self {
        Self { monitor, events: Some(events), ips, created: snapshot.created, phases: Vec::new() }
    }
}

/// Measures phases of a start.
#[derive(Default)]
pub(crate) struct Phases {
    list: Vec<(String, u64)>,
    since: Option<Instant>,
}

impl Phases {
    /// Starts measuring.
    pub fn begin() -> Self {
        Self { list: Vec::new(), since: Some(Instant::now()) }
    }
    /// Ends the phase that ran until now.
    pub fn end(&mut self, name: &str) {
        let now = Instant::now();
        let took = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.list.push((name.to_owned(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX)));
        self.since = Some(now);
    }
    /// All phases.
    pub fn take(self) -> Vec<(String, u64)> {
        self.list
    }
}

/// Makes the sandbox.
///
/// # Errors
/// What failed, with the reason `CreatePodSandboxError` or the like. What was made
/// is found and used by the next try.
pub(crate) async fn create(node: &Arc<Node>, want: &PodDesired) -> Result<Sandbox, StepError> {
    let failed = |error: &dyn std::error::Error| StepError::new("CreatePodSandboxError", error);
    let config = sandbox_config(node, want).map_err(|e| failed(&e))?;
    if !want.host_network {
        // As containerd: nothing is made for a pod whose limits nobody could keep.
        orlop_pod::bandwidth(&want.annotations).map_err(|e| failed(&e))?;
    }
    let mut phases = Phases::begin();
    let ips = addresses(node, want)?;
    phases.end("address");
    let dir = node.config.pod_run(want.uid.as_str());
    if dir.join("monitor.sock").exists() {
        // Of an agent that was killed just after it had started it.
        stray::end(node, &dir).await;
    }
    // The monitor makes its namespaces meanwhile.
    let (node_too, want_too) = (Arc::clone(node), want.clone());
    let making = tokio::task::spawn_blocking(move || folders(&node_too, &want_too));
    let started = Monitor::start(&node.config.monitor, &config).await;
    phases.end("monitor");
    let made = making.await.map_err(|e| failed(&e)).and_then(|made| made.map_err(|e| failed(&*e)));
    phases.end("cgroup");
    let (monitor, snapshot, events) = started.map_err(|e| failed(&e))?;
    if let Err(error) = made {
        end_failed(want, &monitor).await;
        return Err(error);
    }
    let mut sandbox = Sandbox::new(monitor, &snapshot, events, ips);
    if !want.host_network
        && let Err(error) = connect(node, want, &sandbox.ips, &mut phases).await
    {
        end_failed(want, &sandbox.monitor).await;
        return Err(error);
    }
    sandbox.phases = phases.take();
    Ok(sandbox)
}

/// Without its network or its cgroup a sandbox is worth nothing: the next try makes all anew.
async fn end_failed(want: &PodDesired, monitor: &Monitor) {
    if let Err(error) = monitor.shutdown().await {
        tracing::warn!(pod = %want.key, err = %chain(&error), "monitor of a failed sandbox not ended");
    }
}

/// Cgroup, log folder and shared memory. Again is fine.
pub(crate) fn folders(node: &Node, want: &PodDesired) -> anyhow::Result<()> {
    node.cgroups.make_pod(&want.uid, want.qos, &want.resources, node.config.kubelet.pod_pids_limit)?;
    fs::create_dir_all(node.log_dir(want))?;
    if !want.host_ipc {
        shared_memory(&node.config.pod_run(want.uid.as_str()).join("shm"))?;
    }
    Ok(())
}

/// `/dev/shm` of all the pod's containers.
fn shared_memory(path: &Path) -> anyhow::Result<()> {
    if orlop_kernel::mounts_below(path)?.is_empty() {
        fs::create_dir_all(path)?;
        orlop_kernel::mount_tmpfs(path, Some(SHM_BYTES), 0o1777)?;
    }
    Ok(())
}

fn addresses(node: &Node, want: &PodDesired) -> Result<Vec<IpAddr>, StepError> {
    if want.host_network {
        return Ok(node.config.node_ips.clone());
    }
    let mut ipam = node.ipam.lock().expect("no panic while addresses are held");
    ipam.allocate(&want.uid, Timestamp::now()).map_err(|error| StepError::new("FailedCreatePodSandBox", &error))
}

fn sandbox_config(node: &Node, want: &PodDesired) -> Result<SandboxConfig, HostnameTooLong> {
    Ok(SandboxConfig {
        uid: want.uid.clone(),
        dir: node.config.pod_run(want.uid.as_str()),
        hostname: want.kernel_hostname()?,
        host_network: want.host_network,
        host_ipc: want.host_ipc,
        share_process_namespace: want.share_process_namespace,
        sysctls: want.security.sysctls.clone(),
        own_cgroup_procs: node.monitor_procs.clone(),
    })
}

/// Puts the pod on the wire and its programs on the veth. Again is fine.
pub(crate) async fn connect(
    node: &Node,
    want: &PodDesired,
    ips: &[IpAddr],
    phases: &mut Phases,
) -> Result<Attached, StepError> {
    let failed = |error: &dyn std::error::Error| StepError::new("NetworkNotReady", error);
    let pin = node.config.pod_run(want.uid.as_str()).join("ns/net");
    let netns = Netns::open(&pin).map_err(|e| failed(&e))?;
    let cookie = netns.cookie().map_err(|e| failed(&e))?;
    let request = AttachRequest { uid: want.uid.clone(), netns, addresses: ips.to_vec(), mtu: MTU };
    let attached = node.network.attach(&request).await.map_err(|e| failed(&e))?;
    phases.end("network");
    let (pod_mac, host_mac) = (attached.pod_mac.0, attached.host_mac.0);
    let attachment = PodAttachment { ips: ips.to_vec(), pod_mac, host_mac, netns: cookie };
    node.datapath.attach_pod(attached.host, &attachment).map_err(|e| failed(&e))?;
    // `create` has judged them; a pod whose annotation was spoiled since goes on without limits.
    let limits = orlop_pod::bandwidth(&want.annotations).unwrap_or_default();
    let limited = node.datapath.set_bandwidth(attached.host, limits.egress_bits, limits.ingress_bits);
    limited.map_err(|e| failed(&e))?;
    phases.end("programs");
    Ok(attached)
}

/// Removes what is left of a sandbox whose monitor is gone.
///
/// # Errors
/// Something could not be removed; it is tried again.
pub(crate) async fn remove(node: &Arc<Node>, want: &PodDesired, sandbox: Option<Sandbox>) -> Result<(), StepError> {
    let errors = end(node, want, sandbox).await;
    on_blocking_thread(node, want, errors, remove_files).await
}

/// Takes the whole pod down; of one that is to be deleted nothing is left after.
///
/// # Errors
/// All that could not be removed; it is tried again.
pub(crate) async fn tear_down(node: &Arc<Node>, want: &PodDesired, sandbox: Option<Sandbox>) -> Result<(), StepError> {
    let errors = end(node, want, sandbox).await;
    on_blocking_thread(node, want, errors, |node, want, errors| {
        remove_files(node, want, errors);
        if let Err(error) = orlop_volume::tear_down(&want.uid, &Roots::new(&node.config.root_dir)) {
            errors.push(chain(&error));
        }
        let mut ipam = node.ipam.lock().expect("no panic while addresses are held");
        if let Err(error) = ipam.release(&want.uid, Timestamp::now()) {
            errors.push(chain(&error));
        }
        drop(ipam);
        if want.deletion.is_some() && errors.is_empty() {
            let (logs, record) = (node.log_dir(want), node.config.record(want.uid.as_str()));
            forget_not_found(fs::remove_dir_all(&logs), &logs, errors);
            // Last: as long as it is there, a restart finds the pod.
            forget_not_found(fs::remove_file(&record), &record, errors);
        }
    })
    .await
}

/// Takes the pod off the wire, then ends the monitor and removes the link, both at
/// once: each has to wait for the kernel.
async fn end(node: &Node, want: &PodDesired, sandbox: Option<Sandbox>) -> Vec<String> {
    let mut errors = Vec::new();
    disconnect(node, want, &mut errors).await;
    let shutdown = async {
        if let Some(sandbox) = sandbox {
            match sandbox.monitor.shutdown().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(pod = %want.key, err = %chain(&error), "monitor did not end by itself");
                }
            }
        }
        // What it leaves is killed by cgroup and unmounted by path.
        stray::end(node, &node.config.pod_run(want.uid.as_str())).await;
    };
    let remove_link = async {
        if !want.host_network
            && let Err(error) = node.network.detach(&want.uid).await
        {
            errors.push(chain(&error));
        }
    };
    tokio::join!(shutdown, remove_link);
    errors
}

async fn on_blocking_thread(
    node: &Arc<Node>,
    want: &PodDesired,
    mut errors: Vec<String>,
    work: fn(&Node, &PodDesired, &mut Vec<String>),
) -> Result<(), StepError> {
    let (node, want) = (Arc::clone(node), want.clone());
    let done = tokio::task::spawn_blocking(move || {
        work(&node, &want, &mut errors);
        errors
    });
    let errors = done.await.unwrap_or_else(|error| vec![error.to_string()]);
    if errors.is_empty() { Ok(()) } else { Err(StepError::text("FailedKillPod", errors.join("; "))) }
}

fn remove_files(node: &Node, want: &PodDesired, errors: &mut Vec<String>) {
    if let Err(error) = node.cgroups.pod(&want.uid, want.qos).remove(REAP_WITHIN) {
        errors.push(chain(&error));
    }
    super::container::remove_all(node, want, errors);
    remove_run_dir(node, want, errors);
}

/// Takes programs, addresses and counters off the pod's link. While its monitor lives:
/// with the monitor's namespace the link goes, and with the link the number that they
/// are known by.
async fn disconnect(node: &Node, want: &PodDesired, errors: &mut Vec<String>) {
    if want.host_network {
        return;
    }
    let links = node.network.list().await.unwrap_or_default();
    if let Some(link) = links.iter().find(|link| link.uid.as_ref() == Some(&want.uid)) {
        let detached = node.datapath.detach_pod(link.index);
        let forgotten = node.datapath.forget_pod_counters(link.index);
        errors.extend([detached, forgotten].iter().filter_map(|result| result.as_ref().err().map(|e| chain(e))));
    }
}

fn remove_run_dir(node: &Node, want: &PodDesired, errors: &mut Vec<String>) {
    let dir = node.config.pod_run(want.uid.as_str());
    match orlop_kernel::detach_below(&dir) {
        Ok(_) => forget_not_found(fs::remove_dir_all(&dir), &dir, errors),
        // Removing below a mount would remove what is mounted.
        Err(error) => errors.push(chain(&error)),
    }
}

pub(super) fn forget_not_found(result: io::Result<()>, path: &Path, errors: &mut Vec<String>) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            errors.push(format!("remove {}: {error}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
}

/// Where a container's writable layer and bundle are.
pub(crate) fn container_dir(node: &Node, id: &str) -> PathBuf {
    node.config.state_dir.join("containers").join(id)
}
