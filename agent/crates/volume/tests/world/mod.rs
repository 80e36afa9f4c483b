//! A root folder, pods to put into it, objects to fill them with.

#![allow(dead_code)] // each test binary uses its part

use nix::sched::{CloneFlags, unshare};
use orlop_model::{
    ContainerDesired, ContainerName, ImageRef, MountPropagation, NodeAllocatable, PodDesired, PodKey, PodUid, TokenAsk,
    VolumeDesired, VolumeMount, VolumeSource,
};
use orlop_volume::{ObjectData, Objects, Roots, Sources};
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
        let uid = PodUid::new("0b5c1a9e-6f6e-4c7e-9c5b-2a5f7f4f9a11").unwrap();
        PodDesired { volumes, node_name: "n1".into(), ..PodDesired::new(uid, PodKey::new("default", "web").unwrap()) }
    }
}

/// A container with one mount.
pub fn container(volume: &str, sub_path: Option<&str>) -> ContainerDesired {
    let mount = VolumeMount {
        volume: volume.into(),
        mount_path: "/mnt".into(),
        sub_path: sub_path.map(PathBuf::from),
        sub_path_expr: None,
        read_only: false,
        propagation: MountPropagation::None,
    };
    // One container a sub-path, as the pod's validation demands distinct mounts.
    let name: String =
        sub_path.unwrap_or("whole").chars().map(|c| if c.is_ascii_lowercase() { c } else { 'x' }).collect();
    let named = ContainerDesired::new(ContainerName::new(name).unwrap(), ImageRef::new("busybox").unwrap());
    ContainerDesired { mounts: vec![mount], ..named }
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
pub struct Store {
    pub config_maps: BTreeMap<String, ObjectData>,
    pub secrets: BTreeMap<String, ObjectData>,
    /// The API server's answer to every request for a token, after the audience.
    pub token: Result<String, String>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(&[], &[])
    }
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
        Self { config_maps: collect(config_maps), secrets: collect(secrets), token: Ok("one".into()) }
    }
}

impl Store {
    pub fn sources(&self) -> Sources<'_> {
        let allocatable = NodeAllocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30, pods: 110 };
        Sources { objects: self, allocatable }
    }
}

impl Objects for Store {
    fn config_map(&self, namespace: &str, name: &str) -> Option<ObjectData> {
        (namespace == "default").then(|| self.config_maps.get(name).cloned()).flatten()
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<ObjectData> {
        (namespace == "default").then(|| self.secrets.get(name).cloned()).flatten()
    }
    fn token(&self, pod: &PodDesired, ask: &TokenAsk) -> Result<String, String> {
        let audience = ask.audience.as_deref().unwrap_or("api");
        self.token.clone().map(|token| format!("{}/{audience}/{token}", pod.service_account))
    }
}

pub fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
