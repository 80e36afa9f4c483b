//! Standalone mode's source: a folder of manifests.

mod folder;
mod parse;
mod set;
mod watch;

pub(crate) use parse::Problem;
pub(crate) use set::{ManifestSet, files_of};
pub(crate) use watch::watch_folder;
