//! fsGroup: the group that owns a pod's volumes.

use crate::VolumeError;
use crate::folder::{names, open_child};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Gid, fchownat};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Levels of folders. A volume is given its group before a container can fill it,
/// so only ConfigMap and Secret paths are met.
const DEPTH_MAX: usize = 128;

/// Gives everything in the volume to the group, as the kubelet's
/// `SetVolumeOwnership` does: group read, and write unless `read_only`; folders
/// also search and set-group-id, so that new files get the group too. Links
/// change owner but are not followed. The folder itself comes last, so that its
/// state says whether all below is done.
///
/// # Errors
/// Names the first path that could not be changed.
pub(crate) fn set_group(path: &Path, group: u32, read_only: bool) -> Result<(), VolumeError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let failed = |errno: Errno| VolumeError::io("change the group of", path)(errno.into());
    let folder = nix::fcntl::open(path, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&folder).map_err(failed)?;
    let bits = wanted_bits(&stat, read_only);
    if stat.st_gid == group && stat.st_mode & bits == bits {
        return Ok(());
    }
    below(&folder, path, group, read_only, 0)?;
    change(&folder, &stat, group, read_only).map_err(failed)
}

fn below(folder: &OwnedFd, path: &Path, group: u32, read_only: bool, depth: usize) -> Result<(), VolumeError> {
    if depth > DEPTH_MAX {
        return Err(VolumeError::Path { path: path.to_path_buf(), problem: "is nested too deep" });
    }
    let failed = |path: &Path, errno: Errno| VolumeError::io("change the group of", path)(errno.into());
    for name in names(folder).map_err(|errno| failed(path, errno))? {
        let child_path = path.join(&name);
        one(folder, &name, group, read_only, |child| below(child, &child_path, group, read_only, depth + 1))
            .map_err(|errno| failed(&child_path, errno))??;
    }
    Ok(())
}

/// Changes one entry, after what is in it when it is a folder.
fn one(
    parent: &OwnedFd,
    name: &OsStr,
    group: u32,
    read_only: bool,
    inside: impl FnOnce(&OwnedFd) -> Result<(), VolumeError>,
) -> Result<Result<(), VolumeError>, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let item = nix::fcntl::openat(parent, name, flags, Mode::empty())?;
    let stat = fstat(&item)?;
    if kind(&stat) == SFlag::S_IFDIR {
        let folder = open_child(parent, name)?;
        if let Err(error) = inside(&folder) {
            return Ok(Err(error));
        }
    }
    change(&item, &stat, group, read_only).map(Ok)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// pkg/volume/volume_linux.go: rwMask 0660, roMask 0440, execMask 0110.
fn wanted_bits(stat: &FileStat, read_only: bool) -> u32 {
    let rights = if read_only { 0o440 } else { 0o660 };
    if kind(stat) == SFlag::S_IFDIR { rights | 0o2110 } else { rights }
}

fn change(item: &OwnedFd, stat: &FileStat, group: u32, read_only: bool) -> Result<(), Errno> {
    fchownat(item, "", None, Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH)?;
    if kind(stat) == SFlag::S_IFLNK {
        return Ok(());
    }
    // An O_PATH descriptor takes no fchmod; the path below /proc leads to just this file.
    let mode = (stat.st_mode & 0o7777) | wanted_bits(stat, read_only);
    let path = format!("/proc/self/fd/{}", item.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}
