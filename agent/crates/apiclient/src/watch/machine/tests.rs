use super::*;

/// One line each: what is seen, and what the machine makes of it.
///
/// `open`, `item V`, `mark V`, `end V` (the bookmark that ends a list), `closed`,
/// `page V [TOKEN]`, `newest V`, `fail WHY`, `at SECONDS`.
fn check(streaming: bool, script: &[(&str, &str)]) {
    let mut machine = Machine::new(streaming, 500, 7);
    let mut now = Duration::ZERO;
    let mut got = vec![("start", show_ask(&machine.start()))];
    for (seen, _) in &script[1..] {
        let words: Vec<&str> = seen.split(' ').collect();
        if words[0] == "at" {
            now = Duration::from_secs(words[1].parse().unwrap());
            got.push((seen, String::new()));
            continue;
        }
        got.push((seen, show(&machine.on(read(&words), now))));
    }
    let want: Vec<(&str, String)> = script.iter().map(|(seen, next)| (*seen, (*next).to_owned())).collect();
    assert_eq!(got, want);
}

fn read<'a>(words: &[&'a str]) -> Seen<'a> {
    let version = words.get(1).copied().unwrap_or_default();
    match words[0] {
        "open" => Seen::Opened,
        "item" => Seen::Event { version },
        "mark" => Seen::Bookmark { version, ends_list: false },
        "end" => Seen::Bookmark { version, ends_list: true },
        "closed" => Seen::Ended,
        "page" => Seen::Page { version, more: words.get(2).map(|token| (*token).to_owned()) },
        "newest" => Seen::Newest { version },
        "fail" => Seen::Failed(match version {
            "away" => Failure::Away,
            "replaced" => Failure::Replaced,
            "gone" => Failure::Gone,
            "ahead" => Failure::VersionTooLarge { retry_after: Some(Duration::from_secs(1)) },
            "401" => Failure::Unauthorized,
            "busy" => Failure::Busy { retry_after: Some(Duration::from_secs(40)) },
            "400" => Failure::NotStreaming,
            "other" => Failure::Other,
            why => panic!("{why}"),
        }),
        word => panic!("{word}"),
    }
}

fn show(step: &Step) -> String {
    let mut words = Vec::new();
    words.extend(step.begin.then(|| "begin".to_owned()));
    words.extend(step.done.then(|| "done".to_owned()));
    words.extend(step.went_back.as_ref().map(|ours| format!("went-back-from {ours}")));
    if let Some((wait, ask)) = &step.next {
        let wait = match wait.as_millis() {
            0 => "now",
            1..=800 => "spread",
            801..=1600 => "backoff-1",
            1601..=3200 => "backoff-2",
            3201..=30_000 => "backoff-n",
            40_000..=50_000 => "told",
            wait => panic!("{wait} ms"),
        };
        words.push(format!("{wait} {}", show_ask(ask)));
    }
    words.join(" ")
}

fn show_ask(ask: &Ask) -> String {
    let known = |version: &Option<String>| version.clone().unwrap_or_else(|| "newest".to_owned());
    match ask {
        Ask::Stream { not_older_than, seconds } => {
            assert!((300..=600).contains(seconds));
            format!("stream-list {}", known(not_older_than))
        }
        Ask::Page { more: Some(more), limit: Some(500), not_older_than: None } => format!("page {more}"),
        Ask::Page { more: None, limit: Some(500), not_older_than } => format!("list {}", known(not_older_than)),
        Ask::Page { more: None, limit: None, not_older_than } => format!("list-whole {}", known(not_older_than)),
        Ask::Page { .. } => panic!("{ask:?}"),
        Ask::Watch { after, seconds } => {
            assert!((300..=600).contains(seconds));
            format!("watch {after}")
        }
        Ask::Newest => "newest".to_owned(),
    }
}

#[test]
fn a_streaming_list_goes_over_into_a_watch() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("open", "begin"),
            ("item 9", ""),
            ("item 3", ""),
            ("mark 4", ""),
            ("end 10", "done"),
            ("item 11", ""),
            ("mark 15", ""),
            ("at 300", ""),
            ("closed", "now watch 15"),
        ],
    );
}

#[test]
fn a_streaming_list_that_breaks_off_begins_again() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("fail away", "backoff-1 stream-list newest"),
            ("open", "begin"),
            ("item 9", ""),
            ("fail away", "backoff-2 stream-list newest"),
            ("open", "begin"),
            ("at 6", ""),
            ("fail away", "spread stream-list newest"),
            ("open", "begin"),
            ("closed", "backoff-n stream-list newest"),
        ],
    );
}

#[test]
fn servers_without_streaming_are_asked_for_pages() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("fail 400", "now list 0"),
            ("page 7 a", "begin now page a"),
            ("page 8 b", "now page b"),
            ("fail away", "backoff-1 page b"),
            ("page 9", "done now watch 7"),
            ("open", ""),
            ("item 12", ""),
            ("at 10", ""),
            // For good: the server has not learnt it meanwhile.
            ("fail gone", "spread list-whole 12"),
        ],
    );
}

#[test]
fn an_error_with_streaming_leads_to_pages_for_this_time() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("fail other", "now list 0"),
            ("page 7", "begin done now watch 7"),
            ("fail gone", "backoff-1 stream-list 7"),
            ("fail other", "now list-whole 7"),
            ("fail other", "backoff-2 list-whole 7"),
        ],
    );
}

#[test]
fn a_continue_token_expires() {
    check(
        false,
        &[
            ("start", "list 0"),
            ("page 7 a", "begin now page a"),
            ("fail gone", "now list-whole newest"),
            ("page 8", "begin done now watch 8"),
        ],
    );
}

#[test]
fn an_expired_watch_lists_what_is_not_older() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("open", "begin"),
            ("end 10", "done"),
            ("item 20", ""),
            ("at 9", ""),
            ("fail gone", "spread stream-list 20"),
            // Not even that: then the newest there is.
            ("fail gone", "backoff-1 stream-list newest"),
            ("open", "begin"),
            ("end 5", "done"),
            ("item 6", ""),
        ],
    );
}

#[test]
fn after_an_absence_the_server_is_asked_how_far_it_is() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("open", "begin"),
            ("end 10", "done"),
            ("at 9", ""),
            ("fail away", "spread newest"),
            ("fail away", "backoff-1 newest"),
            ("fail away", "backoff-2 newest"),
            ("newest 10", "now watch 10"),
            ("fail away", "backoff-n newest"),
            ("fail other", "backoff-n watch 10"),
            ("open", ""),
            ("item 11", ""),
        ],
    );
}

#[test]
fn an_older_state_is_listed_as_it_is() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("open", "begin"),
            ("end 10", "done"),
            ("at 9", ""),
            ("fail away", "spread newest"),
            ("newest 4", "went-back-from 10 spread stream-list newest"),
            ("open", "begin"),
            ("end 4", "done"),
            ("item 5", ""),
            ("mark 3", "went-back-from 5 backoff-1 stream-list newest"),
        ],
    );
}

#[test]
fn a_version_that_the_server_has_not_reached() {
    check(
        false,
        &[
            ("start", "list 0"),
            ("page 9", "begin done now watch 9"),
            // Another server behind the same name may lag; the doubt is settled by asking.
            ("fail ahead", "backoff-1 newest"),
            ("newest 9", "now watch 9"),
            ("open", ""),
            ("at 9", ""),
            ("fail gone", "spread list-whole 9"),
            ("fail ahead", "backoff-2 list newest"),
            ("page 3", "begin done now watch 3"),
        ],
    );
}

#[test]
fn refusals_and_our_own_doing() {
    check(
        true,
        &[
            ("start", "stream-list newest"),
            ("fail 401", "backoff-1 stream-list newest"),
            ("fail busy", "told stream-list newest"),
            ("open", "begin"),
            ("end 10", "done"),
            ("fail replaced", "now watch 10"),
            ("fail 401", "backoff-n watch 10"),
            ("fail busy", "told watch 10"),
            ("open", ""),
            // Too short to be in order.
            ("closed", "backoff-n watch 10"),
            ("fail other", "backoff-n watch 10"),
        ],
    );
}

#[test]
fn versions_that_are_no_numbers_are_not_compared() {
    assert!(is_before("9", "10") && !is_before("10", "9") && !is_before("10", "10"));
    assert!(!is_before("a", "b") && !is_before("", "1") && !is_before("1", ""));
}

/// A server that fails as chance has it, for many seeds: a watch is never without a next
/// request, never waits too long, and gets to its list once the server behaves.
#[test]
fn whatever_happens_it_goes_on() {
    for seed in 0..500 {
        let mut chance = Backoff::new(seed);
        let mut machine = Machine::new(seed % 2 == 0, 500, seed);
        let mut now = Duration::ZERO;
        let mut ask = machine.start();
        let mut listed = false;
        for round in 0..60 {
            let hostile = round < 40;
            let (seen, stream) = answer(&ask, hostile, &mut chance);
            for what in seen {
                now += Duration::from_millis(700);
                let step = machine.on(what, now);
                listed |= step.done;
                if let Some((wait, next)) = step.next {
                    assert!(wait <= Duration::from_secs(75), "{wait:?}");
                    now += wait;
                    ask = next;
                    break;
                }
                assert!(stream, "seed {seed}: an answer without a next request");
            }
            assert!(listed || !matches!(ask, Ask::Watch { .. }), "seed {seed}: a watch before a list");
        }
        assert!(listed, "seed {seed}");
    }
}

/// What a server might answer; the last of a stream always ends it.
fn answer(ask: &Ask, hostile: bool, chance: &mut Backoff) -> (Vec<Seen<'static>>, bool) {
    let failures = [
        Failure::Away,
        Failure::Replaced,
        Failure::Gone,
        Failure::VersionTooLarge { retry_after: None },
        Failure::Unauthorized,
        Failure::Busy { retry_after: Some(Duration::from_secs(90)) },
        Failure::Other,
    ];
    let failure = Seen::Failed(failures[(chance.fraction() * 7.0) as usize]);
    let version = ["5", "50", "500"][(chance.fraction() * 3.0) as usize];
    if hostile && chance.fraction() < 0.6 {
        return (vec![failure], false);
    }
    match ask {
        Ask::Stream { .. } => (
            vec![Seen::Opened, Seen::Event { version: "1" }, Seen::Bookmark { version, ends_list: true }, failure],
            true,
        ),
        Ask::Watch { .. } => (vec![Seen::Opened, Seen::Event { version }, failure], true),
        Ask::Page { more: None, .. } if hostile => (vec![Seen::Page { version, more: Some("t".to_owned()) }], false),
        Ask::Page { .. } => (vec![Seen::Page { version, more: None }], false),
        Ask::Newest => (vec![Seen::Newest { version }], false),
    }
}
