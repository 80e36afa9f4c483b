//! New, again, or too much.

use crate::{after, correlator, happened, pod, stored, through};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orlop_events::{Correlator, Counters, Delivery, Dropped, Limits, Occurrence, Regarding, TRY_PAUSE, Taken};
use orlop_model::{ContainerRole, EventKind};
use serde_json::json;

fn part(name: &str) -> Regarding {
    pod("web").container(ContainerRole::Main, name)
}

fn similar(count: usize, container: &str) -> Vec<Occurrence> {
    (0..count).map(|n| happened(part(container), "similar", &format!("message {n}"))).collect()
}

fn same(count: usize) -> Vec<Occurrence> {
    vec![happened(pod("web"), "again", "the same"); count]
}

/// After these, every so many seconds, what does the last one say, and how often? `-` for spam.
fn check(before: &[Occurrence], last: &Occurrence, every: i64, want: &str) {
    let mut correlator = correlator();
    let mut now = 0;
    for occurrence in before {
        through(&mut correlator, occurrence, after(now));
        now += every;
    }
    let event = through(&mut correlator, last, after(now));
    let shown = event.map_or_else(|| "-".to_owned(), |e| format!("{} x{}", e.message.unwrap(), e.count.unwrap()));
    assert_eq!(shown, want, "after {} events, {every} s apart", before.len());
}

#[test]
fn events_are_counted_combined_and_dropped() {
    let one = happened(pod("web"), "again", "the same");
    let another = happened(part("a"), "similar", "another");
    check(&[], &one, 5, "the same x1");
    check(&same(1), &one, 5, "the same x2");
    // Counting alone does not combine, and slowly enough it is no spam.
    check(&same(10), &one, 30, "the same x11");
    check(&same(25), &one, 1, "-");
    check(&same(30), &one, 300, "the same x31");
    // Pods of their own, reasons of their own.
    let others: Vec<_> = (0..30).map(|n| happened(pod(&format!("pod-{n}")), &format!("r{n}"), "m")).collect();
    check(&others, &one, 5, "the same x1");
    // Similar is what differs in its message alone.
    check(&similar(8, "a"), &another, 5, "another x1");
    check(&similar(9, "a"), &another, 5, "(combined from similar events): another x1");
    check(&similar(10, "a"), &another, 5, "(combined from similar events): another x2");
    check(&similar(9, "a"), &happened(part("a"), "other reason", "another"), 5, "another x1");
    let warning = Occurrence { kind: EventKind::Warning, ..another.clone() };
    check(&similar(9, "a"), &warning, 5, "another x1");
    // Another container is another event; in a series the container makes no difference.
    check(&[happened(part("b"), "similar", "another")], &another, 5, "another x1");
    check(&similar(9, "b"), &another, 5, "(combined from similar events): another x1");
    // The interval is between one and the next; exactly ten minutes still counts.
    check(&similar(9, "a"), &another, 600, "(combined from similar events): another x1");
    check(&similar(9, "a"), &another, 601, "another x1");
    // Those that had an event of their own before go on counting there.
    let mut nine_and_one_more = similar(9, "a");
    nine_and_one_more.push(another.clone());
    check(&nine_and_one_more, &similar(9, "a")[0], 5, "message 0 x2");
    check(&nine_and_one_more, &another, 5, "(combined from similar events): another x2");
}

/// The first passes a limit of one; does the second?
#[test]
fn spam_is_by_object_and_type() {
    let check = |second: &Occurrence, passes: bool| {
        let limits = Limits { object_burst: 1, ..Limits::default() };
        let mut correlator = Correlator::new("kubelet", "n1", limits);
        through(&mut correlator, &happened(pod("web"), "r", "m"), after(0)).unwrap();
        let taken = correlator.take(second, after(1), 0);
        assert_eq!(matches!(taken, Taken::Write(_)), passes, "{second:?}");
        if !passes {
            assert_eq!(taken, Taken::Dropped(Dropped::Spam));
        }
    };
    check(&happened(pod("web"), "other", "other"), false);
    check(&happened(part("c"), "r", "m"), false);
    check(&happened(pod("web").at_version("7"), "r", "m"), false);
    check(&happened(pod("web-2"), "r", "m"), true);
    check(&happened(Regarding::pod("other", "web", "c934d34a"), "r", "m"), true);
    check(&happened(Regarding::pod("shop", "web", "another uid"), "r", "m"), true);
    check(&Occurrence { kind: EventKind::Warning, ..happened(pod("web"), "r", "m") }, true);
}

#[test]
fn spam_counts_and_says_so_when_it_may() {
    let mut correlator = correlator();
    let one = happened(pod("web"), "again", "the same");
    let passed = (0..60).filter(|n| through(&mut correlator, &one, after(*n)).is_some()).count();
    assert_eq!(passed, 25);
    assert_eq!(through(&mut correlator, &one, after(299)), None);
    let event = through(&mut correlator, &one, after(300)).expect("one more after five minutes");
    assert_eq!(event.count, Some(62));
    let want = Counters { taken: 62, spam: 36, created: 1, patched: 25, ..Counters::default() };
    assert_eq!(correlator.counters(), want);
}

#[test]
fn a_new_event_is_whole() {
    let check = |of: &Occurrence, want: serde_json::Value| {
        let Taken::Write(write) = correlator().take(of, after(0), 0) else { panic!("written") };
        assert_eq!(write.patch(), None);
        assert_eq!(serde_json::to_value(write.event()).unwrap(), want);
    };
    let common = |name: &str, namespace: &str, involved: serde_json::Value, kind: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved, "reason": "r", "message": "m", "type": kind, "count": 1,
            "source": {"component": "kubelet", "host": "n1"},
            "reportingComponent": "kubelet", "reportingInstance": "n1",
            "firstTimestamp": "2024-01-02T03:04:05Z", "lastTimestamp": "2024-01-02T03:04:05Z",
        })
    };
    let of_pod = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web", "uid": "c934d34a",
        "resourceVersion": "7", "fieldPath": "spec.initContainers{c}"});
    let container = pod("web").at_version("7").container(ContainerRole::Init, "c");
    check(&happened(container, "r", "m"), common("web.17a668b730013200", "shop", of_pod, "Normal"));
    let node = Occurrence { kind: EventKind::Warning, ..happened(Regarding::node("n1", Some("u")), "r", "m") };
    let of_node = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"});
    check(&node, common("n1.17a668b730013200", "default", of_node, "Warning"));
    let unregistered = happened(Regarding::node("n1", None), "r", "m");
    let of_name = json!({"apiVersion": "v1", "kind": "Node", "name": "n1"});
    check(&unregistered, common("n1.17a668b730013200", "default", of_name, "Normal"));
}

#[test]
fn what_happens_again_is_a_patch_of_the_same_event() {
    let mut correlator = correlator();
    let one = happened(pod("web"), "r", "m");
    let first = through(&mut correlator, &one, after(0)).unwrap();
    // Another state of the object is no other event.
    let later = happened(pod("web").at_version("9"), "r", "m");
    let Taken::Write(write) = correlator.take(&later, after(61), 0) else { panic!("written") };
    assert_eq!(write.patch(), Some(&json!({"count": 2, "lastTimestamp": "2024-01-02T03:05:06Z", "message": "m"})));
    assert_eq!((Some(write.name()), write.namespace()), (first.metadata.name.as_deref(), "shop"));
    assert_eq!((&write.event().first_timestamp, write.event().count), (&first.first_timestamp, Some(2)));
}

#[test]
fn a_combined_event_is_patched_with_the_newest_message() {
    let mut correlator = correlator();
    for occurrence in similar(9, "a") {
        through(&mut correlator, &occurrence, after(0));
    }
    let combined = through(&mut correlator, &happened(part("a"), "similar", "x"), after(60)).unwrap();
    // client-go's has neither, and its times are its own.
    assert_eq!((&combined.reporting_component, &combined.reporting_instance), (&None, &None));
    assert_eq!((&combined.first_timestamp, &combined.last_timestamp), (&Some(Time(after(60))), &Some(Time(after(60)))));
    let Taken::Write(write) = correlator.take(&happened(part("b"), "similar", "y"), after(65), 0) else {
        panic!("written")
    };
    assert_eq!(
        write.patch(),
        Some(&json!({"count": 2, "lastTimestamp": "2024-01-02T03:05:10Z",
            "message": "(combined from similar events): y"}))
    );
    assert_eq!(write.event().metadata.name, combined.metadata.name);
    stored(&mut correlator, write);
    assert_eq!(
        correlator.counters(),
        Counters { taken: 11, combined: 2, created: 10, patched: 1, ..Counters::default() }
    );
}

#[test]
fn the_server_knows_best() {
    let mut correlator = correlator();
    let one = happened(pod("web"), "r", "m");
    let Taken::Write(write) = correlator.take(&one, after(0), 0) else { panic!("written") };
    let whole_second: Timestamp = after(-1);
    let mut there: Event = write.event().clone();
    (there.count, there.first_timestamp) = (Some(7), Some(Time(whole_second)));
    correlator.written(&Delivery::new(write, TRY_PAUSE), &there);
    let Taken::Write(again) = correlator.take(&one, after(1), 0) else { panic!("written") };
    assert_eq!((again.event().count, &again.event().first_timestamp), (Some(8), &Some(Time(whole_second))));
}

#[test]
fn what_is_remembered_is_limited() {
    let limits = Limits { remembered_max: 2, object_refill: SignedDuration::from_hours(9), ..Limits::default() };
    let mut correlator = Correlator::new("kubelet", "n1", limits);
    let of = |name: &str| happened(pod(name), "r", "m");
    let counts: Vec<_> = ["a", "a", "b", "a", "c", "a", "b"]
        .iter()
        .map(|name| through(&mut correlator, &of(name), after(0)).unwrap().count.unwrap())
        .collect();
    assert_eq!(counts, [1, 2, 1, 3, 1, 4, 1], "b had to make room for c");
}
