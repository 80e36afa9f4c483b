//! Walks below a folder that a container may have filled: by descriptors, never
//! over a mount, never through a symbolic link.

use crate::VolumeError;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Folders inside folders that are held open at once. A container can nest them
/// without end; what is deeper is moved up first.
const DEPTH_MAX: usize = 64;

/// What stays below a folder that was to be removed.
#[derive(Default)]
struct Removal {
    errors: Vec<VolumeError>,
    moved: u64,
}

/// Opens a folder directly in `parent`: not a link, not a mount point.
pub(crate) fn open_child(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat2(parent, name, OpenHow::new().flags(flags).resolve(resolve))
}

/// Names in an opened folder, without `.` and `..`.
pub(crate) fn names(folder: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut dir = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
    let mut names = Vec::new();
    for item in dir.iter() {
        let name = OsStr::from_bytes(item?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether NAME is a folder itself (a link to one is not).
pub(crate) fn is_folder(parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// Removes a folder and all that is in it. A mount below it stays with its
/// content, and with it the folders that lead to it; everything else goes.
/// Gives every failure; a folder that is not there is removed.
pub(crate) fn remove(path: &Path) -> Vec<VolumeError> {
    let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
        return vec![VolumeError::Path { path: path.to_path_buf(), problem: "has no parent folder" }];
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = match nix::fcntl::open(parent_path, flags, nix::sys::stat::Mode::empty()) {
        Err(Errno::ENOENT) => return Vec::new(),
        Err(errno) => return vec![failure("open", parent_path, errno)],
        Ok(parent) => parent,
    };
    let top = match open_child(&parent, name) {
        Err(Errno::ENOENT) => return Vec::new(),
        Err(errno) => return vec![failure("open", path, errno)],
        Ok(top) => top,
    };
    let mut removal = Removal::default();
    loop {
        let before = removal.moved;
        removal.errors.clear();
        removal.children(&top, &top, path, 0);
        if removal.moved == before {
            break;
        }
    }
    if removal.errors.is_empty()
        && let Err(errno) = unlinkat(&parent, name, UnlinkatFlags::RemoveDir)
        && errno != Errno::ENOENT
    {
        removal.errors.push(failure("remove", path, errno));
    }
    removal.errors
}

fn failure(action: &'static str, path: &Path, errno: Errno) -> VolumeError {
    match errno {
        // EXDEV: openat2 met a mount point. EBUSY: unlink or rmdir of one.
        Errno::EXDEV | Errno::EBUSY => VolumeError::ForeignMount { path: path.to_path_buf() },
        errno => VolumeError::Io { action, path: path.to_path_buf(), source: errno.into() },
    }
}

impl Removal {
    fn children(&mut self, folder: &OwnedFd, top: &OwnedFd, path: &Path, depth: usize) {
        let names = match names(folder) {
            Ok(names) => names,
            Err(errno) => return self.errors.push(failure("list", path, errno)),
        };
        for name in names {
            if let Err((action, errno)) = self.child(folder, top, path, &name, depth)
                && errno != Errno::ENOENT
            {
                self.errors.push(failure(action, &path.join(&name), errno));
            }
        }
    }

    fn child(
        &mut self,
        folder: &OwnedFd,
        top: &OwnedFd,
        path: &Path,
        name: &OsStr,
        depth: usize,
    ) -> Result<(), (&'static str, Errno)> {
        if !is_folder(folder, name).map_err(|errno| ("stat", errno))? {
            return unlinkat(folder, name, UnlinkatFlags::NoRemoveDir).map_err(|errno| ("remove", errno));
        }
        let child = open_child(folder, name).map_err(|errno| ("open", errno))?;
        if depth >= DEPTH_MAX {
            let lifted = format!("..lifted-{}-{}", std::process::id(), self.moved);
            renameat(folder, name, top, lifted.as_str()).map_err(|errno| ("move up", errno))?;
            self.moved += 1;
            return Ok(());
        }
        let before = self.errors.len();
        let moved = self.moved;
        self.children(&child, top, &path.join(name), depth + 1);
        if self.errors.len() > before {
            return Ok(()); // what stays in it has been said
        }
        match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
            // A folder in it was lifted and is emptied in the next round.
            Err(Errno::ENOTEMPTY) if self.moved != moved => Ok(()),
            other => other.map_err(|errno| ("remove", errno)),
        }
    }
}
