//! Projected and downward-API volumes.

use super::volume::{FILE_MODE_DEFAULT, items, mode};
use super::{env, name};
use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, ProjectedVolumeSource, ServiceAccountTokenProjection,
    VolumeProjection,
};
use orlop_model::{DownwardFile, DownwardSource, Projection, TokenAsk, VolumeSource};
use std::collections::HashSet;
use std::path::{Path as FilePath, PathBuf};

/// The API server's default (SetDefaults_ServiceAccountTokenProjection) and bounds.
const TOKEN_SECS_DEFAULT: u64 = 3600;
const TOKEN_SECS_MIN: i64 = 600;
const TOKEN_SECS_MAX: i64 = 1 << 32;

/// Downward-API paths for files; besides them one label or annotation.
const FIELD_PATHS: [&str; 5] =
    ["metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid"];

/// `volumes[].downwardAPI`.
pub(super) fn downward_volume(
    path: &Path,
    api: &DownwardAPIVolumeSource,
    containers: &[&str],
    out: &mut Findings,
) -> VolumeSource {
    let default_mode = mode(&path.child("defaultMode"), api.default_mode, out).unwrap_or(FILE_MODE_DEFAULT);
    let files = api.items.as_deref().unwrap_or_default();
    VolumeSource::Downward { items: downward_files(&path.child("items"), files, containers, out), default_mode }
}

/// `volumes[].projected`.
pub(super) fn volume(
    path: &Path,
    api: &ProjectedVolumeSource,
    containers: &[&str],
    out: &mut Findings,
) -> VolumeSource {
    let default_mode = mode(&path.child("defaultMode"), api.default_mode, out).unwrap_or(FILE_MODE_DEFAULT);
    let mut paths = HashSet::new();
    let mut sources = Vec::new();
    for (index, source) in api.sources.iter().flatten().enumerate() {
        let path = path.child("sources").index(index);
        let Some(source) = one(&path, source, containers, out) else { continue };
        for taken in named(&source) {
            if !paths.insert(taken.to_owned()) {
                // Paths are only known up front where items name them; elsewhere the later source wins.
                out.invalid(&path, taken.display().to_string(), "conflicting duplicate paths");
            }
        }
        sources.push(source);
    }
    VolumeSource::Projected { sources, default_mode }
}

fn named(source: &Projection) -> Vec<&FilePath> {
    match source {
        Projection::ConfigMap { items, .. } | Projection::Secret { items, .. } => {
            items.iter().map(|item| item.path.as_path()).collect()
        }
        Projection::Downward { items } => items.iter().map(|item| item.path.as_path()).collect(),
        Projection::Token { path, ask: _ } => vec![path],
    }
}

fn one(path: &Path, api: &VolumeProjection, containers: &[&str], out: &mut Findings) -> Option<Projection> {
    let VolumeProjection {
        cluster_trust_bundle,
        config_map,
        downward_api,
        pod_certificate,
        secret,
        service_account_token,
    } = api;
    for (field, given) in
        [("clusterTrustBundle", cluster_trust_bundle.is_some()), ("podCertificate", pod_certificate.is_some())]
    {
        if given {
            out.not_yet(&path.child(field));
            return None;
        }
    }
    let given = [config_map.is_some(), downward_api.is_some(), secret.is_some(), service_account_token.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        out.forbidden(path, "may not specify more than 1 volume type");
        return None;
    }
    let required = |path: &Path, text: &str, out: &mut Findings| {
        if text.is_empty() {
            out.required(path, "");
        }
    };
    if let Some(api) = config_map {
        let path = path.child("configMap");
        required(&path.child("name"), &api.name, out);
        let items = items(&path.child("items"), api.items.as_deref().unwrap_or_default(), out);
        return Some(Projection::ConfigMap { name: api.name.clone(), items, optional: api.optional.unwrap_or(false) });
    }
    if let Some(api) = secret {
        let path = path.child("secret");
        required(&path.child("name"), &api.name, out);
        let items = items(&path.child("items"), api.items.as_deref().unwrap_or_default(), out);
        return Some(Projection::Secret { name: api.name.clone(), items, optional: api.optional.unwrap_or(false) });
    }
    if let Some(api) = downward_api {
        let path = path.child("downwardAPI").child("items");
        let items = downward_files(&path, api.items.as_deref().unwrap_or_default(), containers, out);
        return Some(Projection::Downward { items });
    }
    // A source that is none of these is passed over, by the kubelet too.
    Some(token(&path.child("serviceAccountToken"), service_account_token.as_ref()?, out))
}

fn token(path: &Path, api: &ServiceAccountTokenProjection, out: &mut Findings) -> Projection {
    name::relative_path(&path.child("path"), &api.path, out);
    let at = path.child("expirationSeconds");
    let expiration_secs = match api.expiration_seconds {
        None => TOKEN_SECS_DEFAULT,
        Some(secs) => {
            if secs < TOKEN_SECS_MIN {
                out.invalid(&at, secs, "may not specify a duration less than 10 minutes");
            } else if secs > TOKEN_SECS_MAX {
                out.invalid(&at, secs, "may not specify a duration larger than 2^32 seconds");
            }
            u64::try_from(secs).unwrap_or(TOKEN_SECS_DEFAULT)
        }
    };
    let audience = api.audience.clone().filter(|text| !text.is_empty());
    Projection::Token { path: PathBuf::from(&api.path), ask: TokenAsk { audience, expiration_secs } }
}

fn downward_files(
    path: &Path,
    api: &[DownwardAPIVolumeFile],
    containers: &[&str],
    out: &mut Findings,
) -> Vec<DownwardFile> {
    let mut files = Vec::new();
    for (index, file) in api.iter().enumerate() {
        let path = path.index(index);
        name::relative_path(&path.child("path"), &file.path, out);
        let mode = mode(&path.child("mode"), file.mode, out);
        let source = downward_source(&path, file, containers, out);
        files.extend(source.map(|source| DownwardFile { path: PathBuf::from(&file.path), source, mode }));
    }
    files
}

fn downward_source(
    path: &Path,
    api: &DownwardAPIVolumeFile,
    containers: &[&str],
    out: &mut Findings,
) -> Option<DownwardSource> {
    match (&api.field_ref, &api.resource_field_ref) {
        (Some(_), Some(_)) => {
            out.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            None
        }
        (Some(field), None) => {
            let path = path.child("fieldRef").child("fieldPath");
            env::field_path(&path, &field.field_path, &FIELD_PATHS, out).map(DownwardSource::Field)
        }
        (None, Some(selector)) => {
            let path = path.child("resourceFieldRef");
            if selector.container_name.as_deref().is_none_or(str::is_empty) {
                out.required(&path.child("containerName"), "");
            }
            let (container, resource, divisor) = env::resource_source(&path, selector, containers, out)?;
            Some(DownwardSource::Resource { container: container?, resource, divisor })
        }
        (None, None) => {
            out.required(path, "one of fieldRef and resourceFieldRef is required");
            None
        }
    }
}
