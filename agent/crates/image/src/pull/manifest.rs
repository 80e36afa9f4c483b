//! What a registry's documents say: which image is for this machine, which blobs it has.

use crate::limits::{LAYER_BYTES_MAX, LAYERS_MAX};
use crate::oci::this_architecture;
use crate::{Digest, PullError};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, ImageIndexEntry, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciManifest, Platform,
};

/// Every form of manifest and index that is understood, for `Accept`.
pub(super) const ACCEPT: [&str; 4] =
    [OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE];

/// A blob that a manifest points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub digest: Digest,
    pub size: u64,
}

/// What a document turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// An image.
    Image { config: Blob, layers: Vec<Blob> },
    /// Go on with this manifest, the best of an index.
    Choose(Blob),
}

/// This machine, as an index names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub architecture: &'static str,
    /// Levels of the architecture that it has, the one that everything has first,
    /// then the highest.
    pub variants: Vec<&'static str>,
}

impl Machine {
    pub(super) fn this() -> Self {
        let architecture = this_architecture();
        let variants = match architecture {
            "amd64" => amd64_levels(),
            "arm64" => vec!["v8"],
            _ => Vec::new(),
        };
        Self { architecture, variants }
    }

    /// How well an image for this platform fits: lower is better, `None` not at all.
    /// The plain one is taken before a special one, as containerd does.
    fn rank(&self, platform: &Platform) -> Option<usize> {
        let ours = platform.os.to_string() == "linux" && platform.architecture.to_string() == self.architecture;
        match platform.variant.as_deref() {
            _ if !ours => None,
            None | Some("") => Some(0),
            Some(variant) => self.variants.iter().position(|known| *known == variant).map(|at| at + 1),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn amd64_levels() -> Vec<&'static str> {
    // The psABI's levels by features that only they have.
    let v2 = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
    let v3 =
        v2 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("fma");
    let levels = [("v1", true), ("v3", v3), ("v2", v2)];
    levels.into_iter().filter_map(|(level, has)| has.then_some(level)).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_levels() -> Vec<&'static str> {
    Vec::new()
}

/// Reads a manifest or an index.
pub(super) fn read(bytes: &[u8], machine: &Machine) -> Result<Document, PullError> {
    let unsupported = |problem: String| PullError::Unsupported { problem };
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| unsupported(format!("its manifest is no JSON: {error}")))?;
    match value.get("schemaVersion").and_then(serde_json::Value::as_u64) {
        Some(2) => {}
        Some(version) => {
            return Err(unsupported(format!(
                "its manifest has schema version {version}; push it again with a newer tool"
            )));
        }
        None => return Err(unsupported("its manifest has no schemaVersion".to_owned())),
    }
    // One document that reads as both could be verified as the one and run as the other (CVE-2021-41190).
    if value.get("manifests").is_some() && (value.get("layers").is_some() || value.get("config").is_some()) {
        return Err(unsupported("its manifest is an image and an index at once".to_owned()));
    }
    match serde_json::from_value(value) {
        Ok(OciManifest::ImageIndex(index)) => choose(&index.manifests, machine).map(Document::Choose),
        Ok(OciManifest::Image(image)) => {
            if image.layers.len() > LAYERS_MAX {
                return Err(unsupported(format!("it has {} layers, more than {LAYERS_MAX}", image.layers.len())));
            }
            let layers = image.layers.iter().map(layer).collect::<Result<_, _>>()?;
            Ok(Document::Image { config: blob(&image.config.digest, image.config.size)?, layers })
        }
        Err(_) => Err(unsupported("its manifest is neither an image manifest nor an index".to_owned())),
    }
}

fn choose(entries: &[ImageIndexEntry], machine: &Machine) -> Result<Blob, PullError> {
    let rank = |entry: &ImageIndexEntry| match &entry.platform {
        Some(platform) => machine.rank(platform),
        // It says nothing: its configuration will.
        None => Some(usize::MAX),
    };
    let best = entries.iter().filter_map(|entry| Some((rank(entry)?, entry))).min_by_key(|(rank, _)| *rank);
    if let Some((_, entry)) = best {
        return blob(&entry.digest, entry.size);
    }
    let mut offered: Vec<String> = entries.iter().filter_map(|entry| entry.platform.as_ref()).map(name).collect();
    // Attestations hang on platform unknown/unknown.
    offered.retain(|platform| !platform.starts_with("unknown/"));
    offered.sort();
    offered.dedup();
    let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
    let wanted = format!("linux/{}", machine.architecture);
    Err(PullError::NoPlatform { wanted, offered })
}

fn name(platform: &Platform) -> String {
    match platform.variant.as_deref() {
        None | Some("") => format!("{}/{}", platform.os, platform.architecture),
        Some(variant) => format!("{}/{}/{variant}", platform.os, platform.architecture),
    }
}

fn layer(descriptor: &OciDescriptor) -> Result<Blob, PullError> {
    let kind = descriptor.media_type.as_str();
    let unsupported = |problem: &str| {
        Err(PullError::Unsupported { problem: format!("layer {} (media type {kind:?}) {problem}", descriptor.digest) })
    };
    if kind.contains("foreign")
        || kind.contains("nondistributable")
        || descriptor.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    {
        return unsupported("may not be distributed by registries; build the image without it");
    }
    if kind.ends_with("+encrypted") {
        return unsupported("is encrypted");
    }
    let known = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];
    let Some(packing) = known.iter().find_map(|known| kind.strip_prefix(known)) else {
        return unsupported("is no file system layer: this is an artifact, not an image to run");
    };
    // Which of the three it is, its first bytes say.
    if !matches!(packing, "" | "+gzip" | ".gzip" | "+zstd" | ".zstd") {
        return unsupported("is packed in a way that is not understood");
    }
    blob(&descriptor.digest, descriptor.size)
}

fn blob(digest: &str, size: i64) -> Result<Blob, PullError> {
    let unsupported = |problem: String| PullError::Unsupported { problem };
    let digest = Digest::parse(digest).map_err(|error| unsupported(error.to_string()))?;
    let limit = |size: &u64| *size <= LAYER_BYTES_MAX;
    let checked = u64::try_from(size).ok().filter(limit);
    let size = checked.ok_or_else(|| {
        unsupported(format!("{digest} has a size of {size}, which is not between 0 and {LAYER_BYTES_MAX}"))
    })?;
    Ok(Blob { digest, size })
}

#[cfg(test)]
mod tests;
