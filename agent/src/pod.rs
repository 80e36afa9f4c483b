//! Pods on this node: one worker each, and what they share.

mod container;
mod facts;
mod judge;
mod probing;
mod record;
mod recover;
mod registry;
mod sandbox;
mod source;
mod stray;
mod view;
mod worker;

pub(crate) use facts::{StepError, chain};
pub(crate) use judge::Given;
pub(crate) use record::PodRecord;
pub(crate) use recover::{readopt, recover};
pub(crate) use registry::Pods;
pub(crate) use source::{Origin, PodSource};
pub(crate) use view::{PodSnapshot, pod_detail, pod_view, refused_detail, refused_view};
