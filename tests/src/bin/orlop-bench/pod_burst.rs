//! Fifty pods at once, from the first manifest's appearance to the last container's
//! process running.

use crate::clock::{Marks, load};
use crate::figure::{Figure, Report, median};
use crate::{Effort, node};
use orlop_tests::wait_for;

/// Pods at once.
const PODS: usize = 50;
/// Seconds that they may take.
const SECONDS_MOST: f64 = 2.0;

pub fn run(effort: &Effort, report: &mut Report) {
    let world = node::quiet();
    let mut marks = Marks::new(world.folder("marks"));
    // One pod before, not counted: it fills caches that later ones find.
    let first = [("first".to_owned(), node::marking_pod("first", "first", marks.folder()))];
    node::appear(&world, &first);
    marks.wait("first");
    let (mut last, mut middle) = (Vec::new(), Vec::new());
    for round in 0..(if effort.quick { 3 } else { 5 }) {
        let names: Vec<String> = (0..PODS).map(|n| format!("burst-{round}-{n}")).collect();
        let manifests: Vec<_> =
            names.iter().map(|name| (name.clone(), node::marking_pod(name, name, marks.folder()))).collect();
        let began = node::appear(&world, &manifests);
        let times: Vec<f64> = names.iter().map(|name| marks.wait(name).duration_since(began).as_secs_f64()).collect();
        last.push(times.iter().copied().fold(0.0, f64::max));
        middle.push(median(&times));
        for name in &names {
            world.delete(name);
        }
        let gone = wait_for(|| (world.pods().len() <= 1).then_some(()));
        assert!(gone.is_some(), "the pods of a burst do not end");
    }
    report.add(Figure::new("pod-burst/last-of-50", median(&last), "s").at_most(SECONDS_MOST));
    report.add(Figure::new("pod-burst/last-of-50-best-round", last.iter().copied().fold(f64::MAX, f64::min), "s"));
    report.add(Figure::new("pod-burst/middle-of-50", median(&middle), "s"));
    report.note(format!("pod-burst: {} rounds of {PODS} pods, {}", last.len(), load()));
}
