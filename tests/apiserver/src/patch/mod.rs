//! The four ways to say a change.

mod apply;
mod json;
mod merge;
mod schema;
mod strategic;

pub(crate) use apply::{Conflict, Owners, apply, note_update};
pub(crate) use json::json_patch;
pub(crate) use merge::merge_patch;
pub(crate) use strategic::strategic_merge;

use serde_json::Value;

/// A change to an object, as its content type says it.
#[derive(Debug, Clone)]
pub enum Patch {
    /// `application/merge-patch+json`, RFC 7386.
    Merge(Value),
    /// `application/json-patch+json`, RFC 6902.
    Json(Value),
    /// `application/strategic-merge-patch+json`.
    Strategic(Value),
    /// `application/apply-patch+yaml`.
    Apply {
        /// What the manager wants, whole.
        object: Value,
        /// `fieldManager`.
        manager: String,
        /// Whether fields of other managers are taken over.
        force: bool,
    },
}
