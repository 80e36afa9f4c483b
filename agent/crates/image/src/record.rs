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
    /// `REGISTRY/REPOSITORY@DIGEST` as registries knew it when it was pulled: the digest of
    /// what the name stood for, an index where there is one. Empty when it was only loaded.
    #[serde(default)]
    pub repo_digests: BTreeSet<Reference>,
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

    /// What a container's `imageID` says: the image as the registry of `asked` knows it,
    /// else as another does, else its id.
    #[must_use]
    pub fn image_id(&self, asked: &Reference) -> String {
        let same_place =
            |known: &&Reference| known.registry() == asked.registry() && known.repository() == asked.repository();
        let exact = asked.digest().and_then(|digest| self.repo_digests.get(&asked.at(digest)));
        let found = exact.or_else(|| self.repo_digests.iter().find(same_place)).or_else(|| self.repo_digests.first());
        found.map_or_else(|| self.id.to_string(), Reference::to_string)
    }

    /// Whether a container with this `imageID` runs it.
    #[must_use]
    pub fn is_image_id(&self, image_id: &str) -> bool {
        self.id.to_string() == image_id || self.repo_digests.iter().any(|known| known.to_string() == image_id)
    }

    /// Whether `digest` is its manifest's or one of the others.
    #[must_use]
    pub fn has_digest(&self, digest: Digest) -> bool {
        self.digest == digest || self.other_digests.contains(&digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_ids() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let (index, manifest) = (digest("index"), digest("manifest"));
        let at = |name: &str, digest| Reference::parse(name).unwrap().at(digest);
        let record = |repo_digests: &[Reference]| ImageRecord {
            id: digest("configuration"),
            names: BTreeSet::new(),
            digest: manifest,
            other_digests: BTreeSet::new(),
            repo_digests: repo_digests.iter().cloned().collect(),
            size: 0,
            unpacked_size: 0,
            layers: Vec::new(),
            created: None,
            config: ImageConfig::default(),
        };
        let pulled = record(&[at("a/b", index), at("r.example/b", index), at("a/b", manifest)]);
        let check = |record: &ImageRecord, asked: &str, want: &[String]| {
            let found = record.image_id(&Reference::parse(asked).unwrap());
            assert!(want.contains(&found), "{asked}: {found}");
            assert!(record.is_image_id(&found), "{asked}");
        };
        check(&record(&[]), "a/b:1", &[digest("configuration").to_string()]);
        check(&pulled, "r.example/b:1", &[format!("r.example/b@{index}")]);
        check(&pulled, &format!("a/b@{manifest}"), &[format!("docker.io/a/b@{manifest}")]);
        check(&pulled, &format!("a/b@{index}"), &[format!("docker.io/a/b@{index}")]);
        check(&pulled, "a/b:1", &[format!("docker.io/a/b@{index}"), format!("docker.io/a/b@{manifest}")]);
        check(&record(&[at("a/b", index)]), "elsewhere.example/b:1", &[format!("docker.io/a/b@{index}")]);
        assert!(!pulled.is_image_id("docker.io/a/b:1"));
    }
}
