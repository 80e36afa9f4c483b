//! Volumes.

use super::{name, projected, resource};
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath as ApiItem, Volume};
use orlop_model::{HostPathType, KeyToPath, VolumeDesired, VolumeSource};
use std::collections::HashSet;
use std::path::PathBuf;

/// The API server's default of `defaultMode`.
pub(super) const FILE_MODE_DEFAULT: u32 = 0o644;

/// `spec.volumes`; those in error are left out.
/// `containers` are the names of all containers, for `resourceFieldRef`.
pub(super) fn volumes(path: &Path, api: &[Volume], containers: &[&str], out: &mut Findings) -> Vec<VolumeDesired> {
    let mut names = HashSet::new();
    let mut volumes = Vec::new();
    for (index, volume) in api.iter().enumerate() {
        let path = path.index(index);
        name::label(&path.child("name"), &volume.name, out);
        if !volume.name.is_empty() && !names.insert(volume.name.as_str()) {
            out.duplicate(&path.child("name"), &volume.name);
        }
        let source = source(&path, volume, containers, out);
        volumes.extend(source.map(|source| VolumeDesired { name: volume.name.clone(), source }));
    }
    volumes
}

/// The kinds that Orlop does not mount yet, by field name. Every field of
/// `Volume` is named here or in `source`, so that a new kind cannot slip through.
fn other_kinds(volume: &Volume) -> Vec<&'static str> {
    let Volume {
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        config_map: _,
        csi,
        downward_api: _,
        empty_dir: _,
        ephemeral,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path: _,
        image,
        iscsi,
        name: _,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        projected: _,
        quobyte,
        rbd,
        scale_io,
        secret: _,
        storageos,
        vsphere_volume,
    } = volume;
    [
        ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
        ("azureDisk", azure_disk.is_some()),
        ("azureFile", azure_file.is_some()),
        ("cephfs", cephfs.is_some()),
        ("cinder", cinder.is_some()),
        ("csi", csi.is_some()),
        ("ephemeral", ephemeral.is_some()),
        ("fc", fc.is_some()),
        ("flexVolume", flex_volume.is_some()),
        ("flocker", flocker.is_some()),
        ("gcePersistentDisk", gce_persistent_disk.is_some()),
        ("gitRepo", git_repo.is_some()),
        ("glusterfs", glusterfs.is_some()),
        ("image", image.is_some()),
        ("iscsi", iscsi.is_some()),
        ("nfs", nfs.is_some()),
        ("persistentVolumeClaim", persistent_volume_claim.is_some()),
        ("photonPersistentDisk", photon_persistent_disk.is_some()),
        ("portworxVolume", portworx_volume.is_some()),
        ("quobyte", quobyte.is_some()),
        ("rbd", rbd.is_some()),
        ("scaleIO", scale_io.is_some()),
        ("storageos", storageos.is_some()),
        ("vsphereVolume", vsphere_volume.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect()
}

fn source(path: &Path, volume: &Volume, containers: &[&str], out: &mut Findings) -> Option<VolumeSource> {
    let mut kinds = other_kinds(volume);
    for kind in &kinds {
        out.not_yet(&path.child(kind));
    }
    let mut found = None;
    let mut take = |kind: &'static str, source: Option<VolumeSource>| {
        kinds.push(kind);
        found = source;
    };
    if let Some(api) = &volume.empty_dir {
        take("emptyDir", empty_dir(&path.child("emptyDir"), api, out));
    }
    if let Some(api) = &volume.host_path {
        take("hostPath", host_path(&path.child("hostPath"), api, out));
    }
    if let Some(api) = &volume.config_map {
        let path = path.child("configMap");
        if api.name.is_empty() {
            out.required(&path.child("name"), "");
        }
        let source = VolumeSource::ConfigMap {
            name: api.name.clone(),
            items: items(&path.child("items"), api.items.as_deref().unwrap_or_default(), out),
            default_mode: mode(&path.child("defaultMode"), api.default_mode, out).unwrap_or(FILE_MODE_DEFAULT),
            optional: api.optional.unwrap_or(false),
        };
        take("configMap", Some(source));
    }
    if let Some(api) = &volume.secret {
        let path = path.child("secret");
        let name = api.secret_name.clone().unwrap_or_default();
        if name.is_empty() {
            out.required(&path.child("secretName"), "");
        }
        let source = VolumeSource::Secret {
            name,
            items: items(&path.child("items"), api.items.as_deref().unwrap_or_default(), out),
            default_mode: mode(&path.child("defaultMode"), api.default_mode, out).unwrap_or(FILE_MODE_DEFAULT),
            optional: api.optional.unwrap_or(false),
        };
        take("secret", Some(source));
    }
    if let Some(api) = &volume.downward_api {
        take("downwardAPI", Some(projected::downward_volume(&path.child("downwardAPI"), api, containers, out)));
    }
    if let Some(api) = &volume.projected {
        take("projected", Some(projected::volume(&path.child("projected"), api, containers, out)));
    }
    match kinds.as_slice() {
        // The API server's default (SetDefaults_Volume).
        [] => Some(VolumeSource::EmptyDir { memory: false, size_limit: None }),
        [_] => found,
        [_, extra @ ..] => {
            for kind in extra {
                out.forbidden(&path.child(kind), "may not specify more than 1 volume type");
            }
            None
        }
    }
}

fn empty_dir(path: &Path, api: &EmptyDirVolumeSource, out: &mut Findings) -> Option<VolumeSource> {
    let size = api.size_limit.as_ref().and_then(|size| resource::quantity(&path.child("sizeLimit"), size, out));
    let size_limit = size.map(|size| size.units()).filter(|bytes| *bytes > 0);
    match api.medium.as_deref().unwrap_or_default() {
        "" => {
            if size_limit.is_some() {
                out.warn(&path.child("sizeLimit"), "not enforced by Orlop yet on a disk");
            }
            Some(VolumeSource::EmptyDir { memory: false, size_limit })
        }
        "Memory" => Some(VolumeSource::EmptyDir { memory: true, size_limit }),
        huge if huge == "HugePages" || huge.starts_with("HugePages-") => {
            out.not_yet(&path.child("medium"));
            None
        }
        other => {
            out.unsupported(&path.child("medium"), other, &["", "HugePages", "Memory"]);
            None
        }
    }
}

fn host_path(path: &Path, api: &HostPathVolumeSource, out: &mut Findings) -> Option<VolumeSource> {
    let at = path.child("path");
    if api.path.is_empty() {
        out.required(&at, "");
    } else if !api.path.starts_with('/') {
        out.invalid(&at, &api.path, "must be an absolute path");
    } else {
        name::no_back_steps(&at, &api.path, out);
    }
    let kind = match api.type_.as_deref().unwrap_or_default() {
        "" => HostPathType::Unset,
        "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
        "Directory" => HostPathType::Directory,
        "FileOrCreate" => HostPathType::FileOrCreate,
        "File" => HostPathType::File,
        "Socket" => HostPathType::Socket,
        "CharDevice" => HostPathType::CharDevice,
        "BlockDevice" => HostPathType::BlockDevice,
        other => {
            let all =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            out.unsupported(&path.child("type"), other, &all);
            return None;
        }
    };
    Some(VolumeSource::HostPath { path: PathBuf::from(&api.path), kind })
}

/// Permission bits.
pub(super) fn mode(path: &Path, api: Option<i32>, out: &mut Findings) -> Option<u32> {
    let value = api?;
    match u32::try_from(value) {
        Ok(bits) if bits <= 0o777 => Some(bits),
        Ok(_) | Err(_) => {
            out.invalid(path, value, "must be a number between 0 and 0777 (octal), both inclusive");
            None
        }
    }
}

/// `items` of a ConfigMap or Secret.
pub(super) fn items(path: &Path, api: &[ApiItem], out: &mut Findings) -> Vec<KeyToPath> {
    let mut items = Vec::new();
    for (index, item) in api.iter().enumerate() {
        let path = path.index(index);
        if item.key.is_empty() {
            out.required(&path.child("key"), "");
        }
        name::relative_path(&path.child("path"), &item.path, out);
        let mode = mode(&path.child("mode"), item.mode, out);
        items.push(KeyToPath { key: item.key.clone(), path: PathBuf::from(&item.path), mode });
    }
    items
}
