//! What to do about the server's answers; the cases of client-go's `TestWriteEventError` and more.

use crate::{after, correlator, happened, pod, through};
use orlop_events::{Answer, Delivery, Failure, Next, TRIES_MAX, TRY_PAUSE, Taken};

fn delivery(again: bool) -> Delivery {
    let mut correlator = correlator();
    let one = happened(pod("web"), "r", "m");
    if again {
        through(&mut correlator, &one, after(0));
    }
    let Taken::Write(write) = correlator.take(&one, after(1), 0) else { panic!("written") };
    Delivery::new(write, TRY_PAUSE)
}

/// What is sent for these answers, and what comes of it: `PATCH POST refused`.
fn check(again: bool, answers: &[Answer], want: &str) {
    let mut delivery = delivery(again);
    let mut story = Vec::new();
    for answer in answers {
        story.push(if delivery.patch().is_some() { "PATCH" } else { "POST" });
        match delivery.answered(answer.clone(), u64::MAX / 2) {
            Next::Again => {}
            Next::After(pause) => story.push(if pause == TRY_PAUSE { "10s" } else { "5s" }),
            Next::Written(_) => story.push("written"),
            Next::Failed(Failure::Refused) => story.push("refused"),
            Next::Failed(Failure::Unwanted) => story.push("unwanted"),
            Next::Failed(Failure::Unreachable) => story.push("given up"),
        }
    }
    assert_eq!(story.join(" "), want, "{answers:?}");
}

#[test]
fn answers() {
    use Answer::{NotFound, Refused, Unreachable, Unwanted};
    let stored = Answer::Stored(Box::new(delivery(false).write().event().clone()));
    check(false, std::slice::from_ref(&stored), "POST written");
    check(true, std::slice::from_ref(&stored), "PATCH written");
    check(false, &[Refused], "POST refused");
    check(true, &[Refused], "PATCH refused");
    check(false, &[Unwanted], "POST unwanted");
    // The event's hour on the server is over.
    check(true, &[NotFound, stored.clone()], "PATCH POST written");
    check(true, &[NotFound, Refused], "PATCH POST refused");
    // Its namespace is gone.
    check(false, &[NotFound], "POST refused");
    check(true, &[NotFound, NotFound], "PATCH POST refused");
    check(false, &[Unreachable, Unreachable, stored.clone()], "POST 5s POST 10s POST written");
    // The POST may have come through: then there is something to patch.
    check(true, &[NotFound, Unreachable, stored], "PATCH POST 5s PATCH written");
}

#[test]
fn twelve_tries_are_enough() {
    let mut delivery = delivery(true);
    for _ in 1..TRIES_MAX {
        assert!(!delivery.last_try());
        assert!(matches!(delivery.answered(Answer::Unreachable, 0), Next::After(_)));
    }
    assert!(delivery.last_try());
    assert_eq!(delivery.answered(Answer::Unreachable, 0), Next::Failed(Failure::Unreachable));
}

#[test]
fn the_first_pause_is_spread() {
    let pauses: Vec<_> = [0, u64::MAX / 4, u64::MAX]
        .iter()
        .map(|random| match delivery(false).answered(Answer::Unreachable, *random) {
            Next::After(pause) => pause.as_millis(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pauses, [0, 2_499, 9_999]);
}
