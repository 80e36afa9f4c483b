//! OCI images: loaded or pulled, verified, unpacked once, mounted.
//!
//! ```text
//! layout folder │ layout tar │ docker save tar │ registry (Puller)
//!        └──────────────────┬────────────────────────┘
//!              find images ── names, manifest for this machine
//!                   │ blob → digest → decompress → diff id → files
//!                   ▼
//!   ImageStore: layers/DIFFID/ + records/ID.json ── resolve(name) ── ImageRecord
//!                   │ overlayfs
//!                   ▼
//!   Rootfs: CONTAINER_DIR/rootfs
//! ```
//!
//! A pull is decided by [`decide_pull`], [`PullBackoff`] and [`PullEvent`], which are
//! pure, with the credentials of a [`Keyring`], and done by a [`Puller`], which is
//! async. All other calls block; an async caller runs them on a blocking thread.
#![forbid(unsafe_code)]

mod archive;
pub mod build;
mod digest;
mod error;
mod find;
mod folder;
mod hosts;
mod keyring;
mod layer;
pub mod limits;
mod load;
mod oci;
mod policy;
mod pull;
mod record;
mod reference;
mod rootfs;
mod store;

pub use digest::Digest;
pub use error::ImageError;
pub use folder::FolderImport;
pub use keyring::{Credential, Keyring, node_credential_files};
pub use policy::{
    PULL_BACKOFF_MS_MAX, PULL_BACKOFF_MS_MIN, PullBackoff, PullDecision, PullEvent, backoff_waiting_message,
    decide_pull,
};
pub use pull::{Answer, LayerPhase, LayerProgress, Pull, PullError, PullOptions, PullProgress, Pulled, Puller};
pub use record::{ImageConfig, ImageRecord};
pub use reference::Reference;
pub use rootfs::{RootAccess, Rootfs};
pub use store::{ImageStore, Removed};
