//! Probes over simulated time.

use crate::desired::desired;
use crate::world::epoch;
use jiff::{SignedDuration, Timestamp};
use orlop_model::ProbeKind;
use orlop_pod::{ProbeEffect, ProbeResults, Prober};

fn at(secs: i64) -> Timestamp {
    epoch() + SignedDuration::from_secs(secs)
}

/// Drives the probes of a container until `until` seconds. `answers` gives for
/// each kind the results in order (`+`, `-`, `?`), the last one for ever. The
/// outcome is a list of `SECONDSs kinds` with, after `:`, what changed.
fn drive(fields: &str, answers: &[(ProbeKind, &str)], until: i64) -> String {
    let container = desired(&format!("containers: [{{name: a, image: x, {fields}}}]")).containers.remove(0);
    let mut prober = Prober::new(&container, epoch());
    let mut asked = [0_usize; 3];
    let mut log = Vec::new();
    while let Some(now) = prober.next().filter(|now| *now <= at(until)) {
        let due = prober.due(now);
        assert!(!due.is_empty(), "nothing due at its own time");
        assert!(prober.next().is_none_or(|next| next >= now));
        for (kind, _) in due {
            let list = answers.iter().find(|(of, _)| *of == kind).map_or("+", |(_, list)| list).as_bytes();
            let index = &mut asked[kind as usize];
            let answer = match list[(*index).min(list.len() - 1)] {
                b'+' => Some(true),
                b'-' => Some(false),
                _ => None,
            };
            *index += 1;
            let change = match prober.record(kind, answer) {
                ProbeEffect::None => String::new(),
                ProbeEffect::Changed(ProbeResults { kill: Some(why), .. }) => format!(": {why}"),
                ProbeEffect::Changed(results) => format!(": started={} ready={}", results.started, results.ready),
            };
            log.push(format!("{}s {}{change}", now.duration_since(epoch()).as_secs(), &kind.as_str()[..1]));
        }
    }
    log.join("\n")
}

#[track_caller]
fn check(fields: &str, answers: &[(ProbeKind, &str)], until: i64, want: &[&str]) {
    assert_eq!(drive(fields, answers, until), want.join("\n"), "{fields}");
}

use ProbeKind::{Liveness, Readiness, Startup};

#[test]
fn thresholds_periods_and_delays() {
    let ready = "readinessProbe: {tcpSocket: {port: 1}";
    check("", &[], 100, &[]);
    check(&format!("{ready}}}"), &[(Readiness, "+")], 20, &["0s R: started=false ready=true", "10s R", "20s R"]);
    check(
        &format!("{ready}, initialDelaySeconds: 3, periodSeconds: 2, successThreshold: 2}}"),
        &[(Readiness, "+-++")],
        9,
        &["3s R", "5s R", "7s R", "9s R: started=false ready=true"],
    );
    check(
        &format!("{ready}, periodSeconds: 1, failureThreshold: 2}}"),
        &[(Readiness, "+-+--+")],
        5,
        &[
            "0s R: started=false ready=true",
            "1s R",
            "2s R",
            "3s R",
            "4s R: started=false ready=false",
            "5s R: started=false ready=true",
        ],
    );
    check(
        "livenessProbe: {exec: {command: [x]}, periodSeconds: 1}",
        &[(Liveness, "+--+---")],
        60,
        &["0s L", "1s L", "2s L", "3s L", "4s L", "5s L", "6s L: Container a failed liveness probe, will be restarted"],
    );
}

/// The moments of the others are past by the time the startup probe succeeds: they
/// come at once.
#[test]
fn startup_holds_the_others_back() {
    let all = "startupProbe: {exec: {command: [x]}, periodSeconds: 5, failureThreshold: 2}, livenessProbe: {exec: {command: [x]}, periodSeconds: 100}, readinessProbe: {exec: {command: [x]}, initialDelaySeconds: 7}";
    check(
        all,
        &[(Startup, "-+")],
        20,
        &["0s S", "5s S: started=true ready=false", "0s L", "7s R: started=true ready=true", "17s R"],
    );
    check(all, &[(Startup, "-")], 100, &["0s S", "5s S: Container a failed startup probe, will be restarted"]);
}

#[test]
fn a_probe_that_breaks_says_nothing() {
    check(
        "livenessProbe: {exec: {command: [x]}, periodSeconds: 1, failureThreshold: 2}",
        &[(Liveness, "-??-")],
        60,
        &["0s L", "1s L", "2s L", "3s L: Container a failed liveness probe, will be restarted"],
    );
}

#[test]
fn none_is_due_while_it_is_in_flight() {
    let spec = "containers: [{name: a, image: x, readinessProbe: {exec: {command: [x]}, periodSeconds: 1}}]";
    let container = desired(spec).containers.remove(0);
    let mut prober = Prober::new(&container, epoch());
    assert_eq!(prober.due(at(0)).len(), 1);
    assert_eq!((prober.next(), prober.due(at(9)).len()), (None, 0));
    prober.record(Readiness, Some(true));
    // It took longer than its period: the next is due at once.
    assert_eq!(prober.next(), Some(at(1)));
    assert_eq!(prober.due(at(9)).len(), 1);
    assert_eq!(prober.record(Liveness, Some(false)), ProbeEffect::None);
}

#[test]
fn a_restarted_agent_takes_nothing_out_of_service() {
    let spec = "containers: [{name: a, image: x, startupProbe: {exec: {command: [x]}}, readinessProbe: {exec: {command: [x]}, failureThreshold: 2}}]";
    let container = desired(spec).containers.remove(0);
    let known = ProbeResults { started: true, ready: true, kill: None };
    let mut prober = Prober::resumed(&container, epoch(), known.clone());
    let kinds: Vec<ProbeKind> = prober.due(at(100)).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Readiness]);
    assert_eq!(prober.record(Readiness, Some(false)), ProbeEffect::None);
    assert_eq!(prober.results(), &known);
    prober.due(at(110));
    assert_eq!(prober.record(Readiness, Some(false)), ProbeEffect::Changed(ProbeResults { ready: false, ..known }));
}
