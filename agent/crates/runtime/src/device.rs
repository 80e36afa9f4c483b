//! The node's devices, for privileged containers.

use crate::error::Error;
use nix::sys::stat::{SFlag, major, minor};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Folders of `/dev` that are file systems of their own in a container.
const SKIPPED_FOLDERS: [&str; 5] = ["pts", "shm", "fd", "mqueue", ".udev"];
/// What libcontainer makes itself, or must not be the node's.
const SKIPPED: [&str; 10] = ["null", "zero", "full", "tty", "random", "urandom", "console", "ptmx", "stdin", "stdout"];
/// Levels of folders below `/dev`.
const DEPTH_MAX: u32 = 6;

/// Every block and character device below `/dev`.
///
/// # Errors
/// `/dev` cannot be listed.
pub fn host_devices() -> Result<Vec<LinuxDevice>, Error> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), DEPTH_MAX, &mut devices)?;
    Ok(devices)
}

fn collect(folder: &Path, depth: u32, into: &mut Vec<LinuxDevice>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // Not followed: a link in /dev is made by the container's own udev, if any.
        let Ok(data) = fs::symlink_metadata(&path) else { continue };
        if data.is_dir() {
            if depth > 0 && !SKIPPED_FOLDERS.iter().any(|s| name == *s) {
                collect(&path, depth - 1, into)?;
            }
            continue;
        }
        let kind = data.mode() & SFlag::S_IFMT.bits();
        let typ = match kind {
            _ if SKIPPED.iter().any(|s| name == *s) => continue,
            _ if kind == SFlag::S_IFCHR.bits() => LinuxDeviceType::C,
            _ if kind == SFlag::S_IFBLK.bits() => LinuxDeviceType::B,
            _ => continue,
        };
        let device = LinuxDeviceBuilder::default()
            .path(path)
            .typ(typ)
            .major(major(data.rdev()) as i64)
            .minor(minor(data.rdev()) as i64)
            .file_mode(data.mode() & 0o7777)
            .uid(data.uid())
            .gid(data.gid())
            .build()
            .map_err(|error| Error::Config(error.to_string()))?;
        into.push(device);
    }
    Ok(())
}
