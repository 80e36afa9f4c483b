//! Writes files of objects, tokens and the downward API so that a container sees all of the old
//! state or all of the new one, as the kubelet's AtomicWriter does:
//!
//! ```text
//! VOLUME/..2026_11_21_02_50_22.x1y2z3/dir/key    the files
//! VOLUME/..data -> ..2026_11_21_02_50_22.x1y2z3  swapped by rename
//! VOLUME/dir -> ..data/dir                       what the container opens
//! ```

use crate::VolumeError;
use crate::folder;
use crate::objects::Payload;
use crate::ownership::set_group;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Brings the volume to the payload; `true` when something changed. `now` goes
/// into the folder's name only.
///
/// # Errors
/// Names what could not be written; the old state then stays visible.
pub(crate) fn write(volume: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> Result<bool, VolumeError> {
    let current = match fs::read_link(volume.join(DATA)) {
        Ok(target) => Some(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(VolumeError::io("read link", &volume.join(DATA))(error)),
    };
    let changed = match &current {
        Some(current) => read(&volume.join(current)) != Some(contents(payload)),
        None => true,
    };
    let current = match (changed, current) {
        (false, Some(current)) => current,
        _ => {
            let fresh = write_fresh(volume, payload, group, now)?;
            swap(volume, &fresh)?;
            fresh
        }
    };
    link_visible(volume, payload)?;
    clean(volume, &current, payload)?;
    Ok(changed)
}

/// Whether the volume was ever written to the end.
pub(crate) fn has_state(volume: &Path) -> bool {
    fs::read_link(volume.join(DATA)).is_ok()
}

fn contents(payload: &Payload) -> BTreeMap<PathBuf, Vec<u8>> {
    payload.iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect()
}

/// What a data folder holds; `None` when it cannot be read, and is written again.
fn read(folder: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    fn walk(top: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
        for item in fs::read_dir(folder)? {
            let (item, path) = item.map(|item| (item.file_type(), item.path()))?;
            if item?.is_dir() {
                walk(top, &path, files)?;
            } else {
                let name = path.strip_prefix(top).unwrap_or(&path).to_path_buf();
                files.insert(name, fs::read(&path)?);
            }
        }
        Ok(())
    }
    let mut files = BTreeMap::new();
    walk(folder, folder, &mut files).ok()?;
    Some(files)
}

fn write_fresh(volume: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> Result<PathBuf, VolumeError> {
    let prefix = now.strftime("..%Y_%m_%d_%H_%M_%S.").to_string();
    let folder = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(volume)
        .map_err(VolumeError::io("make a folder in", volume))?;
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(VolumeError::io("chmod", path))
    };
    for (name, file) in payload {
        let path = folder.path().join(name);
        let mut parent = folder.path().to_path_buf();
        for part in name.parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            if !parent.is_dir() {
                fs::create_dir(&parent).map_err(VolumeError::io("make", &parent))?;
                chmod(&parent, 0o755)?;
            }
        }
        fs::write(&path, &file.bytes).map_err(VolumeError::io("write", &path))?;
        chmod(&path, file.mode & 0o777)?;
        if let Some(user) = file.user {
            chown(&path, Some(user), None).map_err(VolumeError::io("change the owner of", &path))?;
        }
    }
    // Only now can the pod look in: until here a token was perhaps not yet its owner's alone.
    chmod(folder.path(), 0o755)?;
    if let Some(group) = group {
        set_group(folder.path(), group, true)?;
    }
    Ok(folder.keep().file_name().map(PathBuf::from).unwrap_or_default())
}

fn swap(volume: &Path, fresh: &Path) -> Result<(), VolumeError> {
    let (new, data) = (volume.join(DATA_NEW), volume.join(DATA));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(VolumeError::io("remove", &new)(error)),
        _ => {}
    }
    symlink(fresh, &new).map_err(VolumeError::io("link", &new))?;
    fs::rename(&new, &data).map_err(VolumeError::io("rename to", &data))
}

/// First parts of the payload's paths: what a container sees in the volume.
fn visible(payload: &Payload) -> BTreeSet<OsString> {
    payload.keys().filter_map(|path| path.components().next()).map(|part| part.as_os_str().to_owned()).collect()
}

fn link_visible(volume: &Path, payload: &Payload) -> Result<(), VolumeError> {
    for name in visible(payload) {
        let link = volume.join(&name);
        match symlink(Path::new(DATA).join(&name), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(VolumeError::io("link", &link)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes links to keys that are gone and data folders of earlier states.
fn clean(volume: &Path, current: &Path, payload: &Payload) -> Result<(), VolumeError> {
    let visible = visible(payload);
    let list = VolumeError::io("list", volume);
    for item in fs::read_dir(volume).map_err(list)? {
        let item = item.map_err(VolumeError::io("list", volume))?;
        let (name, path) = (item.file_name(), item.path());
        if name == DATA || name == current.as_os_str() || visible.contains(&name) {
            continue;
        }
        let is_dir = item.file_type().map_err(VolumeError::io("stat", &path))?.is_dir();
        if !is_dir {
            fs::remove_file(&path).map_err(VolumeError::io("remove", &path))?;
        } else if let Some(error) = folder::remove(&path).into_iter().next() {
            return Err(error);
        }
    }
    Ok(())
}
