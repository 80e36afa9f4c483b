//! What is bind-mounted into a container: volumes, or with `subPath` a part of one.
//!
//! A subPath is resolved when another container may be changing the volume. It is
//! opened below the volume (`openat2` with `RESOLVE_BENEATH`: neither `..` nor a
//! link leads out), and what was opened, not its path, is bind-mounted in the
//! pod's folder; the container gets that mount.

use crate::roots::parent;
use crate::setup::make_private;
use crate::{Roots, VolumeError, mount};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use orlop_model::{ContainerDesired, PodDesired, VolumeSource};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a container's volume mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSource {
    /// Path on the node to bind.
    pub path: PathBuf,
    /// Asked for, or a ConfigMap or Secret, which the kubelet always mounts read-only.
    pub read_only: bool,
}

/// Sources of the container's volume mounts, one for each of `container.mounts` in
/// order. `volumes` is what [`crate::set_up`] gave. A missing subPath is made as a folder with
/// the volume's mode.
///
/// # Errors
/// [`VolumeError::NoSuchVolume`], [`VolumeError::SubPath`], [`VolumeError::Mount`].
pub fn mount_sources(
    pod: &PodDesired,
    container: &ContainerDesired,
    roots: &Roots,
    volumes: &BTreeMap<String, PathBuf>,
) -> Result<Vec<MountSource>, VolumeError> {
    container
        .mounts
        .iter()
        .enumerate()
        .map(|(index, wanted)| {
            let volume = pod.volumes.iter().find(|volume| volume.name == wanted.volume);
            let (Some(volume), Some(path)) = (volume, volumes.get(&wanted.volume)) else {
                let (container, volume) = (container.name.to_string(), wanted.volume.clone());
                return Err(VolumeError::NoSuchVolume { container, volume });
            };
            let object = matches!(volume.source, VolumeSource::ConfigMap { .. } | VolumeSource::Secret { .. });
            let read_only = wanted.read_only || object;
            let path = match wanted.sub_path.as_deref().filter(|sub_path| !sub_path.as_os_str().is_empty()) {
                None => path.clone(),
                Some(sub_path) => {
                    let target = roots.sub_path(&pod.uid, &wanted.volume, &container.name, index);
                    bind(path, sub_path, &target)?;
                    target
                }
            };
            Ok(MountSource { path, read_only })
        })
        .collect()
}

fn bind(volume: &Path, sub_path: &Path, target: &Path) -> Result<(), VolumeError> {
    let source = open_beneath(volume, sub_path)?;
    let stat = fstat(&source).map_err(|errno| VolumeError::io("stat", sub_path)(errno.into()))?;
    if target.exists() && mount::is_mount_point(target)? {
        let there = fs::metadata(target).map_err(VolumeError::io("stat", target))?;
        if (there.dev(), there.ino()) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        // The container restarts and its subPath is another file now.
        mount::unmount(target)?;
    }
    make_private(parent(target))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
        if target.is_file() {
            fs::remove_file(target).map_err(VolumeError::io("remove", target))?;
        }
        make_private(target)?;
    } else {
        if target.is_dir() {
            fs::remove_dir(target).map_err(VolumeError::io("remove", target))?;
        }
        File::options().create(true).append(true).open(target).map_err(VolumeError::io("make", target))?;
    }
    mount::bind(&PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd())), target)
}

/// Opens the sub-path below the volume, making missing folders.
fn open_beneath(volume: &Path, sub_path: &Path) -> Result<OwnedFd, VolumeError> {
    let failed = |errno: Errno| VolumeError::SubPath {
        sub_path: sub_path.to_path_buf(),
        volume: volume.to_path_buf(),
        problem: match errno {
            Errno::EXDEV => "it leads out of the volume".to_owned(),
            Errno::ELOOP => "a link in it leads nowhere good".to_owned(),
            errno => errno.desc().to_owned(),
        },
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(volume, flags, Mode::empty()).map_err(failed)?;
    match open_at(&root, sub_path) {
        Err(Errno::ENOENT) => {}
        other => return other.map_err(failed),
    }
    let mode = Mode::from_bits_truncate(fstat(&root).map_err(failed)?.st_mode & 0o7777);
    let mut so_far = PathBuf::new();
    let mut folder = open_at(&root, Path::new(".")).map_err(failed)?;
    for part in sub_path.components() {
        so_far.push(part);
        folder = match open_at(&root, &so_far) {
            Err(Errno::ENOENT) => {
                match mkdirat(&folder, part.as_os_str(), mode) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                let made = open_at(&root, &so_far).map_err(failed)?;
                // mkdir takes the umask away; the mode is the volume's.
                let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode.bits()))
                    .map_err(VolumeError::io("chmod", &volume.join(&so_far)))?;
                made
            }
            other => other.map_err(failed)?,
        };
    }
    Ok(folder)
}

fn open_at(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}
