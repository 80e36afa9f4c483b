//! Where pods come from.

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Who wants the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// A manifest of the folder. With an API server it is a static pod.
    File(PathBuf),
    /// The API server.
    Api,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Api => f.write_str("API server"),
        }
    }
}

/// A pod as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodSource {
    /// The API server's; of a manifest, derived from node, name and spec: another spec is another pod.
    pub uid: String,
    /// Who gave it.
    pub origin: Origin,
    /// The object.
    pub pod: Pod,
}
