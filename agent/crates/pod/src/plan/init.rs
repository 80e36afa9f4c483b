//! Init containers: strictly one after the other, each to success.

use super::{Life, init_done, life};
use crate::observed::PodObserved;
use orlop_model::{ContainerDesired, PodDesired};

/// How far the init containers are in the present sandbox.
pub(super) enum Initialization<'a> {
    /// This one is next, or runs, or is to run again.
    At(&'a ContainerDesired),
    /// Main containers may run.
    Done,
}

pub(super) fn initialization<'a>(want: &'a PodDesired, seen: &PodObserved) -> Initialization<'a> {
    let here = |name| seen.containers.get(name).is_some_and(|c| !c.earlier_sandbox);
    // As the kubelet: once a main container has been made, init containers are
    // done, whatever is still remembered of them.
    let main_made = want.main_containers().any(|main| {
        here(&main.name)
            && match life(seen, &main.name).0 {
                Life::Starting | Life::Running { .. } | Life::Ended(_) | Life::Lost | Life::CannotCreate { .. } => true,
                Life::Absent => false,
            }
    });
    if main_made {
        return Initialization::Done;
    }
    match want.init_containers().find(|init| !(here(&init.name) && init_done(seen, init))) {
        Some(next) => Initialization::At(next),
        None => Initialization::Done,
    }
}
