//! How much an image may ask for. Each limit has a typed error when it is hit.

/// Bytes of an index, a manifest or a configuration. containerd refuses manifests above 8 MiB too.
pub const MANIFEST_BYTES_MAX: u64 = 8 << 20;
/// Layers of one image: overlayfs stacks at most 500 lower folders (`OVL_MAX_STACK`, fs/overlayfs/params.h).
pub const LAYERS_MAX: usize = 500;
/// Bytes of one layer once unpacked.
pub const LAYER_BYTES_MAX: u64 = 64 << 30;
/// Files, folders and links of one layer.
pub const LAYER_ENTRIES_MAX: u64 = 4_000_000;
/// Entries of an archive that holds an image: blobs, not files.
pub const ARCHIVE_ENTRIES_MAX: usize = 10_000;
/// Images in one archive or layout.
pub const ARCHIVE_IMAGES_MAX: usize = 1_000;
/// Levels of indexes inside indexes.
pub const INDEX_DEPTH_MAX: usize = 4;
/// Hops from one link of an archive to the next.
pub const ARCHIVE_LINKS_MAX: usize = 8;
