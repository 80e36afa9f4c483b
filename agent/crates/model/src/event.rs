//! What a user is told about an object, in the words of Kubernetes Events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether somebody has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// Nothing to do.
    Normal,
    /// Something is wrong; the message says what to do.
    Warning,
}

/// One event, aggregated: the same reason and message again only raises `count`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Normal or Warning.
    pub kind: EventKind,
    /// The kubelet's CamelCase reason, for example `Pulled`, `BackOff`, `Unhealthy`.
    pub reason: String,
    /// A sentence for the person on call.
    pub message: String,
    /// How often it was seen.
    pub count: u32,
    /// First sighting.
    pub first: Timestamp,
    /// Latest sighting.
    pub last: Timestamp,
}
