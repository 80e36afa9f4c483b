//! A pod's life as pure decisions: what it should do next given what is wanted,
//! what is seen and what time it is.
#![forbid(unsafe_code)]

mod admit;
pub mod env;
mod field;
mod fingerprint;
mod observed;
mod plan;
mod quantity;
mod status;

pub use admit::{AdmitContext, Admitted, Rejection, admit};
pub use field::FieldError;
pub use fingerprint::manifest_uid;
pub use observed::{
    Backoff, ContainerObserved, Lifecycle, PodObserved, ProbeResults, SandboxState, Step, Stopping, Termination,
};
pub use plan::{Phase, PodAction, PodPlan, Waiting, phase, plan};
pub use status::{StatusContext, pod_ready, serving, status};
