//! Takes a pod's folder down.

use crate::roots::SUB_PATHS;
use crate::{Roots, TearDownError, VolumeError, folder, mount};
use orlop_model::PodUid;
use std::io;
use std::path::{Path, PathBuf};

/// Unmounts what [`crate::set_up`] and [`crate::mount_sources`] mounted and removes
/// the pod's folder. Goes on after a failure. Never follows a link, never touches a
/// hostPath's content, never crosses a mount that is not the pod's own: that one
/// is reported and stays. Doing it twice is no error.
///
/// The pod's containers must have ended: a tmpfs in use would only be detached.
///
/// # Errors
/// Everything that stays, and why.
pub fn tear_down(uid: &PodUid, roots: &Roots) -> Result<(), TearDownError> {
    // Mounts are listed by resolved path. The last part is the UID, made by us and no link.
    let pods = match roots.pods().canonicalize() {
        Ok(pods) => pods,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(TearDownError { errors: vec![VolumeError::io("resolve", &roots.pods())(error)] }),
    };
    let pod = pods.join(uid.as_str());
    let mut errors = Vec::new();
    match mount::below(&pod) {
        Ok(mounts) => unmount_own(&pod, &pod.join(SUB_PATHS), &mounts, &mut errors),
        Err(error) => errors.push(error),
    }
    errors.extend(folder::remove(&pod));
    if errors.is_empty() { Ok(()) } else { Err(TearDownError { errors }) }
}

/// Unmounts the newest first: every bind below `volume-subpaths`, and the tmpfs of
/// volumes in memory unless something foreign is mounted inside.
fn unmount_own(pod: &Path, sub_paths: &Path, mounts: &[mount::Seen], errors: &mut Vec<VolumeError>) {
    let foreign: Vec<&PathBuf> =
        mounts.iter().filter(|seen| !is_own(pod, sub_paths, seen)).map(|seen| &seen.target).collect();
    for seen in mounts.iter().rev() {
        let own = is_own(pod, sub_paths, seen);
        let blocked = foreign.iter().any(|path| path.starts_with(&seen.target) && **path != seen.target);
        if own
            && !blocked
            && let Err(error) = mount::unmount(&seen.target)
        {
            errors.push(error);
        }
    }
}

/// Plugins whose volumes are, or can be, a tmpfs.
const MEMORY_BACKED: [&str; 4] =
    ["kubernetes.io~empty-dir", "kubernetes.io~secret", "kubernetes.io~downward-api", "kubernetes.io~projected"];

fn is_own(pod: &Path, sub_paths: &Path, seen: &mount::Seen) -> bool {
    if seen.target.starts_with(sub_paths) {
        return true;
    }
    // volumes/PLUGIN/NAME
    let below = seen.target.strip_prefix(pod.join("volumes")).ok();
    let plugin = below.and_then(|below| below.iter().next());
    seen.fs_type == "tmpfs"
        && below.is_some_and(|below| below.iter().count() == 2)
        && plugin.is_some_and(|plugin| MEMORY_BACKED.iter().any(|known| plugin == *known))
}
