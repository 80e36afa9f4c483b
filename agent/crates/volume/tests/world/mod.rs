//! A root folder, pods to put into it, objects to fill them with.

#![allow(dead_code)] // each test binary uses its part

use nix::sched::{CloneFlags, unshare};
use orlop_model::{
    ContainerDesired, ContainerName, ContainerResources, ContainerRole, ContainerSecurity, DnsDesired, ImageRef,
    MountPropagation, PodDesired, PodKey, PodResources, PodSecurity, PodUid, PullPolicy, QosClass, RestartPolicy,
    SeccompProfile, TerminationMessagePolicy, VolumeDesired, VolumeMount, VolumeSource,
};
use orlop_volume::{ObjectData, Objects, Roots};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Runs on a thread with its own mounts; they end with it.
pub fn with_own_mounts(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
        orlop_kernel::make_private(Path::new("/"), true).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub struct World {
    pub dir: TempDir,
    pub roots: Roots,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::new(dir.path().join("root"));
        Self { dir, roots }
    }

    pub fn pod_dir(&self, pod: &PodDesired) -> PathBuf {
        self.roots.pod(&pod.uid)
    }

    pub fn pod(&self, volumes: Vec<(&str, VolumeSource)>) -> PodDesired {
        let volumes = volumes.into_iter().map(|(name, source)| VolumeDesired { name: name.into(), source }).collect();
        PodDesired {
            uid: PodUid::new("0b5c1a9e-6f6e-4c7e-9c5b-2a5f7f4f9a11").unwrap(),
            key: PodKey::new("default", "web").unwrap(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node_name: "n1".into(),
            service_account: "default".into(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            hostname: "web".into(),
            domain: None,
            restart_policy: RestartPolicy::Always,
            termination_grace_secs: 30,
            active_deadline_secs: None,
            containers: Vec::new(),
            volumes,
            qos: QosClass::BestEffort,
            resources: PodResources::default(),
            security: PodSecurity::default(),
            dns: DnsDesired::default(),
            host_aliases: Vec::new(),
            deletion: None,
            spec_hash: 0,
        }
    }
}

/// A container with one mount.
pub fn container(volume: &str, sub_path: Option<&str>) -> ContainerDesired {
    let mount = VolumeMount {
        volume: volume.into(),
        mount_path: "/mnt".into(),
        sub_path: sub_path.map(PathBuf::from),
        read_only: false,
        propagation: MountPropagation::None,
    };
    // One container a sub-path, as the pod's validation demands distinct mounts.
    let name: String =
        sub_path.unwrap_or("whole").chars().map(|c| if c.is_ascii_lowercase() { c } else { 'x' }).collect();
    ContainerDesired {
        name: ContainerName::new(name).unwrap(),
        role: ContainerRole::Main,
        image: ImageRef::new("busybox").unwrap(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env_from: Vec::new(),
        env: Vec::new(),
        ports: Vec::new(),
        mounts: vec![mount],
        resources: ContainerResources::default(),
        security: ContainerSecurity {
            run_as_user: None,
            run_as_group: None,
            run_as_non_root: false,
            privileged: false,
            read_only_root: false,
            allow_privilege_escalation: true,
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            seccomp: SeccompProfile::Unconfined,
        },
        startup: None,
        liveness: None,
        readiness: None,
        tty: false,
        stdin: false,
        termination_message_path: "/dev/termination-log".into(),
        termination_message_policy: TerminationMessagePolicy::File,
    }
}

pub fn empty_dir(memory: bool, size_limit: Option<u64>) -> VolumeSource {
    VolumeSource::EmptyDir { memory, size_limit }
}

pub fn config_map(name: &str) -> VolumeSource {
    VolumeSource::ConfigMap { name: name.into(), items: Vec::new(), default_mode: 0o644, optional: false }
}

pub fn secret(name: &str) -> VolumeSource {
    VolumeSource::Secret { name: name.into(), items: Vec::new(), default_mode: 0o644, optional: false }
}

/// Objects in memory, all in the namespace `default`.
#[derive(Default)]
pub struct Store {
    pub config_maps: BTreeMap<String, ObjectData>,
    pub secrets: BTreeMap<String, ObjectData>,
}

impl Store {
    /// (object, key, value) each.
    pub fn new(config_maps: &[(&str, &str, &str)], secrets: &[(&str, &str, &str)]) -> Self {
        let collect = |rows: &[(&str, &str, &str)]| {
            let mut all: BTreeMap<String, ObjectData> = BTreeMap::new();
            for (object, key, value) in rows {
                all.entry((*object).into()).or_default().insert((*key).into(), (*value).into());
            }
            all
        };
        Self { config_maps: collect(config_maps), secrets: collect(secrets) }
    }
}

impl Objects for Store {
    fn config_map(&self, namespace: &str, name: &str) -> Option<ObjectData> {
        (namespace == "default").then(|| self.config_maps.get(name).cloned()).flatten()
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<ObjectData> {
        (namespace == "default").then(|| self.secrets.get(name).cloned()).flatten()
    }
}

pub fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
