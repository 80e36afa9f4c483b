//! Watches.

use orlop_apiserver::{ApiServer, Fault, Options};
use serde_json::json;

use crate::client::{Asker, pod, server};

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_shows_what_enters_and_leaves_its_selector() {
    let server = server();
    let admin = Asker::admin(&server);
    let from = server.resource_version();
    let path = format!(
        "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1&resourceVersion={from}&allowWatchBookmarks=true"
    );
    let mut stream = admin.watch(&path).await;
    server.create("pods", pod("a")).expect("a");
    server.create("pods", pod("b")).expect("b");
    server.bind("default", "b", "n1").expect("bound");
    assert_eq!(stream.named().await, event("ADDED", "b"));
    server.delete("pods", "default", "b", None).expect("marked");
    assert_eq!(stream.named().await, event("MODIFIED", "b"));
    server.delete("pods", "default", "b", Some(0)).expect("gone");
    let (kind, last) = stream.next().await.expect("no cut").expect("an event");
    assert_eq!(kind, "DELETED");
    assert_eq!(last["metadata"]["resourceVersion"], server.resource_version().to_string());
    server.send_bookmarks();
    let (kind, mark) = stream.next().await.expect("no cut").expect("an event");
    assert_eq!(
        (kind.as_str(), mark["metadata"]["resourceVersion"].as_str()),
        ("BOOKMARK", Some(&*server.resource_version().to_string()))
    );
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark_and_can_be_off() {
    let server = server();
    let admin = Asker::admin(&server);
    server.create("pods", pod("a")).expect("a");
    let path = "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut stream = admin.watch(path).await;
    assert_eq!(stream.named().await, event("ADDED", "a"));
    let (kind, mark) = stream.next().await.expect("no cut").expect("an event");
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(mark["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    let old = ApiServer::start(Options { watch_list: false, ..Options::default() });
    let (code, refused) = Asker::admin(&old).get(path).await;
    assert_eq!((code, refused["reason"].as_str()), (422, Some("Invalid")));
}

#[tokio::test]
async fn an_old_version_is_gone() {
    let server = server();
    let admin = Asker::admin(&server);
    let from = server.resource_version();
    server.create("pods", pod("a")).expect("a");
    server.compact();
    let mut stream = admin.watch(&format!("/api/v1/pods?watch=1&resourceVersion={from}")).await;
    let (kind, status) = stream.next().await.expect("no cut").expect("an event");
    assert_eq!(
        (kind.as_str(), status["code"].as_u64(), status["reason"].as_str()),
        ("ERROR", Some(410), Some("Expired"))
    );
    assert_eq!(stream.next().await, Ok(None));
}

#[tokio::test]
async fn a_watch_is_cut_in_half_a_line_or_ended() {
    let server = server();
    let (http1, http2) = (Asker::http1(&server), Asker::admin(&server));
    for (admin, fault, cut) in [
        (&http1, Fault::HalfALine, true),
        (&http2, Fault::HalfALine, true),
        (&http1, Fault::EndWatch, false),
        (&http2, Fault::EndWatch, false),
    ] {
        let mut stream =
            admin.watch(&format!("/api/v1/pods?watch=1&resourceVersion={}", server.resource_version())).await;
        let rule = server.faults().on("watch", "pods", fault.clone(), Some(1));
        server.create("pods", json!({"metadata": {"generateName": "p-"}, "spec": pod("x")["spec"]})).expect("a pod");
        assert_eq!(stream.next().await.is_err(), cut, "{fault:?}");
        assert_eq!(server.faults().remove(rule), 1);
    }
}

#[tokio::test]
async fn a_server_that_went_back_ends_its_watches() {
    let server = server();
    let admin = Asker::admin(&server);
    let earlier = server.snapshot();
    server.create("pods", pod("a")).expect("a");
    let mut stream = admin.watch(&format!("/api/v1/pods?watch=1&resourceVersion={}", server.resource_version())).await;
    server.restore(&earlier);
    assert_eq!(stream.next().await, Ok(None));
    assert!(server.list("pods").is_empty());
    assert_eq!(admin.get("/api/v1/pods").await.1["items"], json!([]));
}
