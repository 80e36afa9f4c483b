//! One host of a registry over HTTP: requests with authorization, redirects and
//! deadlines.
//!
//! `oci-client`'s own transport is not used: it has no client certificates, headers,
//! paths of mirrors, limits on a document's size or `Retry-After`, all of which
//! containerd's `hosts.toml` and the kubelet's messages need. Its types of what
//! registries say are.

use super::challenge::{Challenge, TokenAnswer, choose_challenge};
use super::error::{Answer, PullError};
use crate::hosts::{Host, authority};
use crate::keyring::Credential;
use oci_client::errors::OciEnvelope;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Response, Url};
use std::sync::Mutex;
use std::time::Duration;

/// Hops of one request; Go's http client, and with it containerd, follows as many.
const REDIRECTS_MAX: usize = 10;
/// Times one request is sent again with a new authorization.
const AUTH_ROUNDS_MAX: usize = 2;
/// Bytes of an error's or a token's body.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Characters of a registry's message that go into events.
const MESSAGE_CHARS_MAX: usize = 512;
/// Seconds of `Retry-After` that are believed.
const RETRY_AFTER_S_MAX: u64 = 3600;

/// What is asked for: path below the host's base, media types, words for errors.
pub(super) struct Request<'a> {
    pub path: &'a str,
    pub accept: &'a str,
    pub wanted: &'a str,
}

/// A host, spoken to with one credential about one repository.
pub(super) struct Endpoint {
    pub host: Host,
    /// An error when TLS cannot be set up; hosts without TLS serve all the same.
    pub client: Result<Client, PullError>,
    pub repository: String,
    pub credential: Option<Credential>,
    /// Longest silence.
    pub stall: Duration,
    /// What the last challenge was answered with.
    pub authorization: Mutex<Option<HeaderValue>>,
}

impl Endpoint {
    /// `mirror.example:5000`.
    pub(super) fn name(&self) -> String {
        self.host.name()
    }

    /// Sends a request until it is answered with 200.
    pub(super) async fn get(&self, request: &Request<'_>) -> Result<Response, PullError> {
        let url = self.url(request.path);
        for round in 0..=AUTH_ROUNDS_MAX {
            let mut headers = self.host.headers.clone();
            if let Some(authorization) = self.authorization() {
                headers.insert(AUTHORIZATION, authorization);
            }
            let accept = HeaderValue::from_str(request.accept).unwrap_or(HeaderValue::from_static("*/*"));
            let response = self.send(url.clone(), headers, accept).await?;
            if response.status().as_u16() == 200 {
                return Ok(response);
            }
            let challenged = response.status().as_u16() == 401 && round < AUTH_ROUNDS_MAX;
            // A stranger behind a redirect gets no credentials, whatever it asks for.
            let own = response.url().origin() == url.origin();
            let challenge = (challenged && own).then(|| choose_challenge(texts(response.headers(), WWW_AUTHENTICATE)));
            let Some(challenge) = challenge.flatten() else {
                return Err(self.refusal(response, request.wanted).await);
            };
            let Some(fresh) = self.authorize(&challenge).await? else {
                return Err(self.refusal(response, request.wanted).await);
            };
            // The same password again gets the same answer.
            if self.authorization().is_some_and(|used| used == fresh) {
                return Err(self.refusal(response, request.wanted).await);
            }
            *self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(fresh);
        }
        Err(PullError::Unsupported { problem: format!("{} asks for authorization again and again", self.name()) })
    }

    /// The next bytes of a body; `None` at its end.
    pub(super) async fn chunk(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, PullError> {
        match tokio::time::timeout(self.stall, response.chunk()).await {
            Err(_) => Err(self.timeout()),
            Ok(Err(error)) => Err(PullError::Broken { host: self.name(), problem: reason(&error) }),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }

    /// A small body as a whole, at most `max` bytes, within one stall time.
    pub(super) async fn body(&self, response: &mut Response, max: usize, what: &str) -> Result<Vec<u8>, PullError> {
        let read = async {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk(response).await? {
                if body.len() + chunk.len() > max {
                    let problem = format!("{what} from {} is larger than {max} bytes", self.name());
                    return Err(PullError::Unsupported { problem });
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        tokio::time::timeout(self.stall, read).await.unwrap_or_else(|_| Err(self.timeout()))
    }

    pub(super) fn timeout(&self) -> PullError {
        PullError::Timeout { host: self.name(), waited: self.stall }
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.host.base.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{}/{path}", self.repository));
        if let Some(namespace) = &self.host.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// One request and its redirects. `secret` headers go to the first host only.
    async fn send(&self, mut url: Url, mut secret: HeaderMap, accept: HeaderValue) -> Result<Response, PullError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        for _ in 0..=REDIRECTS_MAX {
            let sent = client.get(url.clone()).headers(secret.clone()).header(ACCEPT, accept.clone()).send();
            let response = match tokio::time::timeout(self.stall, sent).await {
                Err(_) => return Err(self.timeout()),
                Ok(Err(error)) => {
                    return Err(PullError::Unavailable { host: authority(&url), problem: reason(&error) });
                }
                Ok(Ok(response)) => response,
            };
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let target =
                response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| url.join(to).ok());
            let Some(target) = target.filter(|target| matches!(target.scheme(), "http" | "https")) else {
                return Err(self.broken("redirects to nowhere"));
            };
            if target.origin() != url.origin() {
                secret.clear();
            }
            url = target;
        }
        Err(self.broken("redirects too often"))
    }

    fn broken(&self, problem: &str) -> PullError {
        PullError::Broken { host: self.name(), problem: problem.to_owned() }
    }

    /// What to answer a challenge with; `None` when there is nothing.
    async fn authorize(&self, challenge: &Challenge) -> Result<Option<HeaderValue>, PullError> {
        let (realm, url) = match challenge {
            Challenge::Basic => return Ok(self.credential.as_ref().map(basic)),
            Challenge::Bearer { realm, service, scope } => (realm, self.token_url(realm, service, scope)?),
        };
        let mut headers = HeaderMap::new();
        if let Some(credential) = &self.credential {
            if self.host.base.scheme() == "https" && url.scheme() != "https" {
                let problem = format!("{} wants the password sent to {realm} without encryption", self.name());
                return Err(PullError::Unsupported { problem });
            }
            headers.insert(AUTHORIZATION, basic(credential));
        }
        let mut response = self.send(url, headers, HeaderValue::from_static("application/json")).await?;
        let wanted = format!("token for {}", self.repository);
        if response.status().as_u16() != 200 {
            return Err(self.refusal(response, &wanted).await);
        }
        let body = self.body(&mut response, ANSWER_BYTES_MAX, &wanted).await?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        let value =
            answer.and_then(TokenAnswer::token).and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let mut value = value.ok_or_else(|| self.broken("its token server gave no token"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn token_url(&self, realm: &str, service: &Option<String>, scope: &Option<String>) -> Result<Url, PullError> {
        let url = Url::parse(realm).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let mut url = url.ok_or_else(|| self.broken("names a token server that is no URL"))?;
        let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", &scope);
        Ok(url)
    }

    /// What a response that is not 200 says. A body is quoted only when it is an
    /// error as registries write them: a redirect may lead anywhere, and events are
    /// read by those who run pods.
    async fn refusal(&self, mut response: Response, wanted: &str) -> PullError {
        let status = response.status().as_u16();
        let host = authority(response.url());
        let retry_after = texts(response.headers(), RETRY_AFTER).first().and_then(|text| text.trim().parse().ok());
        let body = self.body(&mut response, ANSWER_BYTES_MAX, wanted).await.unwrap_or_default();
        let error = said(&body);
        if status >= 500 {
            let detail = error.map(|(_, message)| format!(": {message}")).unwrap_or_default();
            return PullError::Unavailable { host, problem: format!("{wanted}: status {status}{detail}") };
        }
        let retry_after = retry_after.map(|seconds: u64| Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)));
        PullError::Registry { host, answer: Answer { status, error, retry_after, wanted: wanted.to_owned() } }
    }
}

fn texts(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Vec<&str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

fn basic(credential: &Credential) -> HeaderValue {
    use base64::Engine as _;
    let pair = format!("{}:{}", credential.username, credential.password);
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Code and message of a registry's or a token server's error.
fn said(body: &[u8]) -> Option<(String, String)> {
    if let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) {
        let first = envelope.errors.into_iter().next()?;
        let code = serde_json::to_value(&first.code).ok()?.as_str()?.to_owned();
        return Some((plain(&code), plain(&first.message)));
    }
    // Docker's hub says {"details": …}, OAuth servers {"error": …, "error_description": …}.
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
    let message = text("details").or_else(|| text("error_description"))?;
    Some((plain(text("error").unwrap_or("UNAUTHORIZED")), plain(message)))
}

/// No control characters, not too long.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

/// The innermost cause, without the URL, whose query may hold a signature.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if std::ptr::addr_eq(cause, error) {
        return if error.is_timeout() { "connection timed out".to_owned() } else { "connection failed".to_owned() };
    }
    let text = cause.to_string();
    if error.is_timeout() { format!("connection timed out: {text}") } else { text }
}
