//! Standalone mode's source: a folder of manifests.

mod folder;
mod parse;
mod set;
mod watch;

pub(crate) use set::{ManifestSet, PodManifest};
pub(crate) use watch::watch_folder;
