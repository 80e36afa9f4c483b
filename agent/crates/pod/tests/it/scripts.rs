//! Runs `tests/scripts/pod/*.txt`: a manifest, events, and after each what the
//! plan and the status are. A script is its own golden: it is written again from
//! what happens and must come out the same. `ORLOP_BLESS=1` writes it back.
//!
//! ```text
//! pod:                        the spec, YAML, indented
//! +10s                        time passes
//! sandbox ready               see `World`'s events in `event`
//! plan:                       what is begun, when to wake, why containers wait
//! status:                     phase, conditions, containers
//! ```

use crate::desired::desired;
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodStatus};
use orlop_model::{Deletion, ImageRef};
use orlop_pod::{PodAction, PodPlan, SandboxState, StatusContext, Step, pod_serving, status};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/scripts/pod")
}

#[test]
fn scripts_come_out_as_written() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    names.sort();
    assert!(names.len() >= 20, "only {} scripts in {}", names.len(), folder().display());
    let bless = std::env::var_os("ORLOP_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        let got = run(&text, &path);
        if got != text {
            if bless {
                std::fs::write(&path, got).unwrap();
            } else {
                let differs = got.lines().zip(text.lines()).position(|(a, b)| a != b);
                wrong.push(format!("{} (line {}):\n{got}", path.display(), differs.map_or(0, |line| line + 1)));
            }
        }
    }
    assert!(wrong.is_empty(), "ORLOP_BLESS=1 would write:\n{}", wrong.join("\n"));
}

/// The script with its blocks as they come out.
fn run(text: &str, path: &Path) -> String {
    let mut out = String::new();
    let mut world: Option<World> = None;
    let mut last = (PodPlan::default(), None::<PodStatus>);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let mut block = String::new();
        if line.ends_with(':') && !line.starts_with('#') {
            while let Some(more) = lines.next_if(|next| next.starts_with("  ")) {
                block.push_str(more);
                block.push('\n');
            }
        }
        match line {
            "pod:" => {
                out.push_str(&block);
                world = Some(World::new(desired(&block)));
            }
            "" => {}
            _ if line.starts_with('#') => {}
            _ => {
                let world = world.as_mut().unwrap_or_else(|| panic!("{}: no pod yet", path.display()));
                step(world, line, &mut last, &mut out).unwrap_or_else(|| panic!("{}: {line:?}?", path.display()));
            }
        }
    }
    out
}

fn step(world: &mut World, line: &str, last: &mut (PodPlan, Option<PodStatus>), out: &mut String) -> Option<()> {
    match line {
        "plan:" => {
            last.0 = world.turn();
            write_plan(&last.0, world.now, out);
        }
        "status:" => {
            let cx = StatusContext { host_ips: &["192.0.2.1".parse().unwrap()], previous: last.1.as_ref(), api: None };
            let status = status(&world.want, &world.seen, &last.0, &cx, world.now);
            write_status(&status, pod_serving(&world.want, &world.seen), out);
            last.1 = Some(status);
        }
        _ => match line.strip_prefix('+') {
            Some(span) => world.advance(span.parse::<SignedDuration>().ok()?),
            None => event(world, line)?,
        },
    }
    Some(())
}

/// One event; `None` when the script says something unknown.
fn event(world: &mut World, line: &str) -> Option<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let rest = |from: usize| words.get(from..).unwrap_or_default().join(" ");
    match *words.first()? {
        "sandbox" => match *words.get(1)? {
            "ready" => world.sandbox_ready(),
            "broken" => world.sandbox_broken(),
            "removed" => world.seen.sandbox = SandboxState::Pending(Step::Absent),
            "removal-failed" => {
                let removal = world.fail("removal", words.get(2)?, &rest(3));
                world.seen.sandbox = SandboxState::Broken { removal };
            }
            "failed" => world.seen.sandbox = SandboxState::Pending(world.fail("sandbox", words.get(2)?, &rest(3))),
            _ => return None,
        },
        "volumes" => match *words.get(1)? {
            "ready" => world.seen.volumes = Step::Ready,
            "failed" => world.seen.volumes = world.fail("volumes", words.get(2)?, &rest(3)),
            _ => return None,
        },
        "image" => {
            let image = ImageRef::new(*words.get(1)?).ok()?;
            let step = match *words.get(2)? {
                "ready" => {
                    world.seen.image_errors.remove(&image);
                    Step::Ready
                }
                "failed" => {
                    let error = ((*words.get(3)?).to_owned(), rest(4));
                    world.seen.image_errors.insert(image.clone(), error.clone());
                    world.fail(words[1], &error.0, &error.1)
                }
                _ => return None,
            };
            world.seen.images.insert(image, step);
        }
        "started" => words[1..].iter().for_each(|name| world.started(name)),
        "exited" => world.exited(words.get(1)?, words.get(2)?.parse().ok()?, words.get(3).unwrap_or(&"Error")),
        "cannot-create" => world.cannot_create(words.get(1)?, words.get(2)?, &rest(3)),
        "probe" => {
            let name = words.get(1)?;
            let probes = &mut world.container(name).probes;
            match *words.get(2)? {
                "started" => probes.started = true,
                "ready" => probes.ready = true,
                "unready" => probes.ready = false,
                kind => probes.kill = Some(format!("Container {name} failed {kind} probe, will be restarted")),
            }
        }
        "delete" => {
            world.want.deletion = Some(Deletion { at: world.now, grace_secs: words.get(1)?.parse().ok()? });
        }
        "evicted" => world.seen.failed = Some(("Evicted".to_owned(), rest(1))),
        // It finds what stands and runs again; steps that were under way were its own.
        "agent-restarts" => {
            world.seen.images.clear();
            if world.seen.volumes == Step::InProgress {
                world.seen.volumes = Step::Absent;
            }
        }
        "torn-down" => world.seen.teardown = Step::Ready,
        "tear-down-failed" => world.seen.teardown = world.fail("teardown", "FailedKillPod", &rest(1)),
        _ => return None,
    }
    Some(())
}

fn write_plan(plan: &PodPlan, now: Timestamp, out: &mut String) {
    for action in &plan.actions {
        let text = match action {
            PodAction::CreateSandbox => "create sandbox".to_owned(),
            PodAction::RemoveBrokenSandbox => "remove broken sandbox".to_owned(),
            PodAction::SetUpVolumes => "set up volumes".to_owned(),
            PodAction::EnsureImage(image) => format!("ensure image {image}"),
            PodAction::StartContainer { name, attempt, backoff } => {
                let next = backoff.map_or(String::new(), |b| format!(", next back-off {}s", b.delay.as_secs()));
                format!("start {name} attempt {attempt}{next}")
            }
            PodAction::StopContainer { id: _, name, grace_secs, why } => format!("stop {name} in {grace_secs}s: {why}"),
            PodAction::KillContainer { id: _, name } => format!("kill {name}"),
            PodAction::TearDown => "tear down".to_owned(),
            PodAction::Fail { reason, message } => format!("fail {reason}: {message}"),
        };
        writeln!(out, "  {text}").unwrap();
    }
    if let Some(at) = plan.wake_at {
        writeln!(out, "  wake in {}s", at.duration_since(now).as_secs()).unwrap();
    }
    for (name, why) in &plan.waiting {
        let colon = if why.message.is_empty() { "" } else { ": " };
        writeln!(out, "  {name} waits: {}{colon}{}", why.reason, why.message).unwrap();
    }
}

fn write_status(status: &PodStatus, serving: bool, out: &mut String) {
    let plus = |text: &Option<String>| text.as_ref().map_or(String::new(), |text| format!(" {text}"));
    let (phase, serving) = (status.phase.as_deref().unwrap_or("?"), if serving { " serving" } else { "" });
    writeln!(out, "  {phase}{}{}{}{serving}", plus(&status.reason), plus(&status.message), plus(&status.pod_ip))
        .unwrap();
    for condition in status.conditions.iter().flatten() {
        let since = condition.last_transition_time.as_ref().unwrap().0.duration_since(crate::world::epoch()).as_secs();
        let (kind, value) = (&condition.type_, &condition.status);
        writeln!(out, "  {kind}={value} at {since}s{}{}", plus(&condition.reason), plus(&condition.message)).unwrap();
    }
    for container in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        write_container(container, out);
    }
}

fn write_container(container: &ContainerStatus, out: &mut String) {
    let mut text = format!("{} {}", container.name, state(container.state.as_ref().unwrap()));
    if let Some(last) = container.last_state.as_ref().filter(|last| **last != ContainerState::default()) {
        write!(text, ", before {}", state(last)).unwrap();
    }
    write!(text, ", restarts {}", container.restart_count).unwrap();
    for (word, given) in [("started", container.started == Some(true)), ("ready", container.ready)] {
        if given {
            write!(text, ", {word}").unwrap();
        }
    }
    writeln!(out, "  {text}").unwrap();
}

fn state(state: &ContainerState) -> String {
    if let Some(waiting) = &state.waiting {
        return format!("waiting {}", waiting.reason.as_deref().unwrap_or("?"));
    }
    if let Some(ended) = &state.terminated {
        return format!("terminated {} {}", ended.exit_code, ended.reason.as_deref().unwrap_or("?"));
    }
    if state.running.is_some() { "running".to_owned() } else { "nothing".to_owned() }
}
