//! This crate's use of the kernel crate's mounts, with errors in this crate's words.

use crate::VolumeError;
use std::path::{Path, PathBuf};

/// A mount below a pod's folder.
pub(crate) struct Seen {
    pub target: PathBuf,
    pub fs_type: String,
}

/// A tmpfs that any user of the pod may write to (1777, as one has it that is mounted
/// without a mode, which is what the kubelet does).
pub(crate) fn tmpfs(path: &Path, size_bytes: Option<u64>) -> Result<(), VolumeError> {
    orlop_kernel::mount_tmpfs(path, size_bytes, 0o1777).map_err(VolumeError::mount("mount tmpfs at", path))
}

/// One bind mount, without the mounts below the source; private.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<(), VolumeError> {
    let bind = orlop_kernel::Bind {
        source: source.to_path_buf(),
        recursive: false,
        read_only: false,
        propagation: orlop_kernel::Propagation::Private,
    };
    orlop_kernel::mount_bind(&bind, target).map_err(VolumeError::mount("bind subPath at", target))
}

/// Unmounts; what was not mounted is no error.
pub(crate) fn unmount(path: &Path) -> Result<(), VolumeError> {
    orlop_kernel::unmount(path).map(drop).map_err(VolumeError::mount("unmount", path))
}

/// Mounts at or below a path, oldest first.
pub(crate) fn below(path: &Path) -> Result<Vec<Seen>, VolumeError> {
    let mounts = orlop_kernel::mounts_below(path).map_err(VolumeError::mount("list mounts below", path))?;
    Ok(mounts.into_iter().map(|mount| Seen { target: mount.target, fs_type: mount.fs_type }).collect())
}

/// Whether something is mounted exactly there.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, VolumeError> {
    let path = path.canonicalize().map_err(VolumeError::io("resolve", path))?;
    Ok(below(&path)?.iter().any(|seen| seen.target == path))
}
