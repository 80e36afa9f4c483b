//! What can go wrong with a pod's volumes and files.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with a pod's volumes and files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// One volume could not be set up, in the kubelet's words of `FailedMount`.
    ///
    /// The text ends in a blank, because the kubelet's has one before the colon that
    /// its cause follows.
    #[error("MountVolume.SetUp failed for volume {name:?} ")]
    SetUp {
        /// The volume.
        name: String,
        /// Why.
        #[source]
        source: Box<VolumeError>,
    },
    /// A hostPath is not of the type that was demanded.
    #[error("hostPath type check failed: {path} is not {kind}")]
    HostPathType {
        /// The path.
        path: PathBuf,
        /// "a directory", "a file", "a socket file", "a character device", "a block device".
        kind: &'static str,
    },
    /// A ConfigMap or Secret is not there.
    #[error("{kind} {name:?} not found")]
    ObjectNotFound {
        /// "configmap" or "secret".
        kind: &'static str,
        /// Name in the pod's namespace.
        name: String,
    },
    /// A ConfigMap or Secret has no such key.
    #[error("{kind} references non-existent {what} key: {key}")]
    KeyNotFound {
        /// "configmap" or "secret".
        kind: &'static str,
        /// "config" or "secret".
        what: &'static str,
        /// The key.
        key: String,
    },
    /// The API server gives no token.
    #[error("failed to fetch token: {0}")]
    Token(String),
    /// A file of the downward API that cannot be told.
    #[error("{0}")]
    Downward(String),
    /// Several sources of a projected volume failed, in the form of the kubelet's aggregate.
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<VolumeError>),
    /// A path inside a volume is not one.
    #[error("path {path:?} {problem}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A container mounts a volume that the pod does not have.
    #[error("container {container:?} mounts volume {volume:?}, which the pod does not have")]
    NoSuchVolume {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
    },
    /// A subPath leads out of its volume.
    #[error("subPath {sub_path:?} is not inside volume {volume:?}: {problem}")]
    SubPath {
        /// As the pod wrote it.
        sub_path: PathBuf,
        /// The volume's folder or path.
        volume: PathBuf,
        /// Why.
        problem: String,
    },
    /// Something is mounted where only the pod's own files should be.
    #[error(
        "{path} is still mounted and not one of the pod's own mounts: unmount it by hand, its content is left alone"
    )]
    ForeignMount {
        /// The mount point.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space left to write {path}: free some or move --root-dir")]
    NoSpace {
        /// What was written.
        path: PathBuf,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A file operation.
    #[error("{action} {path}")]
    Io {
        /// "make", "write", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount.
    #[error("{action} {path}")]
    Mount {
        /// "mount tmpfs at", "bind subPath at", "unmount".
        action: &'static str,
        /// The mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl VolumeError {
    /// Whether it is only that an object or a token cannot be had now.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::ObjectNotFound { .. } | Self::KeyNotFound { .. } | Self::Token(_) => true,
            Self::Several(errors) => errors.iter().all(Self::is_missing),
            Self::SetUp { .. }
            | Self::HostPathType { .. }
            | Self::Downward(_)
            | Self::Path { .. }
            | Self::NoSuchVolume { .. }
            | Self::SubPath { .. }
            | Self::ForeignMount { .. }
            | Self::NoSpace { .. }
            | Self::Io { .. }
            | Self::Mount { .. } => false,
        }
    }

    /// For `map_err`: a file operation, or [`VolumeError::NoSpace`] when that is why.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path: path.to_path_buf(), source }
            }
            _ => Self::Io { action, path: path.to_path_buf(), source },
        }
    }

    /// For `map_err` on the kernel crate's mount calls.
    pub(crate) fn mount<E: std::error::Error + Send + Sync + 'static>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Mount { action, path: path.to_path_buf(), source: Box::new(source) }
    }
}

/// Everything that went wrong while a pod's folder was taken down.
#[derive(Debug, thiserror::Error)]
#[error("{} of the pod's volumes could not be removed: {}", .errors.len(), list(.errors))]
pub struct TearDownError {
    /// At least one.
    pub errors: Vec<VolumeError>,
}

fn list(errors: &[VolumeError]) -> String {
    errors.iter().map(chain).collect::<Vec<_>>().join("; ")
}

/// An error with its causes in one line.
fn chain(error: &VolumeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
