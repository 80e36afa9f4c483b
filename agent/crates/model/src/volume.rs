//! Volumes as wanted.

use crate::ContainerName;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What `hostPath.type` demands of the path before it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathType {
    /// `""`: no check.
    Unset,
    /// Made (0755) when missing.
    DirectoryOrCreate,
    /// Must be a directory.
    Directory,
    /// Made empty (0644) when missing.
    FileOrCreate,
    /// Must be a regular file.
    File,
    /// Must be a Unix socket.
    Socket,
    /// Must be a character device.
    CharDevice,
    /// Must be a block device.
    BlockDevice,
}

/// One key of a ConfigMap or Secret as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyToPath {
    /// Key in the object.
    pub key: String,
    /// Relative path without `..`.
    pub path: PathBuf,
    /// Permission bits; `None` takes the volume's default mode.
    pub mode: Option<u32>,
}

/// Where a volume's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// An empty folder that lives as long as the pod.
    EmptyDir {
        /// `medium: Memory`: a tmpfs.
        memory: bool,
        /// Bytes at most.
        size_limit: Option<u64>,
    },
    /// A path of the node.
    HostPath {
        /// Absolute path.
        path: PathBuf,
        /// What it must be.
        kind: HostPathType,
    },
    /// A ConfigMap's keys as files.
    ConfigMap {
        /// Name in the pod's namespace.
        name: String,
        /// Chosen keys; empty is all.
        items: Vec<KeyToPath>,
        /// Permission bits of files; default 0644.
        default_mode: u32,
        /// A missing object or key is no error.
        optional: bool,
    },
    /// A Secret's keys as files, on tmpfs.
    Secret {
        /// Name in the pod's namespace.
        name: String,
        /// Chosen keys; empty is all.
        items: Vec<KeyToPath>,
        /// Permission bits of files; default 0644.
        default_mode: u32,
        /// A missing object or key is no error.
        optional: bool,
    },
    /// What the pod is told of itself, as files on tmpfs.
    Downward {
        /// The files.
        items: Vec<DownwardFile>,
        /// Permission bits of files; default 0644.
        default_mode: u32,
    },
    /// Several sources in one folder, on tmpfs.
    Projected {
        /// In order: a later one wins where two give the same path.
        sources: Vec<Projection>,
        /// Permission bits of files; default 0644.
        default_mode: u32,
    },
}

/// One source of a projected volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Projection {
    /// A ConfigMap's keys as files.
    ConfigMap {
        /// Name in the pod's namespace.
        name: String,
        /// Chosen keys; empty is all.
        items: Vec<KeyToPath>,
        /// A missing object or key is no error.
        optional: bool,
    },
    /// A Secret's keys as files.
    Secret {
        /// Name in the pod's namespace.
        name: String,
        /// Chosen keys; empty is all.
        items: Vec<KeyToPath>,
        /// A missing object or key is no error.
        optional: bool,
    },
    /// What the pod is told of itself.
    Downward {
        /// The files.
        items: Vec<DownwardFile>,
    },
    /// A token of the pod's service account.
    Token {
        /// Relative path without `..`.
        path: PathBuf,
        /// What the token is asked for with.
        ask: TokenAsk,
    },
}

/// What a service-account token is asked for with. Two volumes that ask the same
/// can have the same token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenAsk {
    /// Who the token is for; `None` is the API server itself.
    pub audience: Option<String>,
    /// Seconds of life asked for, at least 600; default 3600. The API server may give another.
    pub expiration_secs: u64,
}

/// One file of the downward API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownwardFile {
    /// Relative path without `..`.
    pub path: PathBuf,
    /// What is in it.
    pub source: DownwardSource,
    /// Permission bits; `None` takes the volume's default mode.
    pub mode: Option<u32>,
}

/// What a file of the downward API says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownwardSource {
    /// A path such as `metadata.labels`.
    Field(String),
    /// A container's request or limit.
    Resource {
        /// Whose.
        container: ContainerName,
        /// For example `limits.memory`.
        resource: String,
        /// Unit to divide by and round up to, in the resource's base unit
        /// (thousandths of a CPU or bytes).
        divisor: u64,
    },
}

/// A volume of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDesired {
    /// RFC 1123 label, unique in the pod.
    pub name: String,
    /// Its content.
    pub source: VolumeSource,
}

/// How mounts made below a volume travel between container and node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    /// `rprivate`.
    #[default]
    None,
    /// `rslave`.
    HostToContainer,
    /// `rshared`; privileged containers only.
    Bidirectional,
}

/// A volume inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The volume's name.
    pub volume: String,
    /// Absolute path in the container.
    pub mount_path: PathBuf,
    /// Relative path inside the volume.
    pub sub_path: Option<PathBuf>,
    /// `subPathExpr`: a relative path in which `$(NAME)` is expanded from the container's
    /// variables when it starts; never together with `sub_path`.
    pub sub_path_expr: Option<String>,
    /// Mounted read-only.
    pub read_only: bool,
    /// Propagation.
    pub propagation: MountPropagation,
}
