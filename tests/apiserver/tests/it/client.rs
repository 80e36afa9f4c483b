//! A client as small as a test needs.

use std::time::Duration;

use orlop_apiserver::{ApiServer, Options};
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Value, json};

/// How long anything may take.
pub const WAIT: Duration = Duration::from_secs(20);

/// Answers: the code and the body.
pub type Answer = (u16, Value);

pub struct Asker {
    pub client: Client,
    url: String,
    token: Option<String>,
}

impl Asker {
    /// A client with a certificate for a user.
    pub fn new(server: &ApiServer, user: &str, groups: &[&str]) -> Self {
        let (certificate, key) = server.client_certificate(user, groups);
        let identity = Identity::from_pem(format!("{certificate}{key}").as_bytes()).expect("an identity");
        Self { client: builder(server).identity(identity).build().expect("a client"), url: server.url(), token: None }
    }

    pub fn admin(server: &ApiServer) -> Self {
        Self::new(server, "admin", &["system:masters"])
    }

    /// An administrator's client that speaks HTTP/1.1.
    pub fn http1(server: &ApiServer) -> Self {
        let client = builder(server).http1_only().build().expect("a client");
        let token = server.token_for("admin", &["system:masters"]);
        Self { client, url: server.url(), token: Some(token) }
    }

    pub fn node(server: &ApiServer, name: &str) -> Self {
        Self::new(server, &format!("system:node:{name}"), &["system:nodes"])
    }

    /// A client that shows no certificate.
    pub fn nobody(server: &ApiServer) -> Self {
        Self { client: builder(server).build().expect("a client"), url: server.url(), token: None }
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<(&str, Value)>) -> Answer {
        self.try_ask(method, path, body).await.expect(path)
    }

    pub async fn try_ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Value)>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.authorized(self.client.request(method, format!("{}{path}", self.url)));
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let answer = request.send().await?;
        let code = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((code, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(("application/json", body))).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, path, Some((&format!("application/{kind}"), body))).await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Stream {
        let answer = self.authorized(self.client.get(format!("{}{path}", self.url))).send().await.expect(path);
        assert_eq!(answer.status(), 200, "{path}");
        Stream { answer, rest: Vec::new() }
    }
}

fn builder(server: &ApiServer) -> reqwest::ClientBuilder {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = Certificate::from_pem(server.ca_pem().as_bytes()).expect("a root");
    Client::builder().tls_certs_only([root]).user_agent("it/1").no_proxy()
}

/// An open watch.
pub struct Stream {
    answer: reqwest::Response,
    rest: Vec<u8>,
}

impl Stream {
    /// The next event as (type, object); nothing at the end, an error when it was cut.
    pub async fn next(&mut self) -> Result<Option<(String, Value)>, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).expect("a line of JSON");
                return Ok(Some((event["type"].as_str().expect("a type").to_owned(), event["object"].clone())));
            }
            let chunk = tokio::time::timeout(WAIT, self.answer.chunk()).await.expect("an event in time");
            match chunk.map_err(|err| err.to_string())? {
                Some(chunk) => self.rest.extend_from_slice(&chunk),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err("the stream ended in half a line".into()),
            }
        }
    }

    /// The next event's type and the object's name.
    pub async fn named(&mut self) -> (String, String) {
        let (kind, object) = self.next().await.expect("no cut").expect("an event");
        (kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    }
}

pub fn server() -> ApiServer {
    ApiServer::start(Options::default())
}

/// A pod, unbound.
pub fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "web:1", "ports": [{"containerPort": 80, "name": "http"}]}]},
    })
}

/// A node that is ready.
pub fn node(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A pod on a node.
pub fn bound(server: &ApiServer, name: &str, node: &str) -> Value {
    server.create("pods", pod(name)).expect("a pod");
    server.bind("default", name, node).expect("bound");
    server.get("pods", "default", name).expect("the pod")
}
