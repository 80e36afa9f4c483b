//! Reports of a Node that lives.

use crate::merge::{apply, sorted};
use crate::register::{at, facts};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{AttachedVolume, Node, NodeCondition, NodeSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use orlop_node::{NodeFacts, ReportSchedule, Severity, Update, events, register, status_patch};
use serde_json::json;

/// A Node as the API server has it, and the schedule of its reports.
struct World {
    facts: NodeFacts,
    node: Node,
    schedule: ReportSchedule,
}

impl World {
    fn new() -> Self {
        let facts = facts();
        let node = register(&facts, at(0));
        let mut schedule = ReportSchedule::new(SignedDuration::from_mins(5));
        schedule.reported(true, at(0), 0.5);
        Self { facts, node, schedule }
    }

    /// Sends the report of a second, if there is one, and takes the API server's answer.
    fn report(&mut self, second: i64) -> Option<Update> {
        let update = status_patch(&self.node, &self.facts, &self.schedule, at(second))?;
        let mut stored = serde_json::to_value(&self.node).unwrap();
        apply(&mut stored, update.patch.as_value());
        assert_eq!(sorted(stored.clone()), sorted(serde_json::to_value(&update.node).unwrap()));
        self.node = serde_json::from_value(stored).unwrap();
        self.schedule.reported(update.changed, at(second), 0.5);
        Some(update)
    }

    #[track_caller]
    fn check(&mut self, second: i64, want: Option<bool>) {
        assert_eq!(self.report(second).map(|update| update.changed), want, "at {second} s");
    }
}

#[test]
fn unchanged_every_five_minutes_changed_at_once() {
    let mut world = World::new();
    world.check(10, None);
    world.check(299, None);
    world.check(300, Some(false));
    world.facts.seen.pressures.disk = true;
    world.check(310, Some(true));
    world.check(320, None);
    world.facts.seen.images.clear();
    world.check(330, Some(true));
    world.facts.machine.memory_bytes += 1 << 30;
    world.check(340, Some(true));
    world.check(639, None);
    world.check(640, Some(false));
}

#[test]
fn an_agent_that_starts_again_reports_at_once() {
    let mut world = World::new();
    world.schedule = ReportSchedule::new(SignedDuration::from_mins(5));
    world.check(10, Some(false));
    world.check(20, None);
}

#[test]
fn a_heartbeat_alone_is_small() {
    let mut world = World::new();
    let update = world.report(300).unwrap();
    let status = update.patch.as_value()["status"].as_object().unwrap();
    assert_eq!(status.keys().collect::<Vec<_>>(), ["conditions"]);
    assert_eq!(status["conditions"][0], json!({"type": "MemoryPressure", "lastHeartbeatTime": "1970-01-01T00:05:00Z"}));
}

#[test]
fn what_is_not_the_agents_stays() {
    let mut world = World::new();
    let status = world.node.status.as_mut().unwrap();
    for list in [&mut status.capacity, &mut status.allocatable] {
        list.as_mut().unwrap().insert("a.io/gpu".into(), Quantity("4".into()));
    }
    status.allocatable.as_mut().unwrap().insert("a.io/gone".into(), Quantity("1".into()));
    status.volumes_attached = Some(vec![AttachedVolume { name: "v".into(), device_path: "d".into() }]);
    status.volumes_in_use = Some(vec!["v".into()]);
    let other = NodeCondition { type_: "NetworkUnavailable".into(), status: "False".into(), ..Default::default() };
    status.conditions.as_mut().unwrap().insert(0, other.clone());
    world.node.metadata.labels.as_mut().unwrap().insert("theirs".into(), "x".into());
    let update = world.report(300).unwrap();
    let after = update.node.status.unwrap();
    assert_eq!(after.conditions.as_ref().unwrap()[0], other);
    assert_eq!(after.capacity.as_ref().unwrap()["a.io/gpu"].0, "4");
    assert_eq!(after.allocatable.as_ref().unwrap()["a.io/gpu"].0, "4");
    assert!(!after.allocatable.as_ref().unwrap().contains_key("a.io/gone"));
    assert_eq!((after.volumes_attached.unwrap().len(), after.volumes_in_use.unwrap().len()), (1, 1));
    assert_eq!(update.node.metadata.labels.unwrap()["theirs"], "x");
}

#[test]
fn labels_that_the_scheduler_needs_come_back() {
    let mut world = World::new();
    world.node.metadata.labels = None;
    let update = world.report(10).unwrap();
    let want = json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"});
    assert_eq!(update.patch.as_value()["metadata"]["labels"], want);
}

#[track_caller]
fn check_events(change: impl FnOnce(&mut World), want: &[(Severity, &str, &str)]) {
    let mut world = World::new();
    let before = world.node.clone();
    change(&mut world);
    let after = world.report(400).unwrap().node;
    let got = events(&before, &after);
    let got: Vec<_> = got.iter().map(|event| (event.severity, event.reason, event.message.as_str())).collect();
    assert_eq!(got, want);
}

#[test]
fn events_of_a_node() {
    use Severity::{Normal, Warning};
    check_events(|_| (), &[]);
    check_events(
        |world| {
            world.facts.seen.pressures.memory = true;
            world.facts.seen.not_ready = vec!["x".into()];
        },
        &[
            (Normal, "NodeHasInsufficientMemory", "Node n1 status is now: NodeHasInsufficientMemory"),
            (Normal, "NodeNotReady", "Node n1 status is now: NodeNotReady"),
        ],
    );
    check_events(
        |world| world.facts.machine.boot_id = "new".into(),
        &[(Warning, "Rebooted", "Node n1 has been rebooted, boot id: new")],
    );
    check_events(
        |world| world.node.spec = Some(NodeSpec { unschedulable: Some(true), ..NodeSpec::default() }),
        &[(Normal, "NodeNotSchedulable", "Node n1 status is now: NodeNotSchedulable")],
    );
    let new = register(&facts(), at(0));
    let reasons: Vec<_> = events(&Node::default(), &new).into_iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]);
}
