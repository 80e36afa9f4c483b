//! The parts of OCI's and Docker's image documents that Orlop reads.
//!
//! Slim and forgiving types of our own: writers leave fields out or put `null`
//! where the specification has none of it.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Annotation with the full name, written by containerd and BuildKit.
pub(crate) const NAME_CONTAINERD: &str = "io.containerd.image.name";
/// OCI's annotation: a full name or only a tag.
pub(crate) const NAME_OCI: &str = "org.opencontainers.image.ref.name";

/// Points at a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub annotations: Option<BTreeMap<String, String>>,
    pub platform: Option<Platform>,
}

/// What a manifest runs on.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Platform {
    pub architecture: String,
    pub os: String,
    pub variant: Option<String>,
}

/// An index or a manifest: OCI tells them apart by media type, which may be
/// missing, so both are read as one and told apart by content.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    pub manifests: Option<Vec<Descriptor>>,
    pub config: Option<Descriptor>,
    pub layers: Option<Vec<Descriptor>>,
}

/// One image of a `docker save` archive's `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// An image's configuration.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Configuration {
    pub architecture: Option<String>,
    pub os: Option<String>,
    pub created: Option<String>,
    pub config: Option<Process>,
    pub rootfs: RootFs,
}

/// Layers, lowest first.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RootFs {
    pub diff_ids: Option<Vec<String>>,
}

/// What to run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Process {
    pub user: Option<String>,
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    pub working_dir: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub stop_signal: Option<String>,
}

/// This machine in OCI's (that is Go's) words.
pub(crate) fn this_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Platform {
    /// Whether this machine runs it. A variant such as `v8` or `v2` is a refinement
    /// that every arm64 has and that few amd64 images use: the plain one is preferred.
    pub(crate) fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == this_architecture()
    }
}
