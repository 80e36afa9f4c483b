//! Sets a pod's volumes up, and keeps those that we write up to date.

use crate::objects::{is_written, payload};
use crate::ownership::set_group;
use crate::roots::parent;
use crate::{Roots, Sources, VolumeError, atomic, host_path};
use jiff::Timestamp;
use orlop_model::{PodDesired, VolumeDesired, VolumeSource};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Has every volume of the pod on the node and gives volume name → path on the
/// node. Doing it again changes nothing that is right already.
///
/// - emptyDir: a folder 0777; `medium: Memory` a tmpfs of at most the smaller of
///   its size limit and the pod's memory limit. A size limit on disk is not
///   enforced here.
/// - hostPath: checked and, where its type says so, made.
/// - configMap: files in a folder.
/// - secret, downwardAPI, projected: files on a tmpfs.
///
/// All but hostPath belong to `fsGroup` when there is one.
///
/// # Errors
/// [`VolumeError::SetUp`] naming the volume, with the cause in the kubelet's
/// words; not for an object or a token that cannot be had now, if the volume has
/// its files from before. What was set up before stays for the next try or [`crate::tear_down`].
pub fn set_up(
    pod: &PodDesired,
    roots: &Roots,
    sources: &Sources<'_>,
) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
    pod_folder(pod, roots)?;
    pod.volumes
        .iter()
        .map(|volume| match one(pod, volume, roots, sources) {
            Ok(path) => Ok((volume.name.clone(), path)),
            Err(source) => Err(VolumeError::SetUp { name: volume.name.clone(), source: Box::new(source) }),
        })
        .collect()
}

/// What [`update`] did.
#[derive(Debug, Default)]
pub struct Updated {
    /// Volumes whose files changed.
    pub changed: Vec<String>,
    /// Volumes that could not be brought up to date (an object that was deleted, a
    /// full disk): their old files stay.
    pub failed: Vec<VolumeError>,
}

/// Brings the volumes that we write, of a pod that was set up, to the present state
/// of objects, tokens, labels and annotations. `pod` is the pod as it is wanted now.
pub fn update(pod: &PodDesired, roots: &Roots, sources: &Sources<'_>) -> Updated {
    let mut updated = Updated::default();
    for volume in pod.volumes.iter().filter(|volume| is_written(&volume.source)) {
        let Some(path) = roots.volume(&pod.uid, &volume.name, &volume.source) else { continue };
        match write(pod, volume, &path, sources) {
            Ok(true) => updated.changed.push(volume.name.clone()),
            Ok(false) => {}
            Err(source) => {
                updated.failed.push(VolumeError::SetUp { name: volume.name.clone(), source: Box::new(source) });
            }
        }
    }
    updated
}

/// The pod's own folder, 0750 like the kubelet's.
pub(crate) fn pod_folder(pod: &PodDesired, roots: &Roots) -> Result<PathBuf, VolumeError> {
    let path = roots.pod(&pod.uid);
    make_private(&path)?;
    Ok(path)
}

/// Makes a folder and its parents, 0750.
pub(crate) fn make_private(path: &Path) -> Result<(), VolumeError> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(VolumeError::io("make", path))
}

fn one(pod: &PodDesired, volume: &VolumeDesired, roots: &Roots, sources: &Sources<'_>) -> Result<PathBuf, VolumeError> {
    let path = match (&volume.source, roots.volume(&pod.uid, &volume.name, &volume.source)) {
        (VolumeSource::HostPath { path, kind }, _) => {
            host_path::prepare(path, *kind)?;
            return Ok(path.clone());
        }
        (_, Some(path)) => path,
        (_, None) => return Err(VolumeError::Path { path: volume.name.clone().into(), problem: "has no folder" }),
    };
    match &volume.source {
        VolumeSource::EmptyDir { memory: true, size_limit } => {
            let size = [*size_limit, pod.resources.memory_limit].into_iter().flatten().min();
            tmpfs(&path, size)?;
        }
        VolumeSource::Secret { .. } | VolumeSource::Downward { .. } | VolumeSource::Projected { .. } => {
            tmpfs(&path, None)?;
        }
        VolumeSource::EmptyDir { memory: false, .. }
        | VolumeSource::ConfigMap { .. }
        | VolumeSource::HostPath { .. } => {
            open_folder(&path)?;
        }
    }
    let written = is_written(&volume.source);
    if written && let Err(error) = write(pod, volume, &path, sources) {
        // A pod that has its files goes on with them, even if the API server is away
        // when one of its containers starts again; `update` says what is wrong.
        if !(error.is_missing() && atomic::has_state(&path)) {
            return Err(error);
        }
    }
    if let Some(group) = pod.security.fs_group {
        set_group(&path, group, written)?;
    }
    Ok(path)
}

fn write(pod: &PodDesired, volume: &VolumeDesired, path: &Path, sources: &Sources<'_>) -> Result<bool, VolumeError> {
    let payload = payload(pod, &volume.source, sources)?;
    atomic::write(path, &payload, pod.security.fs_group, Timestamp::now())
}

/// A folder that any user of the pod may write to (0777, whatever the umask).
/// One that is there keeps what a container or fsGroup made of its mode; so that
/// a crash between mkdir and chmod is not taken for that, it gets its name last.
fn open_folder(path: &Path) -> Result<(), VolumeError> {
    if path.is_dir() {
        return Ok(());
    }
    // Volume names are RFC 1123 labels: none starts with a dot.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = parent(path).join(format!(".{name}"));
    make_private(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o777)).map_err(VolumeError::io("chmod", &fresh))?;
    fs::rename(&fresh, path).map_err(VolumeError::io("rename to", path))
}

fn tmpfs(path: &Path, size_bytes: Option<u64>) -> Result<(), VolumeError> {
    open_folder(path)?;
    if is_mounted(path)? {
        return Ok(());
    }
    crate::mount::tmpfs(path, size_bytes)
}

/// Whether a file system of its own is mounted there.
fn is_mounted(path: &Path) -> Result<bool, VolumeError> {
    let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev()).map_err(VolumeError::io("stat", path));
    Ok(device(path)? != device(parent(path))?)
}
