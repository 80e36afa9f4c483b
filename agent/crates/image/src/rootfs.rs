//! A container's root filesystem: the image's layers under a writable one.

use crate::{ImageError, ImageRecord, ImageStore};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Empty folders for images with fewer layers than overlayfs wants.
const FILLERS: [&str; 2] = ["empty", "empty2"];

/// Whether the mount can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootAccess {
    /// With an upper layer of its own. Also what a container with
    /// `readOnlyRootFilesystem` needs: the runtime makes mount points in it first
    /// and makes it read-only inside (`root.readonly` of the OCI spec).
    ReadWrite,
    /// The image alone, for looking into it.
    ReadOnly,
}

/// A container's root filesystem, in the container's folder:
///
/// ```text
/// CONTAINER_DIR/rootfs   the mount point
/// CONTAINER_DIR/upper    what the container wrote
/// CONTAINER_DIR/work     overlayfs's own
/// CONTAINER_DIR/empty    stands in where the image has too few layers (also empty2)
/// ```
///
/// The mount itself is the only record of it: after a restart of the agent it is
/// found by looking, not made again.
#[derive(Debug, Clone)]
pub struct Rootfs {
    dir: PathBuf,
}

impl Rootfs {
    /// The root filesystem in a container's folder, mounted or not.
    #[must_use]
    pub fn at(container_dir: impl Into<PathBuf>) -> Self {
        Self { dir: container_dir.into() }
    }

    /// The mount point.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Folder with what the container wrote.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Whether it is mounted. An overlay has a device number of its own.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the folder cannot be looked at; a missing one is not mounted.
    pub fn is_mounted(&self) -> Result<bool, ImageError> {
        let device = |path: &Path| match fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(meta.dev())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("stat", path)(error)),
        };
        Ok(device(&self.path())?.is_some_and(|inner| device(&self.dir).is_ok_and(|outer| outer != Some(inner))))
    }

    /// Mounts the image and gives the mount point; when it is mounted already,
    /// only gives the mount point.
    ///
    /// # Errors
    /// [`ImageError::Mount`], [`ImageError::Io`], [`ImageError::NoSpace`].
    pub fn mount(&self, store: &ImageStore, image: &ImageRecord, access: RootAccess) -> Result<PathBuf, ImageError> {
        let target = self.path();
        if self.is_mounted()? {
            return Ok(target);
        }
        let (upper, work) = (self.upper(), self.dir.join("work"));
        let mut lower = store.layer_dirs(image);
        lower.reverse();
        let make = |path: &Path| fs::create_dir_all(path).map_err(ImageError::io("make", path));
        make(&target)?;
        // overlayfs wants one lower folder below an upper one, and two without.
        let least = match access {
            RootAccess::ReadWrite => 1,
            RootAccess::ReadOnly => 2,
        };
        for filler in &FILLERS[..least - lower.len().min(least)] {
            let filler = self.dir.join(filler);
            make(&filler)?;
            lower.push(filler);
        }
        let upper = match access {
            RootAccess::ReadOnly => None,
            RootAccess::ReadWrite => {
                make(&upper)?;
                make(&work)?;
                Some((upper, work))
            }
        };
        let overlay = orlop_kernel::Overlay { lower, upper };
        orlop_kernel::mount_overlay(&overlay, &target)
            .map_err(|source| ImageError::Mount { path: target.clone(), source: Box::new(source) })?;
        Ok(target)
    }

    /// Unmounts it and removes what the container wrote and the mount point. The
    /// container's folder itself stays: it is its owner's. Doing it twice is no error.
    ///
    /// # Errors
    /// [`ImageError::Unmount`] leaves everything in place; [`ImageError::Io`] names
    /// the first folder that could not be removed after the others were tried.
    pub fn unmount_and_remove(&self) -> Result<(), ImageError> {
        let target = self.path();
        if self.is_mounted()? {
            orlop_kernel::unmount(&target)
                .map_err(|source| ImageError::Unmount { path: target.clone(), source: Box::new(source) })?;
        }
        let mut first = None;
        // The mount point by rmdir: should something be mounted there, it stays.
        first = first.or(gone(&target, fs::remove_dir(&target)).err());
        for folder in ["upper", "work"].iter().chain(&FILLERS).map(|name| self.dir.join(name)) {
            first = first.or(gone(&folder, fs::remove_dir_all(&folder)).err());
        }
        first.map_or(Ok(()), Err)
    }
}

/// What was not there is gone too.
fn gone(path: &Path, result: io::Result<()>) -> Result<(), ImageError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(ImageError::io("remove", path)),
    }
}
