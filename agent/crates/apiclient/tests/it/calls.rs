//! Requests and their answers.

use crate::server::{Answer, Server};
use crate::tls::Authority;
use crate::{Thing, chain, status, thing};
use flate2::Compression;
use flate2::write::GzEncoder;
use orlop_apiclient::{
    ApiError, Client, DeleteOptions, LEASES, ListOptions, NODES, PODS, Patch, Pem, SERVICES, Selectors, Settings,
};
use serde::de::IgnoredAny;
use serde_json::json;
use std::io::Write;
use std::time::Duration;
use tokio::net::TcpListener;

/// A server over plain HTTP/1.1, over TLS with HTTP/1.1 and over TLS with HTTP/2.
async fn each_protocol(script: fn() -> Vec<(&'static str, Answer)>) -> Vec<(Server, Settings)> {
    let authority = Authority::new();
    let tls = authority.server(&["127.0.0.1"]);
    let mut all = Vec::new();
    for tls in [None, Some(tls.http1()), Some(tls)] {
        let server = Server::script(tls, script()).await;
        let mut settings = server.settings();
        settings.authority = Some(Pem::Data(authority.pem.clone().into_bytes()));
        all.push((server, settings));
    }
    all
}

fn every_call() -> Vec<(&'static str, Answer)> {
    vec![
        ("GET /api/v1/namespaces/web/pods/a", Answer::ok(thing("a", 1))),
        (
            "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn1&limit=2&resourceVersion=0&resourceVersionMatch=NotOlderThan",
            Answer::ok(format!(
                r#"{{"metadata":{{"resourceVersion":"9","continue":"c"}},"items":[{}]}}"#,
                thing("a", 1)
            )),
        ),
        (
            "GET /api/v1/pods?limit=2&continue=c",
            Answer::ok(r#"{"metadata":{"resourceVersion":"9","continue":""},"items":null}"#),
        ),
        ("POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", Answer::no(201, thing("l", 2))),
        ("PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", Answer::ok(thing("l", 3))),
        ("PATCH /api/v1/nodes/n1/status", Answer::ok("{}")),
        ("PATCH /api/v1/nodes/n1?fieldManager=orlop&force=true", Answer::ok("{}")),
        ("POST /api/v1/namespaces/web/pods/a/eviction", Answer::no(201, "{}")),
        ("DELETE /api/v1/namespaces/web/pods/a", Answer::ok("{}")),
        ("GET /readyz?verbose", Answer::ok("ok")),
    ]
}

#[tokio::test]
async fn every_call_over_every_protocol() {
    for (server, settings) in each_protocol(every_call).await {
        let client = Client::new(settings).unwrap();
        let pod = PODS.within("web").named("a");
        let leases = LEASES.within("kube-node-lease");
        assert_eq!(client.get::<Thing>(&pod).await.unwrap().metadata.name, "a");
        let selectors = Selectors::fields("spec.nodeName=n1");
        let first = ListOptions { selectors, limit: Some(2), not_older_than: Some("0".to_owned()), more: None };
        let page = client.list::<Thing>(&PODS.everywhere(), &first).await.unwrap();
        assert_eq!((page.resource_version.as_str(), page.items.len()), ("9", 1));
        let next = ListOptions { limit: Some(2), more: page.more, ..ListOptions::default() };
        let page = client.list::<Thing>(&PODS.everywhere(), &next).await.unwrap();
        assert_eq!((page.more, page.items.len()), (None, 0));
        let made: Thing = client.create(&leases, &json!({"a": 1})).await.unwrap();
        assert_eq!(made.size, 2);
        client.replace::<Thing>(&leases.named("n1"), &json!({"a": 2})).await.unwrap();
        let node = NODES.named("n1");
        client.patch::<IgnoredAny>(&node.clone().subresource("status"), Patch::Strategic, &json!({})).await.unwrap();
        let apply = Patch::Apply { manager: "orlop", force: true };
        client.patch::<IgnoredAny>(&node, apply, &json!({})).await.unwrap();
        client.create_sub::<IgnoredAny>(&pod.clone().subresource("eviction"), &json!({})).await.unwrap();
        client.delete(&pod, &DeleteOptions::at_once("u-1")).await.unwrap();
        assert_eq!(client.get_raw("/readyz?verbose").await.unwrap(), "ok");

        let asked = server.asked();
        let header = |index: usize, name: &str| asked[index].headers.get(name).cloned().unwrap_or_default();
        assert!(header(0, "user-agent").starts_with("orlop/") && header(0, "user-agent").ends_with("kubernetes/v1.36"));
        assert_eq!(header(0, "accept"), "application/json");
        assert_eq!((header(3, "content-type").as_str(), asked[3].body.as_str()), ("application/json", r#"{"a":1}"#));
        assert_eq!(header(5, "content-type"), "application/strategic-merge-patch+json");
        assert_eq!(header(6, "content-type"), "application/apply-patch+yaml");
        assert_eq!(asked[8].body, r#"{"gracePeriodSeconds":0,"preconditions":{"uid":"u-1"}}"#);
        assert!(asked.iter().all(|asked| asked.connection == 1), "one connection serves all calls");
        assert_eq!(asked[0].http2, asked[9].http2);
    }
}

#[tokio::test]
async fn errors_say_what_the_server_said() {
    type Is = fn(&ApiError) -> bool;
    let cases: [(u16, &str, &str, Is); 8] = [
        (404, "NotFound", "null", ApiError::is_not_found),
        (409, "Conflict", "null", ApiError::is_conflict),
        (409, "AlreadyExists", "null", ApiError::is_already_exists),
        (410, "Expired", "null", ApiError::is_gone),
        (401, "Unauthorized", "null", ApiError::is_unauthorized),
        (403, "Forbidden", "null", ApiError::is_forbidden),
        (422, "Invalid", "null", ApiError::is_invalid),
        (429, "TooManyRequests", r#"{"retryAfterSeconds":60}"#, ApiError::is_too_many),
    ];
    for (code, reason, details, is) in cases {
        let server = Server::script(None, vec![("GET", Answer::no(code, status(code, reason, details)))]).await;
        let client = Client::new(server.settings()).unwrap();
        let error = client.get::<Thing>(&NODES.named("n1")).await.unwrap_err();
        assert!(is(&error), "{error}");
        assert_eq!(error.to_string(), format!("GET /api/v1/nodes/n1: {code} {reason} said so"));
    }
    let server =
        Server::script(None, vec![("GET", Answer::no(502, "no\n")), ("GET", Answer::ok(r#"{"metadata":{"name":1}}"#))])
            .await;
    let client = Client::new(server.settings()).unwrap();
    let error = client.get::<Thing>(&NODES.named("n1")).await.unwrap_err();
    assert_eq!(error.to_string(), "GET /api/v1/nodes/n1: 502 no");
    let error = chain(&client.get::<Thing>(&NODES.named("n1")).await.unwrap_err());
    assert!(
        error.starts_with("GET /api/v1/nodes/n1: the answer is not understood at metadata.name: invalid type"),
        "{error}"
    );
    assert!(client.get::<Thing>(&NODES.named("..")).await.is_err());
    assert_eq!(server.asked().len(), 2, "a name that changes the path is never sent");
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    let later = |code| Answer::Whole(code, vec![("retry-after", "1".to_owned())], "later".into());
    let script =
        vec![("POST", later(429)), ("POST", later(503)), ("POST", Answer::ok("{}")), ("POST", Answer::no(503, ""))];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    client.create::<IgnoredAny>(&PODS.within("web"), &json!({})).await.unwrap();
    assert_eq!(server.asked().len(), 3);
    // It did not say when to come back, so it may have acted.
    let error = client.create::<IgnoredAny>(&PODS.within("web"), &json!({})).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_broken_connection_costs_a_read_nothing_and_a_write_once() {
    let script = vec![("GET", Answer::Reset), ("GET", Answer::ok(thing("a", 1))), ("POST", Answer::Reset)];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    let error = client.create::<IgnoredAny>(&NODES.everywhere(), &json!({})).await.unwrap_err();
    assert!(matches!(error, ApiError::Transport { connected: true, .. }), "{error}");
    assert_eq!(server.asked().len(), 3);
    // An address that was free a moment ago and where nobody listens now.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(Settings::new(format!("http://{address}"))).unwrap();
    let error = client.get::<Thing>(&NODES.named("n1")).await.unwrap_err();
    assert!(matches!(error, ApiError::Transport { connected: false, .. }), "{error}");
    assert!(chain(&error).contains("cannot connect") && chain(&error).contains("refused"), "{}", chain(&error));
}

#[tokio::test]
async fn a_call_ends_after_its_time() {
    let server = Server::script(None, vec![("GET", Answer::Silence)]).await;
    let client = Client::new(server.settings()).unwrap().with_timeout(Duration::from_millis(100));
    let error = client.get::<Thing>(&NODES.named("n1")).await.unwrap_err();
    assert_eq!(error.to_string(), "GET /api/v1/nodes/n1: no answer within 100 ms");
}

#[tokio::test]
async fn compressed_answers_are_understood() {
    let items: Vec<String> = (0..5000).map(|n| thing(&format!("service-{n}"), n)).collect();
    let list = format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{}]}}"#, items.join(","));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(list.as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    assert!(packed.len() < list.len() / 5);
    let server = Server::start(None, move |asked| {
        assert!(asked.headers["accept-encoding"].contains("gzip"));
        Answer::Whole(200, vec![("content-encoding", "gzip".to_owned())], packed.clone().into())
    })
    .await;
    let client = Client::new(server.settings()).unwrap();
    let page = client.list::<Thing>(&SERVICES.everywhere(), &ListOptions::default()).await.unwrap();
    assert_eq!((page.items.len(), page.items[4999].size), (5000, 4999));
}
