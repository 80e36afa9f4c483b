//! What the store remembers about an image.

use crate::{Digest, Reference};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One image on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of the configuration: the image's identity, as Docker and the kubelet show it.
    pub id: Digest,
    /// Names, in full. Empty when another image took the last one.
    pub names: BTreeSet<Reference>,
    /// Digest of the manifest it was loaded from. A `docker save` archive of the
    /// old kind has none; then it is the id.
    pub digest: Digest,
    /// More digests a pod may ask for: of multi-platform indexes and of other
    /// manifests with the same configuration.
    pub other_digests: BTreeSet<Digest>,
    /// Bytes of configuration and layers as they were packed.
    pub size: u64,
    /// Bytes of all layers unpacked (as tar streams).
    pub unpacked_size: u64,
    /// Diff ids of the layers, lowest first.
    pub layers: Vec<Digest>,
    /// When the image was built, if it says so.
    pub created: Option<Timestamp>,
    /// What a container of it runs.
    pub config: ImageConfig,
}

/// What the image says about the process to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Comes before `cmd` in the argument vector.
    pub entrypoint: Vec<String>,
    /// Arguments, or the whole argument vector without an entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty is root.
    pub user: String,
    /// Absolute path; empty is `/`.
    pub working_dir: String,
    /// `80/tcp` each.
    pub exposed_ports: BTreeSet<String>,
    /// Paths the image wants as volumes.
    pub volumes: BTreeSet<String>,
    /// `SIGTERM` or a number; `None` is SIGTERM.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl ImageRecord {
    /// Whether a pod that names `wanted` means this image. A digest decides alone:
    /// it names content, whatever repository it was found in.
    #[must_use]
    pub fn answers_to(&self, wanted: &Reference) -> bool {
        match wanted.digest() {
            Some(digest) => self.has_digest(digest),
            None => self.names.contains(wanted),
        }
    }

    /// Whether `digest` is its manifest's or one of the others.
    #[must_use]
    pub fn has_digest(&self, digest: Digest) -> bool {
        self.digest == digest || self.other_digests.contains(&digest)
    }
}
