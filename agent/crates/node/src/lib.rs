//! The Node object, its status and its Lease, as the kubelet of v1.36 makes them.
//!
//! ```text
//!  NodeFacts ──register──▶ Node                      POST nodes, when there is none
//!      │
//!      ├─reconcile(existing)──▶ Option<Patch>         PATCH nodes/NAME/status, once, when there is one
//!      ├─status_patch(existing, schedule, now)
//!      │     ──▶ Option<Update>                       PATCH nodes/NAME/status, when changed or every 5 min
//!      └─allocatable──▶ Resources                     what pods are admitted against
//!  lease(existing, holder, now) ──▶ Lease             POST or PUT every 10 s
//!  pressure(thresholds, levels, before, now) ──▶ Pressures
//! ```
//!
//! * Labels, annotations, taints, conditions and resources that are somebody else's are
//!   never part of a patch.
//! * A [`Patch`] is a strategic merge patch for the node's `status` sub-resource, which
//!   also takes labels and annotations, as the kubelet uses it.
//! * Time and chance are arguments; nothing here reads a clock, a file or a socket.
#![forbid(unsafe_code)]

mod address;
mod condition;
mod error;
mod event;
mod facts;
mod image;
mod label;
mod lease;
mod patch;
mod pod_cidr;
mod pressure;
mod register;
mod resources;
mod schedule;
mod status;

pub use error::NodeError;
pub use event::{NodeEvent, Severity, events};
pub use facts::{Cloud, ImageOnNode, Machine, NodeFacts, Reserved, RuntimeHandler, Seen, Settings};
pub use label::check_labels;
pub use lease::{LEASE_NAMESPACE, LeaseHolder, lease};
pub use patch::{Patch, diff};
pub use pod_cidr::pod_cidrs;
pub use pressure::{Level, PressureMemory, Pressures, Signal, Threshold, ThresholdAt, pressure};
pub use register::{reconcile, register};
pub use resources::{Resources, allocatable, capacity, pods_limit};
pub use schedule::ReportSchedule;
pub use status::{Update, status, status_patch};
