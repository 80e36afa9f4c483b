//! What a registry of a test has.

use orlop_image::Digest;
use orlop_image::build::{ImageBuilder, LayerBuilder, Packing, write_layout};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Documents by `REPOSITORY/manifests/NAME`, blobs by digest.
#[derive(Clone, Default)]
pub struct Content {
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// Three layers, one of each packing, the last with `own` in it.
pub fn image(own: &str) -> ImageBuilder {
    let layer = |packing| LayerBuilder::new().packing(packing);
    ImageBuilder {
        layers: vec![
            layer(Packing::Gzip).dir("etc", 0o755).file("etc/base", 0o644, "base"),
            layer(Packing::Zstd).file("zstd", 0o644, "z".repeat(100_000)),
            layer(Packing::Plain).file("own", 0o644, own),
        ],
        ..ImageBuilder::default()
    }
}

impl Content {
    /// One image under one tag.
    pub fn of(repository: &str, tag: &str, image: &ImageBuilder) -> Self {
        let mut content = Self::default();
        content.push(repository, tag, image);
        content
    }

    /// Adds an image and gives its manifest's descriptor.
    pub fn push(&mut self, repository: &str, tag: &str, image: &ImageBuilder) -> Value {
        let dir = tempfile::tempdir().unwrap();
        write_layout(dir.path(), std::slice::from_ref(image)).unwrap();
        for file in std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            self.blobs.insert(Digest::of(&bytes).to_string(), bytes);
        }
        let index: Value = serde_json::from_slice(&std::fs::read(dir.path().join("index.json")).unwrap()).unwrap();
        let descriptor = index["manifests"][0].clone();
        let manifest = self.blobs.remove(descriptor["digest"].as_str().unwrap()).unwrap();
        self.document(repository, tag, OCI_MANIFEST, manifest);
        descriptor
    }

    /// Adds a manifest or an index under its tag and its digest; gives the digest.
    pub fn document(&mut self, repository: &str, tag: &str, kind: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        for name in [tag.to_owned(), digest.to_string()] {
            self.manifests.insert(format!("{repository}/manifests/{name}"), (kind.to_owned(), bytes.clone()));
        }
        digest
    }

    /// Puts an index of these manifests under a tag.
    pub fn index(&mut self, repository: &str, tag: &str, kind: &str, manifests: &[Value]) -> Digest {
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        self.document(repository, tag, kind, index.to_string().into_bytes())
    }

    /// The manifest under a tag.
    pub fn manifest(&self, repository: &str, tag: &str) -> Value {
        serde_json::from_slice(&self.manifests[&format!("{repository}/manifests/{tag}")].1).unwrap()
    }

    /// Digests of the layers under a tag, lowest first.
    pub fn layers(&self, repository: &str, tag: &str) -> Vec<String> {
        let manifest = self.manifest(repository, tag);
        let layers = manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }
}
