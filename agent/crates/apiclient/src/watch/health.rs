//! How a watch goes, for metrics and for whoever asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A handle on the health of one watch; clones look at the same watch.
#[derive(Debug, Clone)]
pub struct WatchHealth(Arc<Mutex<WatchState>>);

/// A look at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchState {
    /// Since when nothing comes; `None` while the watch stands, and before its first failure.
    pub down_since: Option<Instant>,
    /// The last failure with its causes; kept after it has passed.
    pub last_error: Option<String>,
    /// Whether a list has come to its end at least once.
    pub listed: bool,
    /// Lists that were begun.
    pub lists: u64,
    /// Requests for a stream that were answered.
    pub connects: u64,
    /// Failures.
    pub failures: u64,
    /// Events and list items that were delivered.
    pub events: u64,
    /// Events and list items that could not be understood, and were left out.
    pub unparsable: u64,
    /// Bytes of the streams, decompressed.
    pub bytes: u64,
}

impl WatchHealth {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> WatchState {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
