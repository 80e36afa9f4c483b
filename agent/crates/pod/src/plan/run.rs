//! A pod on its way: sandbox, volumes and images at once, then containers.

use super::init::{Initialization, initialization};
use super::life::next_attempt;
use super::restart::{Restart, go_duration, restart, will_restart};
use super::step::{IMAGE, LOCAL, Need, need, pause, trouble};
use super::{Life, PodAction, PodPlan, grace, init_done, life};
use crate::observed::{ContainerObserved, PodObserved, SandboxState, Step};
use jiff::Timestamp;
use orlop_model::{ContainerDesired, ContainerName, ContainerRole, ImageRef, PodDesired};
use std::collections::BTreeSet;

/// Seconds that a failed pull shows itself before it shows as a back-off. The kubelet's
/// next look at the pod makes the change: about a second or two after the sandbox came up.
const ERROR_SHOWN_SECS: u64 = 2;

/// Plans a pod whose containers are to run.
pub(super) fn run(want: &PodDesired, seen: &PodObserved, now: Timestamp, plan: &mut PodPlan) {
    stop_unhealthy(want, seen, now, plan);
    let open: Vec<&ContainerDesired> = want.containers.iter().filter(|c| is_open(want, seen, c)).collect();
    if open.is_empty() {
        return;
    }
    let ground = ground(seen, now, plan);
    images(&open, seen, now, plan);
    let at = match (&ground, initialization(want, seen)) {
        (Ground::Stands, Initialization::At(init)) => Turn::Init(&init.name),
        (Ground::Stands, Initialization::Done) => Turn::Main,
        (Ground::Trouble(message), _) => Turn::Nobody(message),
        (Ground::Awaited, _) => Turn::Nobody(""),
    };
    for container in open {
        one(want, seen, container, &at, now, plan);
    }
}

/// What a container waits under when nothing is wrong.
pub(super) fn default_reason(want: &PodDesired) -> &'static str {
    if want.init_containers().next().is_some() { "PodInitializing" } else { "ContainerCreating" }
}

/// Whose turn it is to be started.
enum Turn<'a> {
    Init(&'a ContainerName),
    Main,
    /// Nobody's, and perhaps because of this.
    Nobody(&'a str),
}

/// Whether sandbox and volumes stand.
enum Ground {
    Stands,
    Awaited,
    Trouble(String),
}

/// Whether the container does not run though it may have to.
fn is_open(want: &PodDesired, seen: &PodObserved, container: &ContainerDesired) -> bool {
    let (life, about) = life(seen, &container.name);
    match life {
        Life::Absent | Life::CannotCreate { .. } | Life::Starting => true,
        Life::Running { .. } => false,
        Life::Ended(_) | Life::Lost => match container.role {
            ContainerRole::Main => will_restart(want, seen, container.role, life, about),
            ContainerRole::Init => match initialization(want, seen) {
                Initialization::Done => false,
                Initialization::At(_) => !init_done(seen, container) || about.is_none_or(|c| c.earlier_sandbox),
            },
        },
    }
}

/// Containers that a probe has condemned, or that are already being stopped.
fn stop_unhealthy(want: &PodDesired, seen: &PodObserved, now: Timestamp, plan: &mut PodPlan) {
    for desired in &want.containers {
        let (Life::Running { id, started: _ }, Some(container)) = life(seen, &desired.name) else { continue };
        let why = container.probes.kill.as_deref();
        if why.is_none() && container.stopping.is_none() {
            continue;
        }
        let startup = desired.startup.as_ref().filter(|_| !container.probes.started);
        let own = startup.or(desired.liveness.as_ref()).and_then(|probe| probe.termination_grace_secs);
        let limit = match container.stopping {
            // The grace it was told, not one that has changed meanwhile.
            Some(stopping) => grace::Limit::own(stopping.grace_secs),
            None => grace::Limit::own(own.unwrap_or(want.termination_grace_secs)),
        };
        grace::stop((&desired.name, id), container, limit, why.unwrap_or_default(), now, plan);
    }
}

fn ground(seen: &PodObserved, now: Timestamp, plan: &mut PodPlan) -> Ground {
    let (step, action) = match &seen.sandbox {
        SandboxState::Ready { .. } => (&Step::Ready, PodAction::CreateSandbox),
        // Neither is a sandbox that stands: what is removed is to be made.
        SandboxState::Pending(Step::Ready) | SandboxState::Broken { removal: Step::Ready } => {
            (&Step::Absent, PodAction::CreateSandbox)
        }
        SandboxState::Pending(step) => (step, PodAction::CreateSandbox),
        SandboxState::Broken { removal } => (removal, PodAction::RemoveBrokenSandbox),
    };
    let sandbox = drive(step, action, now, plan);
    let volumes = drive(&seen.volumes, PodAction::SetUpVolumes, now, plan);
    match trouble(step).or_else(|| trouble(&seen.volumes)) {
        Some((reason, message, _)) => Ground::Trouble(format!("{reason}: {message}")),
        None if sandbox && volumes => Ground::Stands,
        None => Ground::Awaited,
    }
}

/// Asks for a step that is due; whether it is done.
fn drive(step: &Step, action: PodAction, now: Timestamp, plan: &mut PodPlan) -> bool {
    match need(step, LOCAL, now) {
        Need::Nothing => return true,
        Need::Patience => {}
        Need::Attempt => plan.act(action),
        Need::Pause(at) => plan.wake(at),
    }
    false
}

/// Every image that will be needed, from the start: while init containers run,
/// the main ones' images are made ready. A back-off is waited for first.
fn images(open: &[&ContainerDesired], seen: &PodObserved, now: Timestamp, plan: &mut PodPlan) {
    let startable = open.iter().filter(|container| {
        let (life, about) = life(seen, &container.name);
        match due(life, about, now) {
            Due::Now(_) => true,
            Due::Later { .. } | Due::Never => false,
        }
    });
    let images: BTreeSet<&ImageRef> = startable.map(|container| &container.image).collect();
    for image in images {
        match need(seen.images.get(image).unwrap_or(&Step::Absent), IMAGE, now) {
            Need::Nothing | Need::Patience => {}
            Need::Attempt => plan.act(PodAction::EnsureImage(image.clone())),
            Need::Pause(at) => plan.wake(at),
        }
    }
}

/// One container that does not run: start it, or say why not.
fn one(
    want: &PodDesired,
    seen: &PodObserved,
    container: &ContainerDesired,
    turn: &Turn<'_>,
    now: Timestamp,
    plan: &mut PodPlan,
) {
    let name = &container.name;
    let (life, about) = life(seen, name);
    let on_turn = match (turn, container.role) {
        (Turn::Init(next), ContainerRole::Init) => *next == name,
        (Turn::Main, ContainerRole::Main) => true,
        (Turn::Init(_), ContainerRole::Main) | (Turn::Main, ContainerRole::Init) | (Turn::Nobody(_), _) => false,
    };
    let excuse = match turn {
        Turn::Nobody(message) => message,
        Turn::Init(_) | Turn::Main => "",
    };
    let backoff = match due(life, about, now) {
        Due::Now(backoff) => backoff,
        Due::Later { at, delay: Some(delay) } => {
            plan.wake(at);
            return plan.wait(name, "CrashLoopBackOff", crash_loop(want, name, &go_duration(delay)));
        }
        Due::Later { at, delay: None } => {
            plan.wake(at);
            if let Life::CannotCreate { reason, message, .. } = life {
                plan.wait(name, reason, message);
            }
            return;
        }
        Due::Never => return plan.wait(name, default_reason(want), ""),
    };
    if !on_turn {
        return plan.wait(name, default_reason(want), excuse);
    }
    if seen.images.get(&container.image) == Some(&Step::Ready) {
        let action = PodAction::StartContainer { name: name.clone(), attempt: next_attempt(life, about), backoff };
        plan.act(action);
    } else if image_trouble(seen, container, now, plan) {
        return;
    }
    match life {
        Life::Absent | Life::CannotCreate { .. } => plan.wait(name, default_reason(want), ""),
        // As in the kubelet it stays "terminated" for the moment.
        Life::Starting | Life::Running { .. } | Life::Ended(_) | Life::Lost => {}
    }
}

/// When a container may be started, its turn and ground aside.
enum Due {
    Now(Option<crate::observed::Backoff>),
    Later {
        at: Timestamp,
        delay: Option<std::time::Duration>,
    },
    /// It is being started.
    Never,
}

fn due(life: Life<'_>, about: Option<&ContainerObserved>, now: Timestamp) -> Due {
    let recorded = about.and_then(|c| c.backoff);
    match life {
        Life::Absent | Life::Lost => Due::Now(recorded),
        Life::Starting | Life::Running { .. } => Due::Never,
        Life::CannotCreate { reason: _, message: _, at, failures } => match LOCAL.due(at, failures, now) {
            Some(at) => Due::Later { at, delay: None },
            None => Due::Now(recorded),
        },
        // An init container that succeeded in an earlier sandbox runs again as if for the first time.
        Life::Ended(end) if end.code == 0 && about.is_some_and(|c| c.earlier_sandbox) => Due::Now(recorded),
        Life::Ended(end) => match restart(recorded, end.finished, now) {
            Restart::Now(backoff) => Due::Now(backoff),
            Restart::After { at, delay } => Due::Later { at, delay: Some(delay) },
        },
    }
}

fn crash_loop(want: &PodDesired, name: &ContainerName, delay: &str) -> String {
    let (pod, namespace, uid) = (want.key.name(), want.key.namespace(), &want.uid);
    format!("back-off {delay} restarting failed container={name} pod={pod}_{namespace}({uid})")
}

/// Says why the container's image is not there, if it is known: the error itself at
/// first, then a back-off, which stays while the pull is tried again. What no pull can
/// mend keeps its own reason.
fn image_trouble(seen: &PodObserved, container: &ContainerDesired, now: Timestamp, plan: &mut PodPlan) -> bool {
    let image = &container.image;
    let Some((reason, message)) = seen.image_errors.get(image) else { return false };
    let fresh = match seen.images.get(image) {
        Some(Step::Failed { reason: _, message: _, at, failures: _ }) => pause(*at, ERROR_SHOWN_SECS, now),
        Some(Step::Absent | Step::InProgress | Step::Ready) | None => None,
    };
    match (reason.as_str(), fresh) {
        ("ErrImageNeverPull" | "InvalidImageName", _) => plan.wait(&container.name, reason, message),
        (_, Some(until)) => {
            plan.wake(until);
            plan.wait(&container.name, reason, message);
        }
        (_, None) => {
            let message = format!("Back-off pulling image \"{image}\": {reason}: {message}");
            plan.wait(&container.name, "ImagePullBackOff", message);
        }
    }
    true
}
