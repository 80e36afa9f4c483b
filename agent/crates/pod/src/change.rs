//! What an API server may change of a pod that runs.

use orlop_model::{ContainerName, PodDesired};

/// Main containers whose image changed from `before` to `now`, each with the kubelet's
/// sentence: a running one is killed with it ([`crate::ProbeResults::kill`]) and starts
/// again with the new image. Nothing else that may change of a pod's spec concerns a
/// container that runs.
#[must_use]
pub fn redefined(before: &PodDesired, now: &PodDesired) -> Vec<(ContainerName, String)> {
    let changed = now.main_containers().filter(|container| {
        before.container(&container.name).is_some_and(|old| old.role == container.role && old.image != container.image)
    });
    changed
        .map(|container| {
            let name = container.name.clone();
            let why = format!("Container {name} definition changed, will be restarted");
            (name, why)
        })
        .collect()
}
