//! Faults, tokens, stopping.

use std::time::Duration;

use orlop_apiserver::{Fault, Status};
use reqwest::Method;
use serde_json::json;

use crate::client::{Asker, pod, server};

#[tokio::test]
async fn requests_are_refused_dropped_and_counted() {
    let server = server();
    let admin = Asker::admin(&server);
    let path = "/api/v1/namespaces/default/configmaps";
    server.faults().on("list", "configmaps", Fault::TooManyRequests(1), Some(1));
    let (code, refused) = admin.get(path).await;
    assert_eq!((code, refused["details"]["retryAfterSeconds"].as_u64()), (429, Some(1)));
    server.faults().on("list", "configmaps", Fault::Refuse(Status::new(503, "ServiceUnavailable", "away")), Some(1));
    assert_eq!(admin.get(path).await.0, 503);
    // The client itself asks once more when an idle connection was closed under it.
    let rule = server.faults().on("list", "configmaps", Fault::Drop, None);
    assert!(admin.try_ask(Method::GET, path, None).await.is_err());
    assert!(server.faults().remove(rule) >= 1);
    let earlier = server.snapshot();
    server.create("configmaps", json!({"metadata": {"name": "c"}})).expect("c");
    let rule = server.faults().on("get", "configmaps", Fault::Stale(earlier), None);
    assert_eq!(admin.get(&format!("{path}/c")).await.0, 404);
    server.faults().remove(rule);
    assert_eq!(admin.get(&format!("{path}/c")).await.0, 200);
    assert_eq!(server.count_of("get", "configmaps"), 2);
    let rule = server.faults().on("create", "configmaps", Fault::DropAnswer, Some(1));
    let body = json!({"metadata": {"name": "d"}});
    assert!(admin.try_ask(Method::POST, path, Some(("application/json", body))).await.is_err());
    server.faults().remove(rule);
    server.wait_for("configmaps", "default", "d", |_| true);
    server.wait_requests(1, |one| one.verb == "create" && one.resource == "configmaps" && one.code == 201);
    assert!(server.requests().iter().all(|request| request.user_agent == "it/1" && request.http2));
}

#[tokio::test]
async fn a_frozen_server_answers_nothing_until_it_thaws() {
    let server = server();
    let admin = Asker::admin(&server);
    assert_eq!(admin.get("/version").await.1["minor"], "36");
    server.faults().freeze();
    let asked = admin.get("/version");
    tokio::pin!(asked);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut asked).await.is_err());
    server.faults().thaw();
    assert_eq!(asked.await.0, 200);
}

#[tokio::test]
async fn a_stopped_server_refuses_and_comes_back_on_its_port() {
    let server = server();
    let admin = Asker::admin(&server);
    let mut stream = admin.watch("/api/v1/pods?watch=1").await;
    server.stop();
    assert!(stream.next().await.is_err());
    let refused = std::net::TcpStream::connect(server.address()).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.create("pods", pod("a")).expect("the store goes on");
    server.start_again();
    let (code, list) = admin.get("/api/v1/pods").await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(1)));
}

#[tokio::test]
async fn a_token_is_good_until_it_is_refused_or_its_pod_is_gone() {
    let server = server();
    server.create("pods", pod("a")).expect("a");
    let token = server.service_account_token("default", "default", Some("a")).expect("a token");
    let asker = Asker::nobody(&server);
    let ask = || async {
        let request = asker.client.get(format!("{}/api", server.url())).bearer_auth(&token);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask().await, 200);
    server.refuse_token(&token);
    assert_eq!(ask().await, 401);
    let bound = server.service_account_token("default", "default", Some("a")).expect("a token");
    let admin = Asker::admin(&server);
    let review = json!({"spec": {"token": bound}});
    let (_, good) = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", review.clone()).await;
    assert_eq!(good["status"]["user"]["username"], "system:serviceaccount:default:default");
    server.delete("pods", "default", "a", Some(0)).expect("gone");
    let (_, gone) = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(gone["status"]["authenticated"], json!(null));
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(admin.post(path, json!({"spec": {"expirationSeconds": 60}})).await.0, 422);
    assert_eq!(asker.get("/api/v1/pods").await.0, 403);
}
