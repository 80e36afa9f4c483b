//! A pod's life as pure decisions: what it should do next given what is wanted,
//! what is seen and what time it is.
#![forbid(unsafe_code)]

mod observed;
mod plan;

pub use observed::{
    Backoff, ContainerObserved, Lifecycle, PodObserved, ProbeResults, SandboxState, Step, Stopping, Termination,
};
pub use plan::{PodAction, PodPlan, Waiting};
