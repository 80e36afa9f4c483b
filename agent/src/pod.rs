//! Pods on this node: one worker each, and what they share.

mod container;
mod facts;
mod probing;
mod record;
mod recover;
mod registry;
mod sandbox;
mod stray;
mod view;
mod worker;

pub(crate) use facts::{StepError, chain};
pub(crate) use recover::{readopt, recover};
pub(crate) use registry::Pods;
pub(crate) use view::{PodSnapshot, pod_detail, pod_view, refused_detail, refused_view};
