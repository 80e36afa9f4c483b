//! A simulated agent: it begins what the plan says and is told how it ended.

use jiff::{SignedDuration, Timestamp};
use orlop_model::{ContainerId, ContainerName, PodDesired};
use orlop_pod::{
    ContainerObserved, Lifecycle, PodAction, PodObserved, PodPlan, ProbeResults, SandboxState, Step, Stopping,
    Termination, plan,
};
use std::collections::BTreeMap;

pub struct World {
    pub want: PodDesired,
    pub seen: PodObserved,
    pub now: Timestamp,
    pub ids: u64,
    /// Failures in a row of steps.
    failures: BTreeMap<String, u32>,
}

pub fn epoch() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub fn empty(accepted: Timestamp) -> PodObserved {
    PodObserved {
        accepted,
        sandbox: SandboxState::Pending(Step::Absent),
        volumes: Step::Absent,
        images: BTreeMap::new(),
        image_errors: BTreeMap::new(),
        containers: BTreeMap::new(),
        failed: None,
        teardown: Step::Absent,
    }
}

impl World {
    pub fn new(want: PodDesired) -> Self {
        Self { want, seen: empty(epoch()), now: epoch(), ids: 0, failures: BTreeMap::new() }
    }

    pub fn advance(&mut self, by: SignedDuration) {
        self.now = self.now.checked_add(by).unwrap();
    }

    pub fn id(&mut self) -> ContainerId {
        self.ids += 1;
        ContainerId::new(format!("{:064x}", self.ids)).unwrap()
    }

    pub fn container(&mut self, name: &str) -> &mut ContainerObserved {
        self.seen.containers.entry(ContainerName::new(name).unwrap()).or_default()
    }

    pub fn fail(&mut self, what: &str, reason: &str, message: &str) -> Step {
        let failures = self.failures.entry(what.to_owned()).or_insert(0);
        *failures += 1;
        Step::Failed { reason: reason.to_owned(), message: message.to_owned(), at: self.now, failures: *failures }
    }

    pub fn succeed(&mut self, what: &str) {
        self.failures.remove(what);
    }

    /// Plans, begins every action, and checks that the same moment asks for nothing more.
    pub fn turn(&mut self) -> PodPlan {
        let made = plan(&self.want, &self.seen, self.now);
        for action in &made.actions {
            begin(&mut self.seen, action, self.now);
        }
        let again = plan(&self.want, &self.seen, self.now);
        assert_eq!(again.actions, [], "asked again after {:?}", made.actions);
        // What the begun actions changed is the plan's to say.
        PodPlan { actions: made.actions, ..again }
    }

    pub fn started(&mut self, name: &str) {
        let (id, now) = (self.id(), self.now);
        self.succeed(name);
        self.container(name).life = Lifecycle::Running { id, started: now };
    }

    pub fn exited(&mut self, name: &str, code: i32, reason: &str) {
        let now = self.now;
        let fallback = self.id();
        let container = self.container(name);
        let (id, started) = match &container.life {
            Lifecycle::Running { id, started } => (id.clone(), Some(*started)),
            Lifecycle::Absent | Lifecycle::Starting | Lifecycle::Ended(_) | Lifecycle::CannotCreate { .. } => {
                (fallback, None)
            }
        };
        container.life = Lifecycle::Ended(Termination {
            id,
            attempt: container.attempt.unwrap_or(0),
            code,
            signal: None,
            reason: reason.to_owned(),
            message: String::new(),
            started,
            finished: now,
        });
        container.stopping = None;
    }

    pub fn cannot_create(&mut self, name: &str, reason: &str, message: &str) {
        let Step::Failed { reason, message, at, failures } = self.fail(name, reason, message) else { unreachable!() };
        self.container(name).life = Lifecycle::CannotCreate { reason, message, at, failures };
    }

    pub fn sandbox_ready(&mut self) {
        self.succeed("sandbox");
        self.seen.sandbox = SandboxState::Ready { ips: vec!["10.1.0.2".parse().unwrap()], created: self.now };
    }

    /// The monitor is gone, and with it everything that ran.
    pub fn sandbox_broken(&mut self) {
        self.seen.sandbox = SandboxState::Broken { removal: Step::Absent };
        for container in self.seen.containers.values_mut() {
            container.earlier_sandbox = true;
        }
    }
}

/// What an agent notes when it begins an action.
pub fn begin(seen: &mut PodObserved, action: &PodAction, now: Timestamp) {
    match action {
        PodAction::CreateSandbox => seen.sandbox = SandboxState::Pending(Step::InProgress),
        PodAction::RemoveBrokenSandbox => seen.sandbox = SandboxState::Broken { removal: Step::InProgress },
        PodAction::SetUpVolumes => seen.volumes = Step::InProgress,
        PodAction::EnsureImage(image) => {
            seen.images.insert(image.clone(), Step::InProgress);
        }
        PodAction::StartContainer { name, attempt, backoff } => {
            let container = seen.containers.entry(name.clone()).or_default();
            if let Lifecycle::Ended(end) = &container.life {
                container.last = Some(end.clone());
            }
            *container = ContainerObserved {
                life: Lifecycle::Starting,
                attempt: Some(*attempt),
                last: container.last.clone(),
                backoff: *backoff,
                probes: ProbeResults::default(),
                image_id: Some("sha256:1".to_owned()),
                user: None,
                stopping: None,
                earlier_sandbox: false,
            };
        }
        PodAction::StopContainer { id: _, name, grace_secs, why: _ } => {
            let container = seen.containers.get_mut(name).expect("only a container that is seen is stopped");
            container.stopping = Some(Stopping { since: now, grace_secs: *grace_secs, killed: false });
        }
        PodAction::KillContainer { id: _, name } => {
            let container = seen.containers.get_mut(name).expect("only a container that is seen is killed");
            container.stopping = container.stopping.map(|stopping| Stopping { killed: true, ..stopping });
        }
        PodAction::TearDown => seen.teardown = Step::InProgress,
        PodAction::Fail { reason, message } => seen.failed = Some((reason.clone(), message.clone())),
    }
}
