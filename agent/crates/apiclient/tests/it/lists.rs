//! How a watch comes by its first list, and by another when it needs one.

use crate::server::{Answer, Server};
use crate::{Thing, bookmark, expect, line, status, thing, until};
use orlop_apiclient::{Client, PODS, Selectors, WatchOptions, watch};

fn page(version: u64, more: &str, items: &[String]) -> Answer {
    Answer::ok(format!(
        r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{more}"}},"items":[{}]}}"#,
        items.join(",")
    ))
}

fn paged() -> WatchOptions {
    WatchOptions { streaming: false, ..WatchOptions::default() }
}

#[tokio::test]
async fn a_streaming_list() {
    let (answer, stream) = Answer::stream(&[line("ADDED", &thing("b", 9)), line("ADDED", &thing("a", 1))]);
    let server = Server::script(None, vec![("GET /api/v1/namespaces/web/pods?", answer)]).await;
    let client = Client::new(server.settings()).unwrap();
    let options = WatchOptions::new(Selectors { fields: "spec.nodeName=n1".to_owned(), labels: "!x".to_owned() });
    let mut events = watch::<Thing>(&client, PODS.within("web"), options);
    expect(&mut events, &["begin", "item b=9", "item a=1"]).await;
    let label = &server.asked()[0].label;
    for part in [
        "fieldSelector=spec.nodeName%3Dn1",
        "labelSelector=%21x",
        "watch=true",
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=&",
        "allowWatchBookmarks=true",
        "timeoutSeconds=",
    ] {
        assert!(label.contains(part), "{part} in {label}");
    }
    assert!(!events.health().state().listed);
    stream.say(bookmark(10, true));
    expect(&mut events, &["done"]).await;
    stream.say(line("MODIFIED", &thing("a", 11)) + &line("DELETED", &thing("b", 12)));
    expect(&mut events, &["applied a=11", "deleted b=12"]).await;
    let state = events.health().state();
    assert!(state.listed && state.down_since.is_none());
    assert_eq!((state.lists, state.connects, state.failures, state.events), (1, 1, 0, 4));
}

#[tokio::test]
async fn a_server_that_does_not_stream_lists_is_asked_for_pages() {
    let (answer, stream) = Answer::stream(&[]);
    let refused = Answer::no(422, status(422, "Invalid", "null"));
    let script = vec![
        ("sendInitialEvents=true", refused),
        ("pods?limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan", page(7, "c1", &[thing("a", 1)])),
        ("pods?limit=500&continue=c1", page(7, "", &[thing("b", 2)])),
        ("pods?watch=true&resourceVersion=7&", answer),
    ];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    expect(&mut events, &["begin", "item a=1", "item b=2", "done"]).await;
    stream.say(line("ADDED", &thing("c", 8)));
    expect(&mut events, &["applied c=8"]).await;
}

#[tokio::test]
async fn a_list_whose_end_is_never_marked_is_asked_for_in_pages() {
    // What a server before 1.27 does with a parameter that it does not know.
    let (endless, _open) = Answer::stream(&[line("ADDED", &thing("a", 1))]);
    let script = vec![("sendInitialEvents=true", endless), ("pods?limit=500", page(7, "", &[thing("a", 1)]))];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    expect(&mut events, &["begin", "item a=1", "begin", "item a=1", "done"]).await;
    assert_eq!(events.health().state().failures, 0, "pages do as well");
}

#[tokio::test]
async fn an_expired_continue_token_costs_one_whole_list() {
    let script = vec![
        ("pods?limit=500&resourceVersion=0", page(7, "c1", &[thing("a", 1)])),
        ("continue=c1", Answer::no(410, status(410, "Expired", "null"))),
        ("GET /api/v1/pods", page(8, "", &[thing("a", 1), thing("b", 8)])),
        ("watch=true&resourceVersion=8", Answer::Silence),
    ];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), paged());
    expect(&mut events, &["begin", "item a=1", "begin", "item a=1", "item b=8", "done"]).await;
    assert_eq!(server.asked_times(4).await[2].label, "GET /api/v1/pods");
}

#[tokio::test]
async fn an_expired_version_is_listed_again() {
    let gone = line("ERROR", &status(410, "Expired", "null"));
    let (second, _open) = Answer::stream(&[line("ADDED", &thing("b", 30)), bookmark(40, true)]);
    let script = vec![
        (
            "resourceVersion=&",
            Answer::ended(&[line("ADDED", &thing("a", 1)), bookmark(5, true), bookmark(20, false), gone]),
        ),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=20&", second),
    ];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    expect(&mut events, &["begin", "item a=1", "done", "begin", "item b=30", "done"]).await;
    let state = events.health().state();
    assert_eq!((state.lists, state.down_since), (2, None));
}

#[tokio::test]
async fn a_server_that_came_back_with_an_older_state_is_believed() {
    let (first, stream) = Answer::stream(&[line("ADDED", &thing("a", 1)), bookmark(50, true)]);
    let (second, _open) = Answer::stream(&[line("ADDED", &thing("old", 3)), bookmark(20, true)]);
    let script = vec![
        ("sendInitialEvents=true", first),
        ("pods?limit=1", page(20, "more", &[thing("old", 3)])),
        ("resourceVersion=&", second),
    ];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    expect(&mut events, &["begin", "item a=1", "done"]).await;
    stream.reset();
    expect(&mut events, &["begin", "item old=3", "done"]).await;
    let error = events.health().state().last_error.unwrap();
    assert!(error.contains("at resourceVersion 20, which is before 50"), "{error}");
}

#[tokio::test]
async fn a_version_that_the_server_has_not_reached_is_not_insisted_on() {
    let ahead = || {
        let details = r#"{"causes":[{"reason":"ResourceVersionTooLarge","message":"m"}],"retryAfterSeconds":1}"#;
        Answer::no(504, status(504, "Timeout", details))
    };
    let script = vec![
        ("pods?limit=500&resourceVersion=0", page(50, "", &[])),
        // Another server behind the same name, which lags.
        ("watch=true&resourceVersion=50", ahead()),
        ("pods?limit=1", page(50, "", &[])),
        ("watch=true&resourceVersion=50", Answer::ended(&[line("ERROR", &status(410, "Expired", "null"))])),
        ("pods?resourceVersion=50&resourceVersionMatch=NotOlderThan", ahead()),
        ("pods?limit=500", page(3, "", &[thing("old", 3)])),
    ];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), paged());
    expect(&mut events, &["begin", "done", "begin", "item old=3", "done"]).await;
    assert_eq!(server.asked()[5].label, "GET /api/v1/pods?limit=500");
}

#[tokio::test]
async fn a_page_that_fails_is_asked_for_again() {
    let script = vec![
        ("pods?limit=500&resourceVersion=0", page(7, "c1", &[thing("a", 1)])),
        ("continue=c1", Answer::no(503, "away")),
        ("continue=c1", page(7, "", &[thing("b", 2)])),
    ];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), paged());
    expect(&mut events, &["begin", "item a=1", "item b=2", "done"]).await;
}

#[tokio::test]
async fn an_item_that_is_not_understood_costs_only_itself() {
    let odd = r#"{"metadata":{"name":"odd"},"size":"large"}"#.to_owned();
    let script = vec![("pods?limit=500", page(7, "", &[thing("a", 1), odd, thing("b", 2)]))];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), paged());
    expect(&mut events, &["begin", "item a=1", "item b=2", "done"]).await;
    assert_eq!(until(&events, "the count", |state| state.unparsable == 1).await.events, 2);
}
