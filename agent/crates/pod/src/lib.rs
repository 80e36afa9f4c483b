//! A pod's life as pure decisions: what it should do next given what is wanted,
//! what is seen and what time it is.
//!
//! ```text
//!   Pod ──admit──▶ PodDesired ─┐
//!                              ├─plan─▶ PodPlan ──▶ (the agent carries it out) ─┐
//!        PodObserved ──────────┤                                                │
//!             ▲                └─status─▶ PodStatus                             │
//!             └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! * [`admit`] fills in the API server's defaults and checks what the API server and
//!   the kubelet check; a field that Orlop does not act on is refused or warned of,
//!   never ignored. [`admit_to_node`] asks whether the pod fits this node.
//! * [`needs`] lists the objects and tokens that the pod refers to.
//! * [`plan`] is the kubelet's `computePodActions`: a value, idempotent, with the
//!   moment at which it changes by itself.
//! * [`status`] and [`pod_ready`] are what the API shows; [`pod_serving`] is what
//!   Services go by, and it turns false first. [`merge_status`] and [`status_patch`]
//!   bring a status to an API server.
//! * [`mod@env`] resolves a container's environment and expands `$(NAME)`;
//!   [`downward_file`] is a file of the downward API.
//! * [`bandwidth()`] is how fast the pod may send and receive.
//! * [`static_pod`] and [`mirror_pod`] are a manifest's pod here and at the API server.
//! * [`Prober`] says when to probe and what the results mean.
//!
//! Nothing here reads a clock, a file or a socket; all of it is tested with tables
//! and with the scripts in `tests/scripts/pod`.
#![forbid(unsafe_code)]

mod admit;
mod bandwidth;
mod change;
mod downward;
pub mod env;
mod field;
mod fingerprint;
mod fit;
mod mirror;
mod needs;
mod observed;
mod plan;
mod probe;
mod quantity;
mod status;

pub use admit::{AdmitContext, Admitted, Rejection, admit};
pub use bandwidth::{Bandwidth, BandwidthError, bandwidth};
pub use change::redefined;
pub use downward::downward_file;
pub use env::Objects;
pub use field::FieldError;
pub use fit::{NodeFacts, Refusal, admit_to_node};
pub use mirror::{is_mirror, is_mirror_of, is_static, mirror_pod, mirrored_uid, static_pod};
pub use needs::{Need, Needs, needs};
pub use observed::{
    Backoff, ContainerObserved, Lifecycle, ObservedUser, PodObserved, ProbeResults, SandboxState, Step, Stopping,
    Termination,
};
pub use plan::{Phase, PodAction, PodPlan, Waiting, phase, plan};
pub use probe::{ProbeEffect, Prober};
pub use status::{StatusContext, may_run, merge_status, pod_ready, pod_serving, status, status_patch};
