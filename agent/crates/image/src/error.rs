//! What can go wrong with an image.

use crate::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with an image, with what it was about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The image was neither loaded nor pulled.
    #[error(
        "image {image} is not on this node: get it with `orlop pull {image}`, or load it with `orlop load PATH` (an OCI \
         layout or a `docker save` archive)"
    )]
    NotPresent {
        /// As the pod wrote it.
        image: String,
    },
    /// Not an image reference.
    #[error("image reference {text:?} {problem}")]
    Reference {
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Not `sha256:HEX`.
    #[error("digest {text:?} is not sha256: and 64 lower-case hexadecimal digits")]
    Digest {
        /// The text.
        text: String,
    },
    /// Neither a layout nor an archive.
    #[error("{path} is no image: {problem}; give an OCI layout folder, an OCI layout tar or a `docker save` tar")]
    NotAnImage {
        /// What was given.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// A file of the archive is missing.
    #[error("{path} is incomplete: {entry} is missing; make or copy the archive again")]
    Missing {
        /// The archive.
        path: PathBuf,
        /// Path inside it.
        entry: String,
    },
    /// JSON inside the archive is not what it should be.
    #[error("{path} is damaged: {entry} does not parse; make or copy the archive again")]
    Json {
        /// The archive.
        path: PathBuf,
        /// Path inside it.
        entry: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A blob's content is not what its name says.
    #[error("{path} is damaged: {what} should be {want} but is {got}; make or copy the archive again")]
    Mismatch {
        /// The archive.
        path: PathBuf,
        /// "blob", "size of blob", "unpacked layer".
        what: &'static str,
        /// Digest or size asked for.
        want: String,
        /// Digest or size found.
        got: String,
    },
    /// The image is well-formed and not for us.
    #[error("{path} cannot be used: {problem}")]
    Unsupported {
        /// The archive.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// One of the limits was hit.
    #[error("{path} is refused: {what} is above the limit of {max}")]
    Limit {
        /// The archive or folder.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// An entry of a layer would leave the layer or harm the overlay.
    #[error("layer {layer} is refused: entry {entry:?} {problem}")]
    Hostile {
        /// Diff id.
        layer: Digest,
        /// Path in the layer.
        entry: String,
        /// What it tries.
        problem: &'static str,
    },
    /// A layer did not unpack.
    #[error("unpack layer {layer}, entry {entry:?}")]
    Unpack {
        /// Diff id.
        layer: Digest,
        /// Path in the layer; empty between entries.
        entry: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space left at {path} for {what}: free some or move --state-dir, then load the image again")]
    NoSpace {
        /// Where was written.
        path: PathBuf,
        /// What was written: a layer's diff id, a record, a copy of an archive.
        what: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A container still uses the image.
    #[error("image {image} is in use; remove the pods that run it first")]
    InUse {
        /// Its id.
        image: Digest,
    },
    /// Several images, one name.
    #[error(
        "{path} holds {count} images and --name {name} can name only one of them: give a name without a tag, or none"
    )]
    NameAmbiguous {
        /// The archive.
        path: PathBuf,
        /// The name given.
        name: String,
        /// How many images there are.
        count: usize,
    },
    /// A file operation of the store or of an archive.
    #[error("{action} {path}")]
    Io {
        /// "open", "read", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount of a container's root.
    #[error("mount root filesystem at {path}")]
    Mount {
        /// Mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A container's root would not go away.
    #[error("unmount root filesystem at {path}")]
    Unmount {
        /// Mount point.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ImageError {
    /// For `map_err`: a file operation, or [`ImageError::NoSpace`] when that is why.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_path_buf();
            if is_full(&source) {
                let what = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                return Self::NoSpace { path, what, source };
            }
            Self::Io { action, path, source }
        }
    }

    /// Whether trying the same again later can help: only when disk space or a
    /// kernel resource was short.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::NoSpace { .. } | Self::Io { .. } | Self::Mount { .. } | Self::Unmount { .. })
    }
}

/// ENOSPC or EDQUOT.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
