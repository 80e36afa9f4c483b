//! What holds whatever happens.

use crate::{after, happened, pod};
use k8s_openapi::api::core::v1::Event;
use orlop_events::{Answer, Correlator, Delivery, Limits, Next, Occurrence, Regarding, TRIES_MAX, TRY_PAUSE, Taken};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A server with faults: answers by lot, and keeps events by name.
#[derive(Default)]
struct Server {
    events: BTreeMap<String, Event>,
}

impl Server {
    fn answer(&mut self, delivery: &Delivery, lot: u8) -> Answer {
        match lot {
            0 => return Answer::Unreachable,
            1 => return Answer::Refused,
            // All events have passed their hour.
            2 => self.events.clear(),
            _ => {}
        }
        let (write, name) = (delivery.write(), delivery.write().name().to_owned());
        match delivery.patch() {
            Some(patch) => {
                let Some(event) = self.events.get_mut(&name) else { return Answer::NotFound };
                let mut fields = serde_json::to_value(&*event).unwrap();
                fields.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
                *event = serde_json::from_value(fields).unwrap();
                Answer::Stored(Box::new(event.clone()))
            }
            None if self.events.contains_key(&name) => Answer::Unwanted,
            None => {
                self.events.insert(name, write.event().clone());
                Answer::Stored(Box::new(write.event().clone()))
            }
        }
    }
}

/// Gaps in seconds, pods, reasons, messages.
fn stories() -> impl Strategy<Value = Vec<(i64, u8, u8, u8)>> {
    prop::collection::vec((0i64..700, 0u8..3, 0u8..2, 0u8..14), 1..150)
}

fn occurrence(of: (i64, u8, u8, u8)) -> Occurrence {
    happened(pod(&format!("pod-{}", of.1)), &format!("reason-{}", of.2), &format!("message {}", of.3))
}

proptest! {
    /// With a server that takes everything, the counts on it add up to what happened: nothing is
    /// lost but what is still held back as spam.
    #[test]
    fn the_server_hears_of_everything(story in stories()) {
        let limits = Limits { object_burst: 1_000, ..Limits::default() };
        let mut correlator = Correlator::new("kubelet", "n1", limits);
        let (mut server, mut now) = (Server::default(), 0);
        for step in &story {
            // At least a second, so that no two events have the same name.
            now += step.0 + 1;
            let Taken::Write(write) = correlator.take(&occurrence(*step), after(now), 0) else {
                panic!("no spam")
            };
            let mut delivery = Delivery::new(write, TRY_PAUSE);
            let answer = server.answer(&delivery, 9);
            let Next::Written(event) = delivery.answered(answer, 0) else { panic!("taken") };
            correlator.written(&delivery, &event);
        }
        let counted: i32 = server.events.values().map(|event| event.count.unwrap()).sum();
        prop_assert_eq!(usize::try_from(counted).unwrap(), story.len());
        let counters = correlator.counters();
        prop_assert_eq!(counters.created, server.events.len() as u64);
        prop_assert_eq!(counters.created + counters.patched, story.len() as u64);
    }

    /// Whatever the server answers: every delivery ends, every occurrence is counted once, and no
    /// event is written about an object more often than its limit.
    #[test]
    fn everything_ends_and_is_counted(story in stories(), lots in prop::collection::vec(0u8..6, 1..60)) {
        let mut correlator = Correlator::new("kubelet", "n1", Limits::default());
        let (mut server, mut now, mut lots) = (Server::default(), 0, lots.iter().cycle());
        let mut passed: BTreeMap<u8, i64> = BTreeMap::new();
        for step in &story {
            now += step.0;
            let Taken::Write(write) = correlator.take(&occurrence(*step), after(now), 0) else { continue };
            *passed.entry(step.1).or_default() += 1;
            let mut delivery = Delivery::new(write, TRY_PAUSE);
            let mut sent = 0;
            loop {
                sent += 1;
                // Each try is a PATCH and a POST at most.
                prop_assert!(sent <= 2 * TRIES_MAX);
                let answer = server.answer(&delivery, *lots.next().unwrap());
                match delivery.answered(answer, 0) {
                    Next::Again | Next::After(_) => {}
                    Next::Written(event) => break correlator.written(&delivery, &event),
                    Next::Failed(why) => break correlator.failed(why),
                }
            }
        }
        let c = correlator.counters();
        let ends = c.spam + c.created + c.patched + c.unwanted + c.refused + c.unreachable;
        prop_assert_eq!((c.taken, ends), (story.len() as u64, story.len() as u64));
        for (pod, count) in passed {
            prop_assert!(count <= 25 + now / 300, "pod {pod}: {count} in {now} s");
        }
    }

    /// A name that the API server takes, whatever the object is called.
    #[test]
    fn every_event_has_a_name(name in "\\PC{0,260}", random: u128) {
        let mut correlator = Correlator::new("kubelet", "n1", Limits::default());
        let taken = correlator.take(&happened(Regarding::pod("ns", &name, "u"), "r", "m"), after(0), random);
        let Taken::Write(write) = taken else { panic!("the first one passes") };
        let of_labels = |label: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            label.starts_with(inner) && label.ends_with(inner) && label.chars().all(|c| inner(c) || c == '-')
        };
        prop_assert!(write.name().len() <= 253 && write.name().split('.').all(of_labels), "{}", write.name());
    }
}
