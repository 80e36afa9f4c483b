//! Whatever is seen, planning neither panics nor repeats itself; and whatever goes
//! wrong, a pod comes to its end.

use crate::desired::desired;
use crate::world::{World, begin, epoch};
use jiff::{SignedDuration, Timestamp};
use orlop_model::{ContainerId, ContainerName, ContainerRole, Deletion, ImageRef, PodDesired};
use orlop_pod::{
    Backoff, ContainerObserved, Lifecycle, Phase, PodAction, PodObserved, ProbeResults, SandboxState, StatusContext,
    Step, Stopping, Termination, phase, plan, pod_ready, pod_serving, status,
};
use proptest::prelude::*;
use proptest::{collection, option};
use std::time::Duration;

const SPECS: [&str; 7] = [
    "{containers: [{name: a, image: x:1}]}",
    "{restartPolicy: OnFailure, containers: [{name: a, image: x:1}, {name: b, image: y:1}]}",
    "{restartPolicy: Never, containers: [{name: a, image: x:1}, {name: b, image: y:1}]}",
    "{initContainers: [{name: i, image: x:1}, {name: j, image: y:1}], containers: [{name: a, image: x:1}]}",
    "{restartPolicy: OnFailure, initContainers: [{name: i, image: x:1}], containers: [{name: a, image: y:1}, {name: b, image: y:1}]}",
    "{restartPolicy: Never, activeDeadlineSeconds: 90, initContainers: [{name: i, image: x:1}], containers: [{name: a, image: x:1}]}",
    "{terminationGracePeriodSeconds: 0, containers: [{name: a, image: x:1, livenessProbe: {exec: {command: [p]}}, startupProbe: {exec: {command: [p]}, terminationGracePeriodSeconds: 7}, readinessProbe: {exec: {command: [p]}}}]}",
];

fn moment() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (-2000_i64..2000).prop_map(|secs| epoch() + SignedDuration::from_secs(secs)),
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Absent),
        1 => Just(Step::InProgress),
        4 => Just(Step::Ready),
        1 => (moment(), prop_oneof![1_u32..6, Just(u32::MAX)]).prop_map(|(at, failures)| Step::Failed {
            reason: "ErrImagePull".to_owned(),
            message: "m".to_owned(),
            at,
            failures
        }),
    ]
}

fn any_id() -> impl Strategy<Value = ContainerId> {
    (0_u64..4).prop_map(|n| ContainerId::new(format!("{n:064x}")).unwrap())
}

fn any_end() -> impl Strategy<Value = Termination> {
    (any_id(), prop_oneof![0_u32..3, Just(u32::MAX)], 0_i32..2, option::of(moment()), moment()).prop_map(
        |(id, attempt, code, started, finished)| Termination {
            id,
            attempt,
            code,
            signal: None,
            reason: "Error".to_owned(),
            message: String::new(),
            started,
            finished,
        },
    )
}

fn any_life() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![
        Just(Lifecycle::Absent),
        Just(Lifecycle::Starting),
        (any_id(), moment()).prop_map(|(id, started)| Lifecycle::Running { id, started }),
        any_end().prop_map(Lifecycle::Ended),
        (moment(), 1_u32..9).prop_map(|(at, failures)| Lifecycle::CannotCreate {
            reason: "CreateContainerError".to_owned(),
            message: "m".to_owned(),
            at,
            failures
        }),
    ]
}

fn any_container() -> impl Strategy<Value = ContainerObserved> {
    let stopping = (moment(), prop_oneof![0_u64..40, Just(u64::MAX)], any::<bool>())
        .prop_map(|(since, grace_secs, killed)| Stopping { since, grace_secs, killed });
    let backoff =
        (0_u64..600, moment()).prop_map(|(secs, raised)| Backoff { delay: Duration::from_secs(secs), raised });
    let probes = (any::<bool>(), any::<bool>(), option::of(Just("why".to_owned())))
        .prop_map(|(started, ready, kill)| ProbeResults { started, ready, kill });
    (
        any_life(),
        option::of(prop_oneof![0_u32..3, Just(u32::MAX)]),
        option::of(any_end()),
        option::of(backoff),
        probes,
        option::of(stopping),
        any::<bool>(),
    )
        .prop_map(|(life, attempt, last, backoff, probes, stopping, earlier_sandbox)| ContainerObserved {
            life,
            attempt,
            last,
            backoff,
            probes,
            image_id: None,
            user: None,
            stopping,
            earlier_sandbox,
        })
}

fn any_seen() -> impl Strategy<Value = PodObserved> {
    let sandbox = prop_oneof![
        1 => any_step().prop_map(SandboxState::Pending),
        4 => moment().prop_map(|created| SandboxState::Ready { ips: vec!["10.1.0.2".parse().unwrap()], created }),
        1 => any_step().prop_map(|removal| SandboxState::Broken { removal }),
    ];
    let name = prop_oneof![Just("a"), Just("b"), Just("i"), Just("j"), Just("gone")];
    let containers = collection::btree_map(name.prop_map(|n| ContainerName::new(n).unwrap()), any_container(), 0..5);
    let image = prop_oneof![Just("x:1"), Just("y:1")].prop_map(|n| ImageRef::new(n).unwrap());
    let images = collection::btree_map(image, any_step(), 0..3);
    let failed = option::weighted(0.1, Just(("Evicted".to_owned(), "m".to_owned())));
    (moment(), sandbox, any_step(), images, containers, failed, prop_oneof![3 => Just(Step::Absent), 1 => any_step()])
        .prop_map(|(accepted, sandbox, volumes, images, containers, failed, teardown)| PodObserved {
            accepted,
            sandbox,
            volumes,
            image_errors: images.keys().map(|i| (i.clone(), ("ErrImagePull".to_owned(), "m".to_owned()))).collect(),
            images,
            containers,
            failed,
            teardown,
        })
}

fn any_want() -> impl Strategy<Value = PodDesired> {
    let deletion = (moment(), prop_oneof![0_u64..40, Just(u64::MAX)]);
    (0..SPECS.len(), option::weighted(0.3, deletion)).prop_map(|(index, deletion)| PodDesired {
        deletion: deletion.map(|(at, grace_secs)| Deletion { at, grace_secs }),
        ..desired(SPECS[index])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_seen(want in any_want(), seen in any_seen(), secs in -2000_i64..2000) {
        let now = epoch() + SignedDuration::from_secs(secs);
        let made = plan(&want, &seen, now);
        let mut after = seen.clone();
        for action in &made.actions {
            begin(&mut after, action, now);
        }
        let again = plan(&want, &after, now);
        prop_assert_eq!(&again.actions, &[], "asked again after {:?}", &made.actions);
        prop_assert!(again.wake_at.is_none_or(|at| at > now), "wakes in the past");
        // Nothing changes by itself before that moment.
        let quiet = again.wake_at.unwrap_or(Timestamp::MAX);
        let just_before = quiet - SignedDuration::from_nanos(1);
        if just_before > now {
            prop_assert_eq!(plan(&want, &after, just_before).actions, []);
        }
        let shown = status(&want, &after, &again, &StatusContext::default(), now);
        let once_more = StatusContext { previous: Some(&shown), ..StatusContext::default() };
        prop_assert_eq!(&status(&want, &after, &again, &once_more, Timestamp::MAX), &shown, "status changes by itself");
        prop_assert!(pod_ready(&want, &after) || !pod_serving(&want, &after));
    }
}

/// xorshift64*: the same seed gives the same life.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

struct Life {
    world: World,
    dice: Dice,
    /// How many more things may go wrong.
    faults: u32,
    trace: Vec<String>,
}

impl Life {
    fn goes_wrong(&mut self) -> bool {
        let wrong = self.faults > 0 && self.dice.below(3) == 0;
        self.faults -= u32::from(wrong);
        wrong
    }

    /// Lets one thing that is under way come to its end. False when there is none.
    fn something_happens(&mut self) -> bool {
        let seen = &self.world.seen;
        let mut open: Vec<String> = Vec::new();
        let stands = matches!(seen.sandbox, SandboxState::Ready { .. });
        match &seen.sandbox {
            SandboxState::Pending(Step::InProgress) => open.push("sandbox".to_owned()),
            SandboxState::Broken { removal: Step::InProgress } => open.push("removal".to_owned()),
            SandboxState::Ready { .. } if self.faults > 0 => open.push("break".to_owned()),
            _ => {}
        }
        if seen.volumes == Step::InProgress {
            open.push("volumes".to_owned());
        }
        if seen.teardown == Step::InProgress {
            open = vec!["teardown".to_owned()];
        }
        open.extend(seen.images.iter().filter(|(_, s)| **s == Step::InProgress).map(|(i, _)| format!("image {i}")));
        for (name, container) in &seen.containers {
            match &container.life {
                _ if !stands || container.earlier_sandbox => {}
                Lifecycle::Starting => open.push(format!("start {name}")),
                Lifecycle::Running { .. } => open.push(format!("run {name}")),
                Lifecycle::Absent | Lifecycle::Ended(_) | Lifecycle::CannotCreate { .. } => {}
            }
        }
        if open.is_empty() {
            return false;
        }
        let chosen = open.swap_remove(usize::try_from(self.dice.below(open.len() as u64)).unwrap());
        let wrong = self.goes_wrong();
        self.trace.push(format!("{chosen}{}", if wrong { " (wrong)" } else { "" }));
        let (what, of) = chosen.split_once(' ').unwrap_or((&chosen, ""));
        self.happens(what, of, wrong)
    }

    fn happens(&mut self, what: &str, of: &str, wrong: bool) -> bool {
        let world = &mut self.world;
        match (what, wrong) {
            ("sandbox", false) => world.sandbox_ready(),
            ("sandbox", true) => world.seen.sandbox = SandboxState::Pending(world.fail("sandbox", "R", "m")),
            ("removal", false) => world.seen.sandbox = SandboxState::Pending(Step::Absent),
            ("removal", true) => world.seen.sandbox = SandboxState::Broken { removal: world.fail("removal", "R", "m") },
            ("break", true) => world.sandbox_broken(),
            ("break", false) => return world.seen.teardown == Step::Absent && self.dice.below(2) == 0,
            ("volumes", wrong) => {
                world.seen.volumes = if wrong { world.fail("volumes", "R", "m") } else { Step::Ready };
            }
            ("teardown", wrong) => {
                world.seen.teardown = if wrong { world.fail("teardown", "R", "m") } else { Step::Ready };
            }
            ("image", wrong) => {
                let image = ImageRef::new(of).unwrap();
                let step = if wrong { world.fail(of, "ErrImagePull", "m") } else { Step::Ready };
                match &step {
                    Step::Failed { reason, message, .. } => {
                        world.seen.image_errors.insert(image.clone(), (reason.clone(), message.clone()));
                    }
                    _ => drop(world.seen.image_errors.remove(&image)),
                }
                world.seen.images.insert(image, step);
            }
            ("start", false) => world.started(of),
            ("start", true) if self.dice.below(2) == 0 => world.cannot_create(of, "CreateContainerError", "m"),
            ("start", true) => world.exited(of, 127, "ContainerCannotRun"),
            ("run", true) if self.dice.below(2) == 0 => world.container(of).probes.kill = Some("why".to_owned()),
            ("run", true) => world.exited(of, 1, "Error"),
            ("run", false) => match world.container(of).stopping {
                Some(Stopping { killed: true, .. }) => world.exited(of, 137, "Error"),
                // A stopped container may ignore its SIGTERM for ever.
                Some(_) if self.dice.below(2) == 0 => return false,
                Some(_) | None => world.exited(of, 0, "Completed"),
            },
            _ => unreachable!("{what}"),
        }
        true
    }

    fn turn(&mut self) -> Option<Timestamp> {
        let before = self.world.seen.clone();
        let made = self.world.turn();
        self.trace.extend(made.actions.iter().map(|action| format!("{action:?}")));
        for action in &made.actions {
            self.lawful(&before, action);
        }
        made.wake_at
    }

    /// What no plan may ever ask for.
    fn lawful(&self, before: &PodObserved, action: &PodAction) {
        let want = &self.world.want;
        let stands = matches!(before.sandbox, SandboxState::Ready { .. });
        let here = |name: &ContainerName| before.containers.get(name).filter(|c| stands && !c.earlier_sandbox);
        let alive = |name: &ContainerName| {
            here(name).is_some_and(|c| matches!(c.life, Lifecycle::Starting | Lifecycle::Running { .. }))
        };
        match action {
            PodAction::StartContainer { name, attempt, .. } => {
                let container = want.container(name).unwrap();
                assert!(stands && before.volumes == Step::Ready, "{}", self.trace());
                assert_eq!(before.images.get(&container.image), Some(&Step::Ready), "{}", self.trace());
                assert!(!alive(name) && want.deletion.is_none() && before.failed.is_none(), "{}", self.trace());
                assert!(!matches!(phase(want, before), Phase::Succeeded | Phase::Failed), "{}", self.trace());
                let made = before.containers.get(name).and_then(|c| match &c.life {
                    Lifecycle::Ended(end) => Some(end.attempt),
                    Lifecycle::CannotCreate { .. } => c.last.as_ref().map(|last| last.attempt),
                    Lifecycle::Absent | Lifecycle::Starting | Lifecycle::Running { .. } => None,
                });
                assert!(made.is_none_or(|made| *attempt > made), "attempt {attempt}: {}", self.trace());
                let others = want.init_containers().filter(|init| init.name != *name);
                assert!(!others.into_iter().any(|init| alive(&init.name)), "{}", self.trace());
                if container.role == ContainerRole::Main {
                    let ok = |c: &ContainerObserved| matches!(&c.life, Lifecycle::Ended(end) if end.code == 0);
                    assert!(want.init_containers().all(|init| here(&init.name).is_some_and(ok)), "{}", self.trace());
                }
            }
            PodAction::TearDown => {
                assert!(!before.containers.keys().any(alive), "{}", self.trace());
            }
            PodAction::StopContainer { name, .. } | PodAction::KillContainer { name, .. } => {
                assert!(alive(name), "{}", self.trace());
            }
            PodAction::CreateSandbox
            | PodAction::RemoveBrokenSandbox
            | PodAction::SetUpVolumes
            | PodAction::EnsureImage(_)
            | PodAction::Fail { .. } => assert!(want.deletion.is_none(), "{}", self.trace()),
        }
    }

    fn trace(&self) -> String {
        format!("after:\n{}\n{:#?}", self.trace.join("\n"), self.world.seen)
    }
}

/// The longest life that these faults can make.
const STEPS_MAX: u32 = 3000;

fn live(seed: u64) -> u32 {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let spec = SPECS[usize::try_from(dice.below(SPECS.len() as u64)).unwrap()];
    let delete_at = u32::try_from(dice.below(80)).unwrap();
    let faults = u32::try_from(dice.below(25)).unwrap();
    let mut life = Life { world: World::new(desired(spec)), dice, faults, trace: vec![format!("seed {seed} {spec}")] };
    let mut last = Phase::Pending;
    for step in 0..STEPS_MAX {
        let wake = life.turn();
        let now = phase(&life.world.want, &life.world.seen);
        let stays = !matches!(last, Phase::Succeeded | Phase::Failed) || now == last;
        assert!(stays, "{last:?} became {now:?} {}", life.trace());
        last = now;
        if life.world.seen.teardown == Step::Ready {
            assert!(matches!(now, Phase::Succeeded | Phase::Failed), "{}", life.trace());
            return step;
        }
        if step >= delete_at && life.world.want.deletion.is_none() && (step > 500 || life.dice.below(4) == 0) {
            let grace_secs = life.dice.below(40);
            life.world.want.deletion = Some(Deletion { at: life.world.now, grace_secs });
            life.trace.push(format!("delete in {grace_secs}s"));
        } else if life.dice.below(5) == 0 || !life.something_happens() {
            let at = wake.unwrap_or(life.world.now + SignedDuration::from_secs(1));
            life.trace.push(format!("time passes to {at}"));
            life.world.now = at.max(life.world.now);
        }
    }
    panic!("no end {}", life.trace());
}

#[test]
fn every_life_comes_to_its_end() {
    let mut longest = 0;
    for seed in 0..3000 {
        longest = longest.max(live(seed));
    }
    assert!(longest > 50, "the lives are too easy: {longest}");
}

/// Texts that a manifest's author, or an attacker, may write.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,80}", "[-a-z0-9./:@$()'=%+eEKMGi\\[\\]]{0,40}", "[a-z]{250,260}", "[0-9.]{1,60}[a-zA-Z]{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn admission_survives_any_text(texts in collection::vec(any_text(), 8), number in any::<i32>()) {
        let mut pod = crate::desired::pod(
            "{subdomain: s, volumes: [{name: v, hostPath: {path: /}}], containers: [{name: a, image: x, env: [{name: e}, {name: f, valueFrom: {fieldRef: {fieldPath: x}}}], ports: [{containerPort: 1, name: p}], volumeMounts: [{name: v, mountPath: /}], resources: {limits: {cpu: 1}}}]}",
        );
        let [name, image, quantity, field, port, path, host, variable] = texts.try_into().unwrap();
        pod.metadata.name = Some(name.clone());
        pod.metadata.labels = Some([(host.clone(), field.clone())].into());
        let spec = pod.spec.as_mut().unwrap();
        spec.hostname = Some(host);
        spec.active_deadline_seconds = Some(i64::from(number));
        spec.termination_grace_period_seconds = Some(i64::from(number));
        let container = &mut spec.containers[0];
        container.image = Some(image);
        let limits = container.resources.as_mut().unwrap().limits.as_mut().unwrap();
        limits.values_mut().for_each(|limit| limit.0 = quantity.clone());
        container.ports.as_mut().unwrap()[0].name = Some(port);
        container.ports.as_mut().unwrap()[0].container_port = number;
        container.volume_mounts.as_mut().unwrap()[0].mount_path = path;
        let env = container.env.as_mut().unwrap();
        env[0].value = Some(variable);
        env[1].value_from.as_mut().unwrap().field_ref.as_mut().unwrap().field_path = field;
        match crate::desired::admit_pod(&pod) {
            Ok(admitted) => {
                prop_assert_eq!(admitted.pod.key.name(), name);
                prop_assert!(admitted.pod.hostname.len() <= 63);
                let mounts = &admitted.pod.containers[0].mounts;
                prop_assert!(mounts.iter().all(|m| m.mount_path.is_absolute()));
            }
            Err(rejection) => prop_assert!(!rejection.errors.is_empty()),
        }
    }
}
