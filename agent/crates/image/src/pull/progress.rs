//! How far a pull is, layer by layer.

use crate::Digest;

/// What happens to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerPhase {
    /// It waits for its turn.
    Waiting,
    /// Its bytes come.
    Downloading,
    /// Its bytes are there and their digest is compared.
    Verifying,
    /// Its files are made.
    Unpacking,
    /// It is ready.
    Done,
    /// It was on the node before.
    Exists,
}

/// One layer of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// Digest of the packed layer, which is what a registry knows it by.
    pub blob: Digest,
    /// What happens to it.
    pub phase: LayerPhase,
    /// Bytes that came.
    pub done_bytes: u64,
    /// Bytes of the packed layer.
    pub total_bytes: u64,
}

/// A whole pull. Without layers: the manifest is not there yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers, lowest first.
    pub layers: Vec<LayerProgress>,
}

impl PullProgress {
    /// Bytes that came and bytes of all layers. Layers that were here before count as come.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        self.layers.iter().fold((0, 0), |(done, total), layer| {
            let come = if layer.phase == LayerPhase::Exists { layer.total_bytes } else { layer.done_bytes };
            (done + come, total + layer.total_bytes)
        })
    }
}
