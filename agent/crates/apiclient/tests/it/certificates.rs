//! Certificates and tokens that the server gives.

use crate::server::{Answer, Server};
use crate::{bookmark, line};
use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use orlop_apiclient::{ApiError, CertificateRefusal, CertificateRequest, Client};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(50);
const ALL: &str = "POST /apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(name: Option<&str>) -> CertificateRequest {
    CertificateRequest {
        name: name.map(str::to_owned),
        signer_name: "kubernetes.io/kubelet-serving".to_owned(),
        usages: vec!["digital signature".to_owned(), "server auth".to_owned()],
        pem: "request".to_owned(),
        lifetime: Some(Duration::from_secs(3600)),
    }
}

/// The object, with this status.
fn csr(name: &str, status: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","resourceVersion":"6"}},"spec":{{"request":"cmVxdWVzdA==","signerName":"s","usages":[]}},"status":{status}}}"#
    )
}

fn condition(kind: &str) -> String {
    format!(r#"{{"type":"{kind}","status":"True","reason":"Because","message":"of it"}}"#)
}

#[tokio::test]
async fn approved_and_signed() {
    let approved = format!(r#"{{"conditions":[{}]}}"#, condition("Approved"));
    let signed = format!(r#"{{"certificate":"cGVt","conditions":[{}]}}"#, condition("Approved"));
    let events = [
        line("ADDED", &csr("csr-x", "{}")),
        bookmark(5, true),
        line("MODIFIED", &csr("csr-x", &approved)),
        line("MODIFIED", &csr("csr-x", &signed)),
    ];
    let (stream, _open) = Answer::stream(&events);
    let script = vec![(ALL, Answer::no(201, csr("csr-x", "{}"))), ("fieldSelector=metadata.name%3Dcsr-x&", stream)];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let pem = client.request_certificate(&request(None), PATIENCE, |_, _| false).await.unwrap();
    assert_eq!(pem, b"pem");
    let sent: serde_json::Value = serde_json::from_str(&server.asked()[0].body).unwrap();
    assert_eq!(sent["metadata"]["generateName"], "csr-");
    assert_eq!(sent["kind"], "CertificateSigningRequest");
    assert_eq!(sent["spec"]["request"], "cmVxdWVzdA==");
    assert_eq!(sent["spec"]["expirationSeconds"], 3600);
}

#[tokio::test]
async fn denied() {
    let denied = format!(r#"{{"conditions":[{}]}}"#, condition("Denied"));
    let (stream, _open) = Answer::stream(&[line("ADDED", &csr("csr-x", &denied)), bookmark(5, true)]);
    let script = vec![(ALL, Answer::no(201, csr("csr-x", "{}"))), ("watch=true", stream)];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let error = client.request_certificate(&request(None), PATIENCE, |_, _| false).await.unwrap_err();
    assert!(matches!(error, ApiError::CertificateRefused { how: CertificateRefusal::Denied, .. }), "{error}");
    assert_eq!(error.to_string(), "certificate signing request csr-x was denied: Because: of it");
}

#[tokio::test]
async fn a_deleted_request_is_made_again() {
    let signed = format!(r#"{{"certificate":"cGVt","conditions":[{}]}}"#, condition("Approved"));
    let deleted = [line("ADDED", &csr("csr-x", "{}")), bookmark(5, true), line("DELETED", &csr("csr-x", "{}"))];
    let (first, _open) = Answer::stream(&deleted);
    let (second, _open2) = Answer::stream(&[line("ADDED", &csr("csr-y", &signed)), bookmark(7, true)]);
    let script = vec![
        (ALL, Answer::no(201, csr("csr-x", "{}"))),
        ("metadata.name%3Dcsr-x", first),
        (ALL, Answer::no(201, csr("csr-y", "{}"))),
        ("metadata.name%3Dcsr-y", second),
    ];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let pem = client.request_certificate(&request(None), PATIENCE, |_, _| false).await.unwrap();
    assert_eq!(pem, b"pem");
}

#[tokio::test]
async fn a_request_from_before_a_restart_is_taken_up_if_it_is_ours() {
    for ours in [true, false] {
        let exists = Answer::no(409, crate::status(409, "AlreadyExists", "null"));
        let signed = format!(r#"{{"certificate":"cGVt","conditions":[{}]}}"#, condition("Approved"));
        let (stream, _open) = Answer::stream(&[line("ADDED", &csr("node-csr-1", &signed)), bookmark(5, true)]);
        let script = vec![
            (ALL, exists),
            ("certificatesigningrequests/node-csr-1", Answer::ok(csr("node-csr-1", "{}"))),
            ("metadata.name%3Dnode-csr-1", stream),
        ];
        let server = Server::script(None, script).await;
        let client = Client::new(server.settings()).unwrap();
        let is_ours = |pem: &str, signer: &str| ours && pem == "request" && signer == "s";
        let done = client.request_certificate(&request(Some("node-csr-1")), PATIENCE, is_ours).await;
        match done {
            Ok(pem) => assert!(ours && pem == b"pem"),
            Err(error) => assert!(!ours && error.is_already_exists(), "{error}"),
        }
    }
}

#[tokio::test]
async fn nobody_approves() {
    let (stream, _open) = Answer::stream(&[line("ADDED", &csr("csr-x", "{}")), bookmark(5, true)]);
    let script = vec![(ALL, Answer::no(201, csr("csr-x", "{}"))), ("watch=true", stream)];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let wait = Duration::from_millis(300);
    let error = client.request_certificate(&request(None), wait, |_, _| false).await.unwrap_err();
    assert!(matches!(&error, ApiError::CertificateWait { name, .. } if name == "csr-x"), "{error}");
}

#[tokio::test]
async fn a_token_for_a_service_account() {
    let answer = r#"{"metadata":{},"spec":{"audiences":["api"]},"status":{"token":"t","expirationTimestamp":"2026-01-02T03:04:05Z"}}"#;
    let script = vec![("POST /api/v1/namespaces/web/serviceaccounts/default/token", Answer::no(201, answer))];
    let server = Server::script(None, script).await;
    let client = Client::new(server.settings()).unwrap();
    let spec = TokenRequestSpec { audiences: Some(vec!["api".to_owned()]), ..TokenRequestSpec::default() };
    let given = client.request_token("web", "default", spec).await.unwrap();
    assert_eq!(given.status.unwrap().token.as_deref(), Some("t"));
}
