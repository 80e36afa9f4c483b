//! Where a pod's files are: the kubelet's own paths, because CSI drivers, log
//! collectors and people look for them there.

use orlop_model::{ContainerName, PodUid, VolumeSource};
use std::path::{Path, PathBuf};

/// Folder of a pod with its bind-mounted sub-paths.
pub(crate) const SUB_PATHS: &str = "volume-subpaths";

/// The folders that a pod's files go below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `--root-dir`, `/var/lib/kubelet` when nothing is said.
    pub root_dir: PathBuf,
}

impl Roots {
    /// Below `--root-dir`.
    #[must_use]
    pub fn new(root_dir: impl Into<PathBuf>) -> Self {
        Self { root_dir: root_dir.into() }
    }

    /// `ROOT/pods`.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    /// `ROOT/pods/UID`.
    #[must_use]
    pub fn pod(&self, uid: &PodUid) -> PathBuf {
        self.pods().join(uid.as_str())
    }

    /// `ROOT/pods/UID/volumes/PLUGIN/NAME`; `None` for a hostPath, which has no folder.
    #[must_use]
    pub fn volume(&self, uid: &PodUid, name: &str, source: &VolumeSource) -> Option<PathBuf> {
        let plugin = match source {
            VolumeSource::EmptyDir { .. } => "kubernetes.io~empty-dir",
            VolumeSource::ConfigMap { .. } => "kubernetes.io~configmap",
            VolumeSource::Secret { .. } => "kubernetes.io~secret",
            VolumeSource::Downward { .. } => "kubernetes.io~downward-api",
            VolumeSource::Projected { .. } => "kubernetes.io~projected",
            VolumeSource::HostPath { .. } => return None,
        };
        Some(self.pod(uid).join("volumes").join(plugin).join(name))
    }

    /// `ROOT/pods/UID/volume-subpaths/VOLUME/CONTAINER/INDEX`.
    #[must_use]
    pub fn sub_path(&self, uid: &PodUid, volume: &str, container: &ContainerName, index: usize) -> PathBuf {
        self.pod(uid).join(SUB_PATHS).join(volume).join(container.as_str()).join(index.to_string())
    }

    /// `ROOT/pods/UID/etc-hosts`.
    #[must_use]
    pub fn etc_hosts(&self, uid: &PodUid) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }
    /// `ROOT/pods/UID/etc-hostname`.
    #[must_use]
    pub fn etc_hostname(&self, uid: &PodUid) -> PathBuf {
        self.pod(uid).join("etc-hostname")
    }
    /// `ROOT/pods/UID/resolv.conf`.
    #[must_use]
    pub fn resolv_conf(&self, uid: &PodUid) -> PathBuf {
        self.pod(uid).join("resolv.conf")
    }

    /// `ROOT/pods/UID/containers/NAME/ATTEMPT`: the termination log of one attempt.
    #[must_use]
    pub fn termination_log(&self, uid: &PodUid, container: &ContainerName, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(container.as_str()).join(attempt.to_string())
    }
}

/// A path's parent, or the path itself at the top.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
