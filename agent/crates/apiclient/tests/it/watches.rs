//! What happens to a watch while it stands.

use crate::server::{Answer, Server, Stream};
use crate::{Thing, bookmark, expect, line, status, thing, until};
use orlop_apiclient::{Client, PODS, Watch, WatchOptions, watch};

/// A server whose first answer is a list of nothing at version 5, and which then follows the script.
async fn listed(script: Vec<(&'static str, Answer)>, options: WatchOptions) -> (Server, Watch<Thing>, Stream) {
    let (first, stream) = Answer::stream(&[bookmark(5, true)]);
    let script = std::iter::once(("sendInitialEvents=true", first)).chain(script).collect();
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), options);
    expect(&mut events, &["begin", "done"]).await;
    (server, events, stream)
}

/// The server is at this version.
fn newest(version: u64) -> (&'static str, Answer) {
    ("pods?limit=1", Answer::ok(format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"items":[]}}"#)))
}

#[tokio::test]
async fn half_a_line_is_not_half_an_event() {
    let (again, _open) = Answer::stream(&[line("MODIFIED", &thing("a", 7))]);
    let script = vec![newest(7), ("watch=true&resourceVersion=6&", again)];
    let (_server, mut events, stream) = listed(script, WatchOptions::default()).await;
    let whole = line("MODIFIED", &thing("a", 7));
    stream.say(line("ADDED", &thing("a", 6)) + &whole[..whole.len() / 2]);
    drop(stream);
    expect(&mut events, &["applied a=6", "applied a=7"]).await;
    let error = events.health().state().last_error.unwrap();
    assert!(error.contains("ended within a line"), "{error}");
}

#[tokio::test]
async fn events_may_come_in_any_pieces() {
    let (_server, mut events, stream) = listed(vec![], WatchOptions::default()).await;
    let text: String = (6..40).map(|n| line("MODIFIED", &thing("a", n))).collect();
    let want: Vec<String> = (6..40).map(|n| format!("applied a={n}")).collect();
    let want: Vec<&str> = want.iter().map(String::as_str).collect();
    for piece in text.as_bytes().chunks(97) {
        stream.say(String::from_utf8(piece.to_vec()).unwrap());
    }
    expect(&mut events, &want).await;
}

#[tokio::test]
async fn a_reset_goes_on_from_the_last_event_or_bookmark() {
    let (again, _open) = Answer::stream(&[line("DELETED", &thing("a", 31))]);
    let script = vec![newest(30), ("watch=true&resourceVersion=20&", again)];
    let (_server, mut events, stream) = listed(script, WatchOptions::default()).await;
    stream.say(line("ADDED", &thing("a", 6)) + &bookmark(20, false));
    expect(&mut events, &["applied a=6"]).await;
    stream.reset();
    expect(&mut events, &["deleted a=31"]).await;
    let state = until(&events, "the watch to be back", |state| state.down_since.is_none()).await;
    assert_eq!((state.lists, state.failures), (1, 1));
}

#[tokio::test]
async fn errors_in_the_stream_and_refusals_are_waited_out() {
    let busy = Answer::Whole(429, vec![("retry-after", "1".to_owned())], status(429, "TooManyRequests", "null").into());
    let (again, _open) = Answer::stream(&[line("ADDED", &thing("a", 9))]);
    let script = vec![
        ("watch=true&resourceVersion=6&", busy),
        ("watch=true&resourceVersion=6&", Answer::no(503, "starting")),
        newest(8),
        ("watch=true&resourceVersion=6&", again),
    ];
    let (_server, mut events, stream) = listed(script, WatchOptions::default()).await;
    stream.say(line("MODIFIED", &thing("a", 6)) + &line("ERROR", &status(500, "InternalError", "null")));
    expect(&mut events, &["applied a=6"]).await;
    let state = until(&events, "the failure", |state| state.down_since.is_some()).await;
    assert!(state.last_error.unwrap().contains("500 InternalError said so"));
    expect(&mut events, &["applied a=9"]).await;
    assert_eq!(events.health().state().failures, 3);
}

#[tokio::test]
async fn an_event_that_is_not_understood_does_not_stop_the_others() {
    let (_server, mut events, stream) = listed(vec![], WatchOptions::default()).await;
    let odd = r#"{"metadata":{"name":"odd","resourceVersion":"7"},"size":-1}"#;
    stream.say(line("ADDED", odd) + &line("NEWFANGLED", "{}") + &line("ADDED", &thing("a", 8)));
    expect(&mut events, &["applied a=8"]).await;
    let state = events.health().state();
    assert_eq!((state.unparsable, state.failures), (1, 0));
}

#[tokio::test]
async fn a_line_without_end_is_given_up() {
    let (again, _open) = Answer::stream(&[line("ADDED", &thing("a", 6))]);
    let script = vec![("watch=true&resourceVersion=5&", again)];
    let options = WatchOptions { line_bytes_max: 1000, ..WatchOptions::default() };
    let (_server, mut events, stream) = listed(script, options).await;
    stream.say("x".repeat(1001));
    expect(&mut events, &["applied a=6"]).await;
    let error = events.health().state().last_error.unwrap();
    assert!(error.contains("longer than 1000 bytes"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let (server, mut events, stream) = listed(vec![], WatchOptions::default()).await;
    let address = server.address;
    drop(stream);
    drop(server);
    until(&events, "two failures", |state| state.failures >= 2).await;
    assert!(events.health().state().down_since.is_some());
    let listener = crate::soon("the address to be free", async {
        loop {
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let (again, _open) = Answer::stream(&[line("ADDED", &thing("a", 6))]);
    let script = vec![newest(6), ("watch=true&resourceVersion=5&", again)];
    let _server = Server::script_on(listener, script);
    expect(&mut events, &["applied a=6"]).await;
}

#[tokio::test]
async fn a_dropped_watch_lets_go_of_its_connection() {
    let (_server, events, stream) = listed(vec![], WatchOptions::default()).await;
    drop(events);
    crate::soon("the stream to be closed", stream.closed()).await;
}
