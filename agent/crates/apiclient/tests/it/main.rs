//! The client over real sockets, against small servers that misbehave on demand.
#![forbid(unsafe_code)]

mod calls;
mod certificates;
mod connections;
mod credentials;
mod lists;
mod server;
mod tls;
mod watches;
mod wire;

use orlop_apiclient::{ApiError, Watch, WatchEvent, WatchState};
use serde::Deserialize;
use std::future::Future;
use std::time::Duration;

/// Nothing here takes long; a test that hangs is to fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes of it, within our patience.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("still waiting for {what}"),
    }
}

/// A thing as lean as the tests need it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Thing {
    metadata: Meta,
    #[serde(default)]
    size: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Meta {
    name: String,
}

/// A thing as JSON.
fn thing(name: &str, version: u64) -> String {
    format!(r#"{{"metadata":{{"namespace":"web","name":"{name}","resourceVersion":"{version}"}},"size":{version}}}"#)
}

/// A line of a watch.
fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn bookmark(version: u64, ends_list: bool) -> String {
    let annotations = if ends_list { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
    line("BOOKMARK", &format!(r#"{{"metadata":{{"resourceVersion":"{version}"{annotations}}}}}"#))
}

fn status(code: u16, reason: &str, details: &str) -> String {
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","code":{code},"reason":"{reason}","message":"said so","details":{details}}}"#
    )
}

/// An event in few words.
fn show(event: &WatchEvent<Thing>) -> String {
    let about = |verb: &str, thing: &Thing| format!("{verb} {}={}", thing.metadata.name, thing.size);
    match event {
        WatchEvent::Begin => "begin".to_owned(),
        WatchEvent::Item(thing) => about("item", thing),
        WatchEvent::Done => "done".to_owned(),
        WatchEvent::Applied(thing) => about("applied", thing),
        WatchEvent::Deleted(thing) => about("deleted", thing),
    }
}

/// The next events are these.
async fn expect(watch: &mut Watch<Thing>, want: &[&str]) {
    for want in want {
        let event = soon(want, watch.next()).await.expect("the watch has ended");
        assert_eq!(show(&event), *want);
    }
}

/// Waits until the watch's state is so.
async fn until(watch: &Watch<Thing>, what: &str, so: impl Fn(&WatchState) -> bool) -> WatchState {
    let health = watch.health();
    soon(what, async {
        loop {
            let state = health.state();
            if so(&state) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// An error with all that is below it.
fn chain(error: &ApiError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
