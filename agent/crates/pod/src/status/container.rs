//! One container's status.

use super::ready::{container_ready, container_started};
use crate::observed::{ContainerObserved, ObservedUser, PodObserved, Termination};
use crate::plan::{Life, PodPlan, init_done, life};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, ResourceRequirements, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orlop_model::{ContainerDesired, ContainerId, ContainerRole, PodDesired};

/// `status.containerStatuses[]` and `status.initContainerStatuses[]`.
pub(super) fn status(
    want: &PodDesired,
    seen: &PodObserved,
    plan: &PodPlan,
    desired: &ContainerDesired,
    given: Option<&Container>,
) -> ContainerStatus {
    let (life, about) = life(seen, &desired.name);
    let (state, last) = states(want, plan, desired, life, about);
    let id = match life {
        Life::Running { id, started: _ } => Some(id),
        Life::Ended(end) => Some(&end.id),
        Life::Absent | Life::CannotCreate { .. } | Life::Starting | Life::Lost => {
            about.and_then(|c| c.last.as_ref()).map(|last| &last.id)
        }
    };
    let (ready, started) = match desired.role {
        ContainerRole::Main => (container_ready(seen, desired), container_started(seen, desired)),
        // An init container is "ready" once it has succeeded and need not run again.
        ContainerRole::Init => {
            let again = plan.waiting.contains_key(&desired.name);
            (init_done(seen, desired) && !again, matches_running(life))
        }
    };
    let created = id.is_some();
    let resources = given.filter(|_| created).and_then(|given| given.resources.clone());
    ContainerStatus {
        name: desired.name.to_string(),
        image: desired.image.to_string(),
        image_id: about.and_then(|c| c.image_id.clone()).unwrap_or_default(),
        container_id: id.map(url),
        ready,
        started: Some(started),
        restart_count: i32::try_from(restarts(life, about)).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        allocated_resources: resources.as_ref().and_then(|resources| resources.requests.clone()),
        resources: resources.or_else(|| created.then(ResourceRequirements::default)).filter(|_| given.is_some()),
        user: about.and_then(|about| about.user.as_ref()).map(user),
        volume_mounts: given.and_then(volume_mounts),
        ..ContainerStatus::default()
    }
}

fn user(user: &ObservedUser) -> ContainerUser {
    let groups: Vec<i64> = user.groups.iter().copied().map(i64::from).collect();
    let linux = LinuxContainerUser {
        uid: i64::from(user.uid),
        gid: i64::from(user.gid),
        supplemental_groups: (!groups.is_empty()).then_some(groups),
    };
    ContainerUser { linux: Some(linux) }
}

/// Mounts are read-only by themselves, never those below them.
fn volume_mounts(given: &Container) -> Option<Vec<VolumeMountStatus>> {
    let status = |mount: &VolumeMount| {
        let read_only = mount.read_only.filter(|read_only| *read_only);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| "Disabled".to_owned()),
            volume_status: None,
        }
    };
    let mounts = given.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty())?;
    Some(mounts.iter().map(status).collect())
}

fn matches_running(life: Life<'_>) -> bool {
    match life {
        Life::Running { .. } => true,
        Life::Absent | Life::CannotCreate { .. } | Life::Starting | Life::Ended(_) | Life::Lost => false,
    }
}

fn url(id: &ContainerId) -> String {
    format!("orlop://{id}")
}

/// Attempts after the first that were really made.
fn restarts(life: Life<'_>, about: Option<&ContainerObserved>) -> u32 {
    let last = about.and_then(|c| c.last.as_ref()).map(|last| last.attempt);
    let newest = about.and_then(|c| c.attempt);
    match life {
        Life::Absent | Life::CannotCreate { .. } => last.unwrap_or(0),
        Life::Starting | Life::Running { .. } | Life::Lost => newest.or(last).unwrap_or(0),
        Life::Ended(end) => end.attempt,
    }
}

/// `state` and `lastState`.
fn states(
    want: &PodDesired,
    plan: &PodPlan,
    desired: &ContainerDesired,
    life: Life<'_>,
    about: Option<&ContainerObserved>,
) -> (ContainerState, Option<ContainerState>) {
    let last = || about.and_then(|c| c.last.as_ref()).map(terminated);
    let planned = plan.waiting.get(&desired.name);
    let waiting_as_planned = || match planned {
        Some(why) => waiting(&why.reason, &why.message),
        None if want.init_containers().next().is_some() => waiting("PodInitializing", ""),
        None => waiting("ContainerCreating", ""),
    };
    match life {
        Life::Running { id: _, started } => (running(started), last()),
        Life::Absent | Life::Starting => (waiting_as_planned(), last()),
        Life::CannotCreate { reason, message, .. } => (waiting(reason, message), last()),
        // While it waits to run again, what it ended with is its past.
        Life::Ended(end) if planned.is_some() => (waiting_as_planned(), Some(terminated(end))),
        Life::Ended(end) => (terminated(end), last()),
        Life::Lost if planned.is_some() => (waiting_as_planned(), Some(unknown())),
        Life::Lost => (unknown(), last()),
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn running(started: Timestamp) -> ContainerState {
    let running = ContainerStateRunning { started_at: Some(Time(started)) };
    ContainerState { running: Some(running), ..ContainerState::default() }
}

fn terminated(end: &Termination) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: Some(url(&end.id)),
        exit_code: end.code,
        signal: end.signal,
        // An empty text would come back from the API server as none, and be a change for ever.
        reason: Some(end.reason.clone()).filter(|reason| !reason.is_empty()),
        message: (!end.message.is_empty()).then(|| end.message.clone()),
        started_at: Some(Time(end.started.unwrap_or(Timestamp::UNIX_EPOCH))),
        finished_at: Some(Time(end.finished)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// What the kubelet says of a container that went without a trace.
fn unknown() -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}
