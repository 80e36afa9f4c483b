//! Requests to an API server.

use crate::connection::{Connections, Leased, Length};
use crate::credentials::Credentials;
use crate::error::{ApiError, Status};
use crate::request::{DeleteOptions, ListOptions, Page, Patch};
use crate::resource::{Collection, Object, Resource};
use crate::retry;
use crate::settings::{Identity, Settings};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Url};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest answer we hold: a list of 100,000 EndpointSlices fits twice.
const BODY_BYTES_MAX: usize = 512 << 20;
const JSON: &str = "application/json";

/// Talks to one API server. Cheap to clone; clones share connections and credentials.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

struct Shared {
    connections: Connections,
    credentials: Credentials,
    /// How far the server was with a kind of object, and when we asked.
    newest: Mutex<HashMap<Resource, (Instant, String)>>,
}

/// One request, ready to be sent as often as it takes.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) body: Option<(&'static str, Bytes)>,
}

impl Call {
    /// Method, path and query, for errors.
    pub(crate) fn label(&self) -> String {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{} {}{query}", self.method, self.url.path())
    }
}

/// An answer whose body is still coming.
pub(crate) struct Answer {
    pub(crate) response: reqwest::Response,
    pub(crate) leased: Leased,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.shared.connections.base())
    }
}

impl Client {
    /// Prepares connections; nothing is sent yet.
    ///
    /// # Errors
    /// When the address, a certificate, a key or the proxy cannot be used.
    pub fn new(settings: Settings) -> Result<Self, ApiError> {
        let timeout = settings.timeout;
        let credentials = Credentials::new(settings.bearer.clone());
        let connections = Connections::new(settings)?;
        Ok(Self { shared: Arc::new(Shared { connections, credentials, newest: Mutex::default() }), timeout })
    }

    /// The same client with another limit for one try of a call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), timeout }
    }

    /// Whom we are from now on, as after the certificate was rotated. Watches reconnect at
    /// once and lose nothing; calls under way end on the old connection, which is then closed.
    ///
    /// # Errors
    /// When the certificate or key cannot be used; nothing has changed then.
    pub fn replace_identity(&self, identity: Identity) -> Result<(), ApiError> {
        self.shared.connections.replace_identity(identity)
    }

    /// Gives up all connections for new ones, as `replace_identity` does.
    ///
    /// # Errors
    /// When a certificate file cannot be used any more; nothing has changed then.
    pub fn close_connections(&self) -> Result<(), ApiError> {
        self.shared.connections.close()
    }

    /// One object.
    ///
    /// # Errors
    /// 404 as [`ApiError::is_not_found`], and whatever else can go wrong.
    pub async fn get<T: DeserializeOwned>(&self, object: &Object) -> Result<T, ApiError> {
        let call = self.call(Method::GET, &object.segments()?, &[])?;
        self.json(call).await
    }

    /// One page of a list, or the whole list without a limit.
    ///
    /// # Errors
    /// An item that is not understood fails the page; 410 as [`ApiError::is_gone`].
    pub async fn list<T: DeserializeOwned>(&self, of: &Collection, options: &ListOptions) -> Result<Page<T>, ApiError> {
        let call = self.call(Method::GET, &of.segments()?, &options.query())?;
        let list: List<T> = self.json(call).await?;
        let more = list.metadata.r#continue.filter(|token| !token.is_empty());
        Ok(Page { resource_version: list.metadata.resource_version, more, items: list.items })
    }

    /// Makes an object; gives it as stored. `IgnoredAny` as `T` if that is of no interest.
    ///
    /// # Errors
    /// [`ApiError::is_already_exists`], and whatever else can go wrong.
    pub async fn create<T: DeserializeOwned>(&self, of: &Collection, body: &impl Serialize) -> Result<T, ApiError> {
        let call = self.call(Method::POST, &of.segments()?, &[])?;
        self.json(with_json(call, body)?).await
    }

    /// Posts to a sub-resource: `token`, `eviction`, `binding`.
    ///
    /// # Errors
    /// Whatever can go wrong; an eviction that may not be yet is [`ApiError::is_too_many`].
    pub async fn create_sub<T: DeserializeOwned>(&self, object: &Object, body: &impl Serialize) -> Result<T, ApiError> {
        let call = self.call(Method::POST, &object.segments()?, &[])?;
        self.json(with_json(call, body)?).await
    }

    /// Writes an object as a whole, or its sub-resource `status`.
    ///
    /// # Errors
    /// [`ApiError::is_conflict`] when the body's resourceVersion is not the newest.
    pub async fn replace<T: DeserializeOwned>(&self, object: &Object, body: &impl Serialize) -> Result<T, ApiError> {
        let call = self.call(Method::PUT, &object.segments()?, &[])?;
        self.json(with_json(call, body)?).await
    }

    /// Changes an object, or its sub-resource `status`.
    ///
    /// # Errors
    /// [`ApiError::is_conflict`] when the body carries a resourceVersion or uid that is not the object's.
    pub async fn patch<T: DeserializeOwned>(
        &self,
        object: &Object,
        patch: Patch<'_>,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let mut call = self.call(Method::PATCH, &object.segments()?, &patch.query())?;
        call.body = Some((patch.content_type(), encode(&call, body)?));
        self.json(call).await
    }

    /// Deletes an object, or begins to where it takes time.
    ///
    /// # Errors
    /// [`ApiError::is_not_found`] when it is gone; [`ApiError::is_conflict`] when a precondition does not hold.
    pub async fn delete(&self, object: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
        let call = self.call(Method::DELETE, &object.segments()?, &[])?;
        self.json::<IgnoredAny>(with_json(call, options)?).await.map(drop)
    }

    /// A GET of any path, such as `/version` or `/readyz`; a query may follow `?`.
    ///
    /// # Errors
    /// Whatever can go wrong.
    pub async fn get_raw(&self, path: &str) -> Result<Bytes, ApiError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let mut call = self.call(Method::GET, &segments, &[])?;
        call.url.set_query((!query.is_empty()).then_some(query));
        self.send(call).await.map(|(_, body)| body)
    }

    /// How far the server was with a kind of object at some moment after `since`, if anybody
    /// asked. A version counts for all objects of a kind, so that hundreds of watches that
    /// lost their connection together need not ask one by one.
    pub(crate) fn newest_since(&self, resource: Resource, since: Instant) -> Option<String> {
        let newest = self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.get(&resource).filter(|(asked, _)| *asked >= since).map(|(_, version)| version.clone())
    }

    /// The server said how far it is when it was asked at that moment.
    pub(crate) fn note_newest(&self, resource: Resource, asked: Instant, version: &str) {
        let mut newest = self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.insert(resource, (asked, version.to_owned()));
    }

    /// How long one try of a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A request below the server's address.
    pub(crate) fn call(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&'static str, String)],
    ) -> Result<Call, ApiError> {
        let mut url = self.shared.connections.base().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(Call { method, url, body: None })
    }

    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, ApiError> {
        let (label, body) = self.send(call).await?;
        decode(&label, &body)
    }

    /// Sends it until there is an answer, a reason to give up or nothing left to try.
    pub(crate) async fn send(&self, call: Call) -> Result<(String, Bytes), ApiError> {
        let harmless = call.method == Method::GET;
        let mut retries = 0;
        loop {
            let error = match self.once(&call).await {
                Ok(body) => return Ok((call.label(), body)),
                Err(error) => error,
            };
            let Some(pause) = retry::pause(&error, harmless, retries) else { return Err(error) };
            retries += 1;
            tracing::debug!(call = call.label(), err = %error, ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, call: &Call) -> Result<Bytes, ApiError> {
        let all = async {
            let mut answer = self.open(call, Length::Call).await?;
            body(call, &mut answer.response).await
        };
        match tokio::time::timeout(self.timeout, all).await {
            Ok(done) => done,
            Err(_) => Err(ApiError::Timeout { call: call.label(), waited: self.timeout }),
        }
    }

    /// Sends the request and waits for the head of the answer. A refused credential is
    /// exchanged for a newer one, once, if there is one.
    pub(crate) async fn open(&self, call: &Call, length: Length) -> Result<Answer, ApiError> {
        let (answer, revision) = self.ask(call, length).await?;
        if answer.response.status().as_u16() == 401 && self.shared.credentials.refused(revision).await? {
            drop(answer);
            return accepted(call, self.ask(call, length).await?.0).await;
        }
        accepted(call, answer).await
    }

    async fn ask(&self, call: &Call, length: Length) -> Result<(Answer, u64), ApiError> {
        let current = self.shared.credentials.current().await?;
        if let Some(identity) = current.identity {
            self.shared.connections.replace_identity(identity)?;
        }
        let leased = self.shared.connections.lease(length).await?;
        let mut request = leased.client.request(call.method.clone(), call.url.clone()).header(ACCEPT, JSON);
        if let Some(header) = current.header {
            request = request.header(AUTHORIZATION, header);
        }
        if let Some((content_type, body)) = &call.body {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        let response = request.send().await.map_err(|error| broken(call, error))?;
        Ok((Answer { response, leased }, current.revision))
    }
}

/// Turns an error status into the error it is.
async fn accepted(call: &Call, mut answer: Answer) -> Result<Answer, ApiError> {
    let code = answer.response.status().as_u16();
    if (200..300).contains(&code) {
        return Ok(answer);
    }
    let told = retry_after(&answer.response);
    // What the server says is worth more than that its saying so broke off.
    let said = body(call, &mut answer.response).await.unwrap_or_default();
    let mut status = Status::from_body(code, &said);
    status.retry_after = told.or(status.retry_after);
    Err(ApiError::Status { call: call.label(), status: Box::new(status) })
}

/// Seconds only: no API server sends a date.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn body(call: &Call, response: &mut reqwest::Response) -> Result<Bytes, ApiError> {
    let Some(first) = response.chunk().await.map_err(|error| broken(call, error))? else {
        return Ok(Bytes::new());
    };
    let mut second = response.chunk().await.map_err(|error| broken(call, error))?;
    if second.is_none() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(first);
    while let Some(chunk) = second {
        if whole.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(ApiError::TooLong { call: call.label(), bytes_max: BODY_BYTES_MAX });
        }
        whole.extend_from_slice(&chunk);
        second = response.chunk().await.map_err(|error| broken(call, error))?;
    }
    Ok(whole.freeze())
}

pub(crate) fn broken(call: &Call, error: reqwest::Error) -> ApiError {
    let connected = !error.is_connect() && !error.is_builder();
    // The URL is in the call already.
    ApiError::Transport { call: call.label(), connected, source: error.without_url().into() }
}

pub(crate) fn decode<T: DeserializeOwned>(call: &str, body: &[u8]) -> Result<T, ApiError> {
    // The quick way first; the path of a wrong field costs only who has one.
    serde_json::from_slice(body).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_slice(body);
        serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| ApiError::Body {
                call: call.to_owned(),
                field: error.path().to_string(),
                source: error.into_inner(),
            })
            .and_then(|value| {
                reader.end().map_err(|source| ApiError::Body {
                    call: call.to_owned(),
                    field: ".".to_owned(),
                    source,
                })?;
                Ok(value)
            })
    })
}

fn encode(call: &Call, body: &impl Serialize) -> Result<Bytes, ApiError> {
    let encoded = serde_json::to_vec(body).map_err(|source| ApiError::Encode { call: call.label(), source })?;
    Ok(encoded.into())
}

fn with_json(mut call: Call, body: &impl Serialize) -> Result<Call, ApiError> {
    call.body = Some((JSON, encode(&call, body)?));
    Ok(call)
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    // Go writes an empty list as null where it was never filled.
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    items: Vec<T>,
}

/// What a list says about itself.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    pub(crate) r#continue: Option<String>,
}

/// `null` as no items.
pub(crate) fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    reader: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}
