//! Starts one attempt at a container: environment, root filesystem, mounts, OCI
//! bundle, and the word to the monitor.

use super::facts::{StepError, chain};
use super::record::AttemptNote;
use super::sandbox::Phases;
use super::source::Origin;
use crate::node::{Node, PodObjects};
use jiff::Timestamp;
use oci_spec::runtime::Spec;
use orlop_image::{ImageRecord, Reference, RootAccess, Rootfs};
use orlop_model::{
    ContainerDesired, ContainerId, EventKind, MountPropagation, PodDesired, SeccompProfile, TerminationMessagePolicy,
};
use orlop_pod::env::{self, EnvContext, EnvError, ResolvedEnv};
use orlop_pod::{Backoff, ObservedUser};
use orlop_runtime::{
    Databases, ImageRun, Monitor, Mount, NamespacePaths, SpecInput, build_spec, check_non_root, host_devices,
    localhost_seccomp, oom_score_adj, resolve_user,
};
use orlop_volume::Roots;
use orlop_wire::{AttemptRecord, CreateContainer, LogTarget};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// All that a start needs.
pub(crate) struct StartRequest {
    /// The pod.
    pub pod: PodDesired,
    /// The container.
    pub container: ContainerDesired,
    /// Number of the attempt.
    pub attempt: u32,
    /// To record with it.
    pub backoff: Option<Backoff>,
    /// Its image.
    pub image: ImageRecord,
    /// Volumes on the node.
    pub volumes: BTreeMap<String, PathBuf>,
    /// The pod's monitor.
    pub monitor: Monitor,
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// Earlier attempts whose files may go.
    pub outdated: Vec<ContainerId>,
    /// Who wants the pod.
    pub origin: Origin,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Started {
    /// As the monitor has it: running, or why not.
    pub record: AttemptRecord,
    /// How long each phase took, in microseconds.
    pub phases: Vec<(String, u64)>,
}

/// What was prepared for an attempt.
struct Prepared {
    id: ContainerId,
    bundle: PathBuf,
    termination_log: PathBuf,
    user: ObservedUser,
}

/// Starts the attempt.
///
/// # Errors
/// What kept the agent from asking for it: `CreateContainerConfigError` when the
/// pod or its objects are at fault, `CreateContainerError` otherwise.
pub(crate) async fn start(node: &Arc<Node>, request: StartRequest) -> Result<Started, StepError> {
    let request = Arc::new(request);
    let mut phases = Phases::begin();
    let objects = node.objects_of(&request.pod, &request.origin).await;
    let objects = objects.map_err(|error| StepError::text("CreateContainerConfigError", error.message))?;
    node.services_known(&request.origin).await?;
    let (shared, node_too) = (Arc::clone(&request), Arc::clone(node));
    let prepared = tokio::task::spawn_blocking(move || prepare(&node_too, &shared, &objects)).await;
    let prepared = prepared.map_err(|error| StepError::new("CreateContainerError", &error))??;
    phases.end("rootfs");
    let (pod, container) = (&request.pod, &request.container);
    let cgroup = node.cgroups.pod(&pod.uid, pod.qos);
    let extra = cgroup.container_procs(&prepared.id).map_err(|e| StepError::new("CreateContainerError", &e))?;
    let note = AttemptNote { image_id: Some(image_id(&request)), backoff: request.backoff, user: Some(prepared.user) };
    let create = CreateContainer {
        id: prepared.id.clone(),
        name: container.name.clone(),
        attempt: request.attempt,
        bundle: prepared.bundle,
        extra_cgroup_procs: extra,
        oom_score_adj: Some(oom_score_adj(pod.qos, container.resources.memory_request, node.facts.memory_bytes)),
        log: LogTarget {
            path: node.log_dir(pod).join(container.name.as_str()).join(format!("{}.log", request.attempt)),
            max_bytes: node.config.log_max_bytes,
            max_files: node.config.log_max_files,
        },
        stdin: container.stdin,
        termination_message: Some(prepared.termination_log),
        message_from_log: container.termination_message_policy == TerminationMessagePolicy::FallbackToLogsOnError,
        meta: serde_json::to_value(&note).unwrap_or_default(),
    };
    let record = match request.monitor.create(create).await {
        Ok(record) => record,
        Err(error) => {
            remove_one(node, &request.pod, &prepared.id, &mut Vec::new());
            return Err(StepError::new("CreateContainerError", &error));
        }
    };
    phases.end("create");
    for old in &request.outdated {
        forget(node, &request, old).await;
    }
    Ok(Started { record, phases: phases.take() })
}

/// `imageID` of the container's status.
fn image_id(request: &StartRequest) -> String {
    match Reference::try_from(&request.container.image) {
        Ok(asked) => request.image.image_id(&asked),
        // It was asked for by its bare id.
        Err(_) => request.image.id.to_string(),
    }
}

/// An attempt before the last one: its record goes, and its files.
async fn forget(node: &Node, request: &StartRequest, id: &ContainerId) {
    let mut errors = Vec::new();
    if let Err(error) = request.monitor.remove(id).await {
        errors.push(chain(&error));
    }
    remove_one(node, &request.pod, id, &mut errors);
    let cgroup = node.cgroups.pod(&request.pod.uid, request.pod.qos);
    if let Err(error) = cgroup.remove_container(id, Duration::from_secs(1)) {
        errors.push(chain(&error));
    }
    if !errors.is_empty() {
        tracing::warn!(pod = %request.pod.key, container = %id, err = errors.join("; "), "old attempt not removed");
    }
}

fn prepare(node: &Node, request: &StartRequest, objects: &PodObjects) -> Result<Prepared, StepError> {
    let config_error = |error: &dyn std::error::Error| StepError::new("CreateContainerConfigError", error);
    let create_error = |error: &dyn std::error::Error| StepError::new("CreateContainerError", error);
    let (pod, container) = (&request.pod, &request.container);
    check_non_root(&request.image.config.user, pod, container).map_err(|e| config_error(&e))?;
    let resolved = environment(node, request, objects).map_err(|e| config_error(&e))?;
    for warning in &resolved.warnings {
        node.pod_event(pod, EventKind::Warning, "InvalidEnvironmentVariableNames", warning.clone());
    }
    let id = attempt_id(pod, container, request.attempt);
    let roots = Roots::new(&node.config.root_dir);
    let termination_log = orlop_volume::make_termination_log(&pod.uid, &container.name, request.attempt, &roots)
        .map_err(|e| create_error(&e))?;
    // With what the variables make of `subPathExpr`.
    let mounting = ContainerDesired { mounts: resolved.mounts.clone(), ..container.clone() };
    let mounts = mounts(node, request, &mounting, &roots, &termination_log)?;
    let rootfs = Rootfs::at(super::sandbox::container_dir(node, id.as_str()));
    // Writable even for a read-only root: the spec makes it read-only once the
    // mount points have been made.
    let root = rootfs.mount(&node.images, &request.image, RootAccess::ReadWrite).map_err(|e| create_error(&e))?;
    let made = spec(node, request, &resolved, &mounts, &root, &id).and_then(|(spec, user)| {
        let bundle = node.config.pod_run(pod.uid.as_str()).join("bundles").join(id.as_str());
        write_bundle(&bundle, &spec).map_err(|e| create_error(&e))?;
        Ok((bundle, user))
    });
    match made {
        Ok((bundle, user)) => Ok(Prepared { id, bundle, termination_log, user }),
        Err(error) => {
            remove_one(node, pod, &id, &mut Vec::new());
            Err(error)
        }
    }
}

fn environment(node: &Node, request: &StartRequest, objects: &PodObjects) -> Result<ResolvedEnv, EnvError> {
    let services = node.service_links(&request.pod);
    let cx = EnvContext {
        objects,
        pod_ips: &request.ips,
        host_ips: &node.config.node_ips,
        image_env: &request.image.config.env,
        allocatable: node.allocatable(),
        services: &services,
    };
    env::resolve(&request.container, &request.pod, &cx)
}

/// Volumes as the container wants them, then the files every pod has, each unless a
/// volume is mounted there.
fn mounts(
    node: &Node,
    request: &StartRequest,
    container: &ContainerDesired,
    roots: &Roots,
    termination_log: &Path,
) -> Result<Vec<Mount>, StepError> {
    let pod = &request.pod;
    let failed = |error: &dyn std::error::Error| StepError::new("CreateContainerConfigError", error);
    let sources = orlop_volume::mount_sources(pod, container, roots, &request.volumes).map_err(|e| failed(&e))?;
    let files = orlop_volume::write_pod_files(pod, roots, &request.ips, &node.files).map_err(|e| failed(&e))?;
    for left_out in &files.left_out {
        node.pod_event(pod, EventKind::Warning, "DNSConfigForming", left_out.clone());
    }
    let volumes = container.mounts.iter().zip(sources).map(|(wanted, source)| Mount {
        source: source.path,
        destination: wanted.mount_path.clone(),
        read_only: source.read_only,
        propagation: wanted.propagation,
    });
    let mut mounts: Vec<Mount> = volumes.collect();
    let own = [
        (files.hosts, Path::new("/etc/hosts")),
        (files.hostname, Path::new("/etc/hostname")),
        (files.resolv_conf, Path::new("/etc/resolv.conf")),
        (termination_log.to_owned(), &container.termination_message_path),
    ];
    for (source, destination) in own {
        if mounts.iter().any(|mount| mount.destination == destination) {
            continue;
        }
        let destination = destination.to_owned();
        mounts.push(Mount { source, destination, read_only: false, propagation: MountPropagation::None });
    }
    Ok(mounts)
}

fn spec(
    node: &Node,
    request: &StartRequest,
    resolved: &ResolvedEnv,
    mounts: &[Mount],
    root: &Path,
    id: &ContainerId,
) -> Result<(Spec, ObservedUser), StepError> {
    let failed = |error: &dyn std::error::Error| StepError::new("CreateContainerConfigError", error);
    let (pod, container, config) = (&request.pod, &request.container, &request.image.config);
    let databases = Databases::read(root).map_err(|e| failed(&e))?;
    let user = resolve_user(&config.user, &databases, pod, container).map_err(|e| failed(&e))?;
    let image = ImageRun {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        user: config.user.clone(),
        working_dir: (!config.working_dir.is_empty()).then(|| PathBuf::from(&config.working_dir)),
    };
    let seccomp = match &container.security.seccomp {
        SeccompProfile::Localhost(profile) => {
            Some(localhost_seccomp(&node.config.root_dir.join("seccomp"), profile).map_err(|e| failed(&e))?)
        }
        SeccompProfile::RuntimeDefault | SeccompProfile::Unconfined => None,
    };
    let devices = if container.security.privileged { host_devices().map_err(|e| failed(&e))? } else { Vec::new() };
    let run_dir = node.config.pod_run(pod.uid.as_str());
    let shm = run_dir.join("shm");
    let input = SpecInput {
        pod,
        container,
        image: &image,
        env: &resolved.env,
        command: &resolved.command,
        args: &resolved.args,
        user: &user,
        rootfs: root,
        mounts,
        shm: (!pod.host_ipc).then_some(shm.as_path()),
        namespaces: &NamespacePaths::of_pod(&run_dir, pod),
        cgroup: &node.cgroups.pod(&pod.uid, pod.qos).oci_path(id),
        cgroup_layout: node.cgroups.layout(),
        pids_limit: None,
        localhost_seccomp: seccomp,
        host_capabilities: node.capabilities,
        devices: &devices,
        rlimits: &[],
    };
    let spec = build_spec(&input).map_err(|e| failed(&e))?;
    Ok((spec, ObservedUser { uid: user.uid, gid: user.gid, groups: user.groups }))
}

fn write_bundle(bundle: &Path, spec: &Spec) -> std::io::Result<()> {
    fs::create_dir_all(bundle)?;
    fs::write(bundle.join("config.json"), serde_json::to_vec(spec)?)
}

/// 64 hexadecimal digits that no other attempt has: attempts of one container have
/// other numbers, and a number is used again only after the pod's monitor was lost,
/// at another time.
fn attempt_id(pod: &PodDesired, container: &ContainerDesired, attempt: u32) -> ContainerId {
    let now = Timestamp::now().as_nanosecond();
    let text = format!("{} {} {attempt} {now}", pod.uid, container.name);
    let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    ContainerId::new(hex).expect("a SHA-256 digest has 64 hexadecimal digits")
}

/// Removes one attempt's root filesystem and bundle.
fn remove_one(node: &Node, pod: &PodDesired, id: &ContainerId, errors: &mut Vec<String>) {
    let dir = super::sandbox::container_dir(node, id.as_str());
    match Rootfs::at(&dir).unmount_and_remove() {
        Ok(()) => super::sandbox::forget_not_found(fs::remove_dir_all(&dir), &dir, errors),
        Err(error) => errors.push(chain(&error)),
    }
    let bundle = node.config.pod_run(pod.uid.as_str()).join("bundles").join(id.as_str());
    super::sandbox::forget_not_found(fs::remove_dir_all(&bundle), &bundle, errors);
}

/// Removes the files of all attempts of a pod.
pub(crate) fn remove_all(node: &Node, pod: &PodDesired, errors: &mut Vec<String>) {
    let bundles = node.config.pod_run(pod.uid.as_str()).join("bundles");
    for entry in fs::read_dir(bundles).into_iter().flatten().flatten() {
        if let Some(id) = entry.file_name().to_str().and_then(|name| ContainerId::new(name).ok()) {
            remove_one(node, pod, &id, errors);
        }
    }
}
