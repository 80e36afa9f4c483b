//! What a node may do, and how it gets its certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orlop_apiserver::{ApiServer, Controllers, Options, Rule, Signing};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use reqwest::Method;
use serde_json::json;

use crate::client::{Asker, bound, node, pod, server};

#[tokio::test]
async fn a_node_reads_and_changes_only_its_own() {
    let server = server();
    let n1 = Asker::node(&server, "n1");
    server.create("nodes", node("n1")).expect("n1");
    server.create("nodes", node("n2")).expect("n2");
    for name in ["mine", "other"] {
        server.create("secrets", json!({"metadata": {"name": name}, "stringData": {"k": "v"}})).expect(name);
    }
    let mut with_secret = pod("a");
    with_secret["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "mine"}}]);
    server.create("pods", with_secret).expect("a");
    server.bind("default", "a", "n1").expect("bound");
    bound(&server, "b", "n2");
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(n1.get(&format!("{secrets}/mine")).await.0, 200);
    assert_eq!(n1.get(&format!("{secrets}?fieldSelector=metadata.name%3Dmine")).await.0, 200);
    let (code, refused) = n1.get(&format!("{secrets}/other")).await;
    let said = "secrets \"other\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \
        \"\" in the namespace \"default\": no relationship found between node 'n1' and this object";
    assert_eq!((code, refused["message"].as_str()), (403, Some(said)));
    assert_eq!(n1.get("/api/v1/pods").await.0, 403);
    assert_eq!(n1.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.0, 200);
    let status = json!({"status": {"phase": "Running"}});
    let path = |name: &str| format!("/api/v1/namespaces/default/pods/{name}/status");
    assert_eq!(n1.patch(&path("a"), "strategic-merge-patch+json", status.clone()).await.0, 200);
    assert_eq!(n1.patch(&path("b"), "strategic-merge-patch+json", status).await.0, 403);
    assert_eq!(n1.patch("/api/v1/nodes/n2/status", "merge-patch+json", json!({"status": {}})).await.0, 403);
    assert_eq!(n1.post("/api/v1/namespaces/default/pods", pod("c")).await.0, 403);
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound_to = |name: &str| {
        let pod = server.get("pods", "default", name).expect(name);
        json!({"spec": {"boundObjectRef":
            {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}}})
    };
    let (code, answer) = n1.post(token, bound_to("a")).await;
    assert_eq!(code, 201, "{answer}");
    let (code, refused) = n1.post(token, bound_to("b")).await;
    let said =
        "serviceaccounts \"default\" is forbidden: node requested token bound to a pod scheduled on a different node";
    assert_eq!((code, refused["message"].as_str()), (403, Some(said)));
    assert_eq!(n1.post(token, json!({"spec": {}})).await.0, 403);
    let mut other_audience = bound_to("a");
    other_audience["spec"]["audiences"] = json!(["vault"]);
    assert_eq!(n1.post(token, other_audience).await.0, 403);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(n1.post(leases, json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}})).await.0, 201);
    assert_eq!(n1.post(leases, json!({"metadata": {"name": "n2"}})).await.0, 403);
    assert_eq!(n1.ask(Method::DELETE, &format!("{leases}/n2"), None).await.0, 403);
}

#[tokio::test]
async fn a_node_creates_mirror_pods_of_itself() {
    let server = server();
    let n1 = Asker::node(&server, "n1");
    let made = server.create("nodes", node("n1")).expect("n1");
    let mut mirror = pod("etcd-n1");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    mirror["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": made["metadata"]["uid"], "controller": true}]);
    mirror["spec"]["nodeName"] = json!("n1");
    let (code, answer) = n1.post("/api/v1/namespaces/default/pods", mirror).await;
    assert_eq!(code, 201, "{answer:#}");
    assert!(answer["spec"]["volumes"].is_null(), "a mirror pod mounts no token");
}

#[tokio::test]
async fn reviews_answer_out_of_the_rules() {
    let rule = Rule { subject: "scraper".into(), resource: "nodes/proxy".into(), ..Rule::default() };
    let server = ApiServer::start(Options { rules: vec![rule], ..Options::default() });
    let n1 = Asker::node(&server, "n1");
    for (user, allowed) in [("scraper", true), ("other", false)] {
        let review = json!({"spec": {"user": user, "resourceAttributes":
            {"verb": "get", "resource": "nodes", "subresource": "proxy", "name": "n1"}}});
        let (code, answer) = n1.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review).await;
        assert_eq!((code, answer["status"]["allowed"].as_bool()), (201, Some(allowed)), "{user}");
    }
}

fn request(signer: &str) -> (serde_json::Value, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, "system:node:n1");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    let request = json!({"metadata": {"generateName": "csr-"}, "spec": {
        "request": STANDARD.encode(pem), "signerName": signer, "usages": ["digital signature", "client auth"],
    }});
    (request, key)
}

#[tokio::test]
async fn a_bootstrap_token_gets_a_certificate_when_approved() {
    let controllers = Controllers { sign: Signing::Manual, ..Controllers::default() };
    let server = ApiServer::start(Options { controllers, ..Options::default() });
    let token = server.token_for("system:bootstrap:abc", &["system:bootstrappers"]);
    let (body, key) = request("kubernetes.io/kube-apiserver-client-kubelet");
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let asker = Asker::nobody(&server);
    let sent = asker.client.post(format!("{}{path}", server.url())).bearer_auth(token).json(&body).send().await;
    let made: serde_json::Value = sent.expect("an answer").json().await.expect("JSON");
    let name = made["metadata"]["name"].as_str().expect("a name").to_owned();
    assert_eq!(made["spec"]["username"], "system:bootstrap:abc", "{made}");
    server.approve(&name).expect("approved");
    let signed =
        server.wait_for("certificatesigningrequests", "", &name, |one| !one["status"]["certificate"].is_null());
    let certificate = STANDARD.decode(signed["status"]["certificate"].as_str().expect("text")).expect("base64");
    let pem = format!("{}{}", String::from_utf8(certificate).expect("PEM"), key.serialize_pem());
    let root = reqwest::Certificate::from_pem(server.ca_pem().as_bytes()).expect("a root");
    let identity = reqwest::Identity::from_pem(pem.as_bytes()).expect("an identity");
    let client =
        reqwest::Client::builder().tls_certs_only([root]).identity(identity).no_proxy().build().expect("a client");
    let answer = client.get(format!("{}/api/v1/nodes/n1", server.url())).send().await.expect("an answer");
    assert_eq!(answer.status(), 404, "authenticated as the node");
    assert_eq!(server.requests().last().map(|request| request.user.clone()), Some("system:node:n1".into()));
}
