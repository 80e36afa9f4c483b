//! Finds the images of an archive: which of them are for this machine, what they
//! are called, which blobs they consist of.

use crate::archive::{Archive, blob_name};
use crate::limits::{ARCHIVE_IMAGES_MAX, INDEX_DEPTH_MAX, LAYERS_MAX};
use crate::oci::{Descriptor, DockerImage, Manifest, NAME_CONTAINERD, NAME_OCI, this_architecture};
use crate::reference::is_tag;
use crate::{Digest, ImageError, Reference};
use std::collections::BTreeSet;

/// A layer's blob.
#[derive(Debug, Clone)]
pub(crate) struct LayerBlob {
    /// File in the archive.
    pub entry: String,
    /// Digest and size of the packed blob; a `docker save` archive promises neither.
    pub promised: Option<(Digest, u64)>,
}

/// A name an archive gives to one of its images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GivenName {
    Full(Reference),
    /// The name itself comes from elsewhere.
    Tag(String),
}

/// An image in an archive, not read further than its manifest.
#[derive(Debug, Clone)]
pub(crate) struct FoundImage {
    pub names: BTreeSet<GivenName>,
    /// Manifest first, then the indexes that led to it.
    pub digests: Vec<Digest>,
    /// File with the configuration.
    pub config_entry: String,
    /// Its digest, when the archive promises one.
    pub config_digest: Option<Digest>,
    pub layers: Vec<LayerBlob>,
}

/// All images of the archive that this machine can run, at least one.
pub(crate) fn find(archive: &Archive) -> Result<Vec<FoundImage>, ImageError> {
    let images = if archive.has("index.json") {
        find_oci(archive)?
    } else if archive.has("manifest.json") {
        find_docker(archive)?
    } else {
        let problem = "it has neither index.json nor manifest.json".to_owned();
        return Err(ImageError::NotAnImage { path: archive.path().to_path_buf(), problem });
    };
    let limit = |what, max: usize| ImageError::Limit { path: archive.path().to_path_buf(), what, max: max as u64 };
    if images.len() > ARCHIVE_IMAGES_MAX {
        return Err(limit("its number of images", ARCHIVE_IMAGES_MAX));
    }
    if images.iter().any(|image| image.layers.len() > LAYERS_MAX) {
        return Err(limit("an image's number of layers", LAYERS_MAX));
    }
    Ok(images)
}

fn find_oci(archive: &Archive) -> Result<Vec<FoundImage>, ImageError> {
    let bytes = archive.read_small("index.json")?;
    let index: Manifest = archive.parse("index.json", &bytes)?;
    let mut images: Vec<FoundImage> = Vec::new();
    let mut others = BTreeSet::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let names = given_names(&descriptor)?;
        match descend(archive, &descriptor, Vec::new(), &mut others)? {
            None => {}
            Some(mut image) => match images.iter_mut().find(|seen| seen.digests.first() == image.digests.first()) {
                Some(seen) => seen.names.extend(names),
                None => {
                    image.names = names;
                    images.push(image);
                }
            },
        }
    }
    if images.is_empty() {
        let others = others.into_iter().collect::<Vec<_>>().join(", ");
        let problem = match others.as_str() {
            "" => "it holds no image".to_owned(),
            _ => format!("it holds no image for linux/{}, only for {others}", this_architecture()),
        };
        return Err(ImageError::Unsupported { path: archive.path().to_path_buf(), problem });
    }
    Ok(images)
}

/// Follows indexes down to the manifest for this machine; `above` are the indexes'
/// digests, outermost first. Platforms that were passed over go to `others`.
fn descend(
    archive: &Archive,
    descriptor: &Descriptor,
    above: Vec<Digest>,
    others: &mut BTreeSet<String>,
) -> Result<Option<FoundImage>, ImageError> {
    if let Some(platform) = descriptor.platform.as_ref().filter(|platform| !platform.is_ours()) {
        others.insert(format!("{}/{}", platform.os, platform.architecture));
        return Ok(None);
    }
    let digest = Digest::parse(&descriptor.digest)?;
    let entry = blob_name(digest);
    let bytes = archive.read_blob(digest)?;
    let manifest: Manifest = archive.parse(&entry, &bytes)?;
    if let Some(manifests) = manifest.manifests {
        if above.len() >= INDEX_DEPTH_MAX {
            let what = "its levels of indexes";
            return Err(ImageError::Limit { path: archive.path().to_path_buf(), what, max: INDEX_DEPTH_MAX as u64 });
        }
        let above = [above, vec![digest]].concat();
        for inner in preferred_first(&manifests) {
            if let Some(image) = descend(archive, inner, above.clone(), others)? {
                return Ok(Some(image));
            }
        }
        return Ok(None);
    }
    let unsupported = |problem: &str| {
        let problem = format!("{entry} (media type {:?}) {problem}", descriptor.media_type);
        ImageError::Unsupported { path: archive.path().to_path_buf(), problem }
    };
    let (Some(config), Some(layers)) = (manifest.config, manifest.layers) else {
        return Err(unsupported("is neither an image manifest nor an index"));
    };
    let config_digest = Digest::parse(&config.digest)?;
    let layers = layers
        .iter()
        .map(|layer| {
            let digest = Digest::parse(&layer.digest)?;
            Ok(LayerBlob { entry: blob_name(digest), promised: Some((digest, layer.size)) })
        })
        .collect::<Result<Vec<_>, ImageError>>()?;
    let digests = [vec![digest], above].concat();
    let config_entry = blob_name(config_digest);
    Ok(Some(FoundImage { names: BTreeSet::new(), digests, config_entry, config_digest: Some(config_digest), layers }))
}

/// Manifests that say they are for this machine and need no special variant come
/// first; those that say nothing come last.
fn preferred_first(manifests: &[Descriptor]) -> Vec<&Descriptor> {
    let mut order: Vec<_> = manifests.iter().collect();
    order.sort_by_key(|descriptor| match &descriptor.platform {
        Some(platform) => usize::from(platform.variant.is_some()),
        None => 2,
    });
    order
}

/// `io.containerd.image.name` is always a full name. `org.opencontainers.image.ref.name`
/// is one when it holds '/', ':' or '@'; a bare word is a tag, as containerd reads it.
fn given_names(descriptor: &Descriptor) -> Result<BTreeSet<GivenName>, ImageError> {
    let annotation = |key| descriptor.annotations.as_ref().and_then(|all| all.get(key)).filter(|text| !text.is_empty());
    if let Some(name) = annotation(NAME_CONTAINERD) {
        return Ok(BTreeSet::from([GivenName::Full(Reference::parse(name)?)]));
    }
    Ok(match annotation(NAME_OCI) {
        None => BTreeSet::new(),
        Some(text) if !text.contains(['/', ':', '@']) && is_tag(text) => BTreeSet::from([GivenName::Tag(text.clone())]),
        Some(text) => BTreeSet::from([GivenName::Full(Reference::parse(text)?)]),
    })
}

fn find_docker(archive: &Archive) -> Result<Vec<FoundImage>, ImageError> {
    let bytes = archive.read_small("manifest.json")?;
    let images: Vec<DockerImage> = archive.parse("manifest.json", &bytes)?;
    if images.is_empty() {
        let problem = "it holds no image".to_owned();
        return Err(ImageError::Unsupported { path: archive.path().to_path_buf(), problem });
    }
    images
        .into_iter()
        .map(|image| {
            let names = image.repo_tags.unwrap_or_default();
            let names =
                names.iter().map(|name| Reference::parse(name).map(GivenName::Full)).collect::<Result<_, _>>()?;
            let layers = image.layers.into_iter().map(|entry| LayerBlob { entry, promised: None }).collect();
            // The old form calls the file HEX.json, the new one blobs/sha256/HEX.
            let file = image.config.rsplit('/').next().unwrap_or_default();
            let config_digest = Digest::from_hex(file.strip_suffix(".json").unwrap_or(file));
            Ok(FoundImage { names, digests: Vec::new(), config_entry: image.config, config_digest, layers })
        })
        .collect()
}

/// Decides the names of every image of an archive.
///
/// - `given` (`--name`) names the archive's only image, or, without a tag, is the
///   name that bare tags are put behind;
/// - full names of the archive are taken as they are;
/// - a bare tag, or no name at all, is put behind `stem`, the archive's file name;
///   an unnamed image gets `latest` when it is the only one, else it has no name
///   and is found by its id.
pub(crate) fn name_images(
    given: Option<&str>,
    stem: &str,
    images: &[FoundImage],
    archive: &Archive,
) -> Result<Vec<BTreeSet<Reference>>, ImageError> {
    let base = given.map(Reference::parse).transpose()?;
    let untagged =
        given.is_some_and(|text| !text.contains('@') && !text.rsplit('/').next().unwrap_or("").contains(':'));
    if let Some(base) = &base
        && images.len() > 1
        && (!untagged || images.iter().any(|image| !image.names.iter().any(|n| matches!(n, GivenName::Tag(_)))))
    {
        let (path, name) = (archive.path().to_path_buf(), base.to_string());
        return Err(ImageError::NameAmbiguous { path, name, count: images.len() });
    }
    let stem = Reference::parse(stem).ok();
    images
        .iter()
        .map(|image| {
            let tagged = |tag: &String| base.as_ref().or(stem.as_ref()).map(|base| base.with_tag(tag)).transpose();
            if let Some(base) = &base
                && (!untagged || !image.names.iter().any(|name| matches!(name, GivenName::Tag(_))))
            {
                return Ok(BTreeSet::from([base.clone()]));
            }
            let mut names = BTreeSet::new();
            for name in &image.names {
                match name {
                    GivenName::Full(name) if base.is_none() => names.extend([name.clone()]),
                    GivenName::Full(_) => {}
                    GivenName::Tag(tag) => names.extend(tagged(tag)?),
                }
            }
            if image.names.is_empty() && images.len() == 1 {
                names.extend(stem.clone());
            }
            Ok(names)
        })
        .collect()
}
