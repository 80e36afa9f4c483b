//! OCI images: loaded, verified, unpacked once, mounted.
//!
//! ```text
//! layout folder │ layout tar │ docker save tar        (later: a registry)
//!        └──────────┬───────────┘
//!              find images ── names, manifest for this machine
//!                   │ blob → digest → decompress → diff id → files
//!                   ▼
//!   ImageStore: layers/DIFFID/ + records/ID.json ── resolve(name) ── ImageRecord
//!                   │ overlayfs
//!                   ▼
//!   Rootfs: CONTAINER_DIR/rootfs
//! ```
//!
//! The store is the seam for registries: a source that pulls gives
//! [`ImageStore`] the same blobs that an archive does. Until there is one, an
//! image that was not loaded is [`ImageError::NotPresent`].
//!
//! All calls block; an async caller runs them on a blocking thread.
#![forbid(unsafe_code)]

mod archive;
pub mod build;
mod digest;
mod error;
mod find;
mod folder;
mod layer;
pub mod limits;
mod load;
mod oci;
mod record;
mod reference;
mod rootfs;
mod store;

pub use digest::Digest;
pub use error::ImageError;
pub use folder::FolderImport;
pub use record::{ImageConfig, ImageRecord};
pub use reference::Reference;
pub use rootfs::{RootAccess, Rootfs};
pub use store::{ImageStore, Removed};
