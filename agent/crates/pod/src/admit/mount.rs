//! Where containers mount volumes.

use super::name;
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::VolumeMount as ApiMount;
use orlop_model::{MountPropagation, VolumeMount};
use std::collections::HashSet;
use std::path::PathBuf;

/// One container's mounts. `volumes` are the names that `spec.volumes` has,
/// those in error included.
pub(super) fn mounts(
    path: &Path,
    api: &[ApiMount],
    volumes: &[&str],
    privileged: bool,
    out: &mut Findings,
) -> Vec<VolumeMount> {
    let mut targets = HashSet::new();
    let mut mounts = Vec::new();
    for (index, mount) in api.iter().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            out.required(&path.child("name"), "");
        } else if !volumes.contains(&mount.name.as_str()) {
            out.not_found(&path.child("name"), &mount.name);
        }
        let target = path.child("mountPath");
        if mount.mount_path.is_empty() {
            out.required(&target, "");
        } else if !targets.insert(mount.mount_path.as_str()) {
            out.invalid(&target, &mount.mount_path, "must be unique");
        } else if mount.mount_path.contains(':') {
            out.invalid(&target, &mount.mount_path, "must not contain ':'");
        } else {
            name::no_back_steps(&target, &mount.mount_path, out);
        }
        let sub_path = mount.sub_path.as_deref().filter(|text| !text.is_empty());
        if let Some(text) = sub_path {
            name::relative_path(&path.child("subPath"), text, out);
        }
        let sub_path_expr = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
        if let Some(text) = sub_path_expr {
            if sub_path.is_some() {
                out.invalid(&path.child("subPathExpr"), text, "subPathExpr and subPath are mutually exclusive");
            }
            name::relative_path(&path.child("subPathExpr"), text, out);
        }
        recursive_read_only(&path.child("recursiveReadOnly"), mount, out);
        // The kubelet takes a relative path from the root.
        let slash = if mount.mount_path.starts_with('/') { "" } else { "/" };
        mounts.push(VolumeMount {
            volume: mount.name.clone(),
            mount_path: PathBuf::from(format!("{slash}{}", mount.mount_path)),
            sub_path: sub_path.map(PathBuf::from),
            sub_path_expr: sub_path_expr.map(str::to_owned),
            read_only: mount.read_only.unwrap_or(false),
            propagation: propagation(&path.child("mountPropagation"), mount, privileged, out),
        });
    }
    mounts
}

fn recursive_read_only(path: &Path, mount: &ApiMount, out: &mut Findings) {
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("IfPossible") => out.warn(path, "mounts below the volume stay writable: not supported by Orlop yet"),
        Some("Enabled") => out.not_yet(path),
        Some(other) => out.unsupported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn propagation(path: &Path, mount: &ApiMount, privileged: bool, out: &mut Findings) -> MountPropagation {
    match mount.mount_propagation.as_deref() {
        None | Some("None") => MountPropagation::None,
        Some("HostToContainer") => MountPropagation::HostToContainer,
        Some("Bidirectional") => {
            if !privileged {
                out.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
            }
            MountPropagation::Bidirectional
        }
        Some(other) => {
            out.unsupported(path, other, &["Bidirectional", "HostToContainer", "None"]);
            MountPropagation::None
        }
    }
}
