//! Takes one image of an archive into the store.

use crate::archive::{Archive, decompress};
use crate::digest::HashingReader;
use crate::error::is_full;
use crate::find::{FoundImage, LayerBlob};
use crate::layer::{self, Cause, UnpackError};
use crate::limits::{LAYER_BYTES_MAX, LAYER_ENTRIES_MAX};
use crate::oci::{Configuration, Process, this_architecture};
use crate::{Digest, ImageConfig, ImageError, ImageRecord, Reference};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where layers go, and where they are unpacked first.
pub(crate) struct Places<'a> {
    pub layers: &'a Path,
    pub scratch: &'a Path,
}

/// Unpacks the layers that are not there yet and describes the image.
pub(crate) fn load_image(
    archive: &Archive,
    image: &FoundImage,
    names: BTreeSet<Reference>,
    places: &Places<'_>,
) -> Result<ImageRecord, ImageError> {
    let bytes = archive.read_small(&image.config_entry)?;
    let id = Digest::of(&bytes);
    if let Some(want) = image.config_digest {
        archive.expect("configuration", want.to_string(), id.to_string())?;
    }
    let configuration: Configuration = archive.parse(&image.config_entry, &bytes)?;
    if let Some(problem) = platform_problem(&configuration) {
        return Err(ImageError::Unsupported { path: archive.path().to_path_buf(), problem });
    }
    let diff_ids = configuration.rootfs.diff_ids.iter().flatten();
    let layers = diff_ids.map(|text| Digest::parse(text)).collect::<Result<Vec<_>, _>>()?;
    archive.expect("number of layers", layers.len().to_string(), image.layers.len().to_string())?;

    let (mut size, mut unpacked_size) = (bytes.len() as u64, 0);
    for (diff_id, blob) in layers.iter().zip(&image.layers) {
        let (packed, unpacked) = ensure_layer(archive, blob, *diff_id, places)?;
        size += packed;
        unpacked_size += unpacked;
    }
    Ok(ImageRecord {
        id,
        names,
        digest: image.digests.first().copied().unwrap_or(id),
        other_digests: image.digests.iter().skip(1).copied().collect(),
        repo_digests: BTreeSet::new(),
        size,
        unpacked_size,
        layers,
        created: configuration.created.as_deref().and_then(|text| text.parse().ok()),
        config: configuration.config.unwrap_or_default().into(),
    })
}

/// Why this machine cannot run an image with that configuration.
pub(crate) fn platform_problem(configuration: &Configuration) -> Option<String> {
    let os = configuration.os.as_deref().filter(|text| !text.is_empty()).unwrap_or("linux");
    let architecture = configuration.architecture.as_deref().filter(|text| !text.is_empty());
    let architecture = architecture.unwrap_or(this_architecture());
    (os != "linux" || architecture != this_architecture())
        .then(|| format!("the image is for {os}/{architecture}, this node is linux/{}", this_architecture()))
}

/// Bytes of an unpacked layer's tar stream, kept beside it.
fn size_file(layers: &Path, diff_id: Digest) -> std::path::PathBuf {
    layers.join(format!("{}.size", diff_id.hex()))
}

/// Has the layer in the store and gives its packed and unpacked size in bytes.
fn ensure_layer(
    archive: &Archive,
    blob: &LayerBlob,
    diff_id: Digest,
    places: &Places<'_>,
) -> Result<(u64, u64), ImageError> {
    let target = places.layers.join(diff_id.hex());
    if target.is_dir() {
        let (_, size) = archive.open_file(&blob.entry)?;
        return Ok((size, unpacked_size(places.layers, diff_id).unwrap_or(size)));
    }
    // Dropped on any error, and with it all that was unpacked.
    let scratch = tempfile::Builder::new()
        .prefix("layer-")
        .tempdir_in(places.scratch)
        .map_err(ImageError::io("make a folder in", places.scratch))?;
    let sizes = unpack_layer(archive, blob, diff_id, scratch.path())?;
    install_layer(scratch, diff_id, sizes.1, places.layers)?;
    Ok(sizes)
}

/// Moves an unpacked layer to its place.
pub(crate) fn install_layer(
    scratch: tempfile::TempDir,
    diff_id: Digest,
    unpacked_size: u64,
    layers: &Path,
) -> Result<(), ImageError> {
    let (target, size_path) = (layers.join(diff_id.hex()), size_file(layers, diff_id));
    fs::write(&size_path, unpacked_size.to_string()).map_err(ImageError::io("write", &size_path))?;
    fs::rename(scratch.path(), &target).map_err(ImageError::io("rename to", &target))?;
    let _moved = scratch.keep();
    Ok(())
}

/// Bytes of the tar stream of a layer that is in the store.
pub(crate) fn unpacked_size(layers: &Path, diff_id: Digest) -> Option<u64> {
    fs::read_to_string(size_file(layers, diff_id)).ok()?.parse().ok()
}

/// Digest and bytes of a layer as it was packed, and of its tar stream.
pub(crate) struct Unpacked {
    pub packed: (Digest, u64),
    pub unpacked: (Digest, u64),
}

/// Reads and unpacks in one pass: blob → digest → decompress → diff id → files.
pub(crate) fn unpack_blob(blob: impl Read, folder: &Path) -> Result<Unpacked, UnpackError> {
    let mut packed = HashingReader::new(blob, LAYER_BYTES_MAX);
    let between = |error: io::Error| UnpackError { entry: String::new(), cause: Cause::Io(error) };
    // tempfile makes 0700; a layer's root that says nothing is 0755.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(between)?;
    let unpacked = {
        let mut unpacked = HashingReader::new(decompress(&mut packed).map_err(between)?, LAYER_BYTES_MAX);
        layer::unpack(&mut unpacked, folder)?;
        unpacked.finish().map_err(between)?
    };
    Ok(Unpacked { packed: packed.finish().map_err(between)?, unpacked })
}

/// Unpacks and checks against what the archive and the configuration promise.
fn unpack_layer(archive: &Archive, blob: &LayerBlob, diff_id: Digest, folder: &Path) -> Result<(u64, u64), ImageError> {
    let (reader, _) = archive.open_file(&blob.entry)?;
    let done = unpack_blob(reader, folder).map_err(|error| layer_error(archive.path(), diff_id, folder, error))?;
    if let Some((digest, size)) = blob.promised {
        archive.expect("size of a layer", size.to_string(), done.packed.1.to_string())?;
        archive.expect("layer", digest.to_string(), done.packed.0.to_string())?;
    }
    archive.expect("unpacked layer", diff_id.to_string(), done.unpacked.0.to_string())?;
    Ok((done.packed.1, done.unpacked.1))
}

/// `origin` is the archive or the image's name.
pub(crate) fn layer_error(origin: &Path, layer: Digest, folder: &Path, error: UnpackError) -> ImageError {
    let limit = |what, max| ImageError::Limit { path: origin.to_path_buf(), what, max };
    let entry = error.entry;
    match error.cause {
        Cause::Hostile(problem) => ImageError::Hostile { layer, entry, problem },
        Cause::TooManyEntries => limit("a layer's number of files", LAYER_ENTRIES_MAX),
        Cause::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
            limit("a layer's size in bytes", LAYER_BYTES_MAX)
        }
        Cause::Io(source) if is_full(&source) => {
            let path = folder.parent().unwrap_or(folder).to_path_buf();
            ImageError::NoSpace { path, what: format!("layer {layer}, file {entry:?}"), source }
        }
        Cause::Io(source) => ImageError::Unpack { layer, entry, source },
    }
}

impl From<Process> for ImageConfig {
    fn from(process: Process) -> Self {
        Self {
            entrypoint: process.entrypoint.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
            env: process.env.unwrap_or_default(),
            user: process.user.unwrap_or_default(),
            working_dir: process.working_dir.unwrap_or_default(),
            exposed_ports: process.exposed_ports.into_iter().flatten().map(|(port, _)| port).collect(),
            volumes: process.volumes.into_iter().flatten().map(|(path, _)| path).collect(),
            stop_signal: process.stop_signal.filter(|text| !text.is_empty()),
            labels: process.labels.unwrap_or_default(),
        }
    }
}
