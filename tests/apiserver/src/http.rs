//! Requests: counted, hit by faults, authenticated, authorized, routed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT,
};
use hyper::{Response, StatusCode, Version};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::auth::{Attributes, User, authorize, denied};
use crate::cluster::Core;
use crate::events::{given, shown};
use crate::faults::Fault;
use crate::operations::{self, Call};
use crate::patch::Patch;
use crate::removal::{self, DeleteOptions};
use crate::request::{self, Query, yes};
use crate::requests::Request;
use crate::status::Status;
use crate::store::Snapshot;
use crate::{discovery, listing, resource, reviews, subresources, watch};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Answer = Response<Body>;

/// What becomes of a connection whose request a fault swallowed.
#[derive(Debug, thiserror::Error)]
#[error("the connection was dropped by a fault")]
pub(crate) struct Dropped;

/// Lists longer than this are compressed, as the real server does.
const COMPRESS_BYTES_MIN: usize = 128 * 1024;

/// Answers one request.
pub(crate) async fn answer(
    core: Arc<Core>,
    certified: Option<User>,
    cut: Arc<Notify>,
    request: hyper::Request<Incoming>,
) -> Result<Answer, Dropped> {
    let (parts, body) = request.into_parts();
    let query = request::query(parts.uri.query().unwrap_or_default());
    let asked = request::attributes(parts.method.as_str(), parts.uri.path(), &query);
    let token = header(&parts.headers, AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default().to_owned();
    let user = match (&certified, token.as_str()) {
        (Some(user), "") => Some(user.clone()),
        (None, "") => Some(User::anonymous()),
        (_, token) => core.user_of_token(token),
    };
    let seen = Request {
        verb: asked.verb.clone(),
        group: asked.group.clone(),
        resource: asked.resource.clone(),
        subresource: asked.subresource.clone(),
        namespace: asked.namespace.clone(),
        name: asked.name.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: header(&parts.headers, CONTENT_TYPE).to_owned(),
        user: user.as_ref().map(|user| user.name.clone()).unwrap_or_default(),
        token,
        user_agent: header(&parts.headers, USER_AGENT).to_owned(),
        http2: parts.version == Version::HTTP_2,
        code: 0,
    };
    let number = core.requests.add(seen.clone());
    let (mut stale, mut drop_answer, mut refusal) = (None, false, None);
    for fault in core.faults.of_request(&seen) {
        match fault {
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Drop => return dropped(&cut).await,
            Fault::DropAnswer => drop_answer = true,
            Fault::TooManyRequests(seconds) => refusal = Some(Status::too_many_requests(seconds)),
            Fault::Refuse(status) => refusal = Some(status),
            Fault::BlackHole => std::future::pending().await,
            Fault::Stale(snapshot) => stale = Some(snapshot),
            Fault::HalfALine | Fault::Gone | Fault::EndWatch => {}
        }
    }
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return dropped(&cut).await,
    };
    let compressed = header(&parts.headers, ACCEPT_ENCODING).contains("gzip");
    let asked = Asked { seen, attributes: asked, query, body, stale };
    let answered = match refusal {
        Some(refusal) => Err(refusal),
        None => route(&core, user, &asked).await,
    };
    let answer = match answered {
        Ok(answer) => answer.into_response(compressed),
        Err(status) => refused(&status),
    };
    core.requests.answered(number, answer.status().as_u16());
    if drop_answer { dropped(&cut).await } else { Ok(answer) }
}

/// Closes the whole connection, then never answers.
async fn dropped(cut: &Notify) -> Result<Answer, Dropped> {
    cut.notify_one();
    std::future::pending().await
}

fn header(headers: &HeaderMap, name: hyper::header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

struct Asked {
    seen: Request,
    attributes: Attributes,
    query: Query,
    body: Bytes,
    stale: Option<Snapshot>,
}

enum Content {
    Json(u16, Value),
    Watch(tokio::sync::mpsc::Receiver<watch::Piece>),
}

impl Content {
    fn into_response(self, compress: bool) -> Answer {
        match self {
            Self::Json(code, Value::String(text)) => plain(code, "text/plain; charset=utf-8", text.into()),
            Self::Json(code, value) => {
                let text = Bytes::from(value.to_string());
                if compress && text.len() > COMPRESS_BYTES_MIN {
                    let mut answer = plain(code, "application/json", gzip(&text));
                    answer.headers_mut().insert(CONTENT_ENCODING, hyper::header::HeaderValue::from_static("gzip"));
                    return answer;
                }
                plain(code, "application/json", text)
            }
            Self::Watch(pieces) => {
                let frames = stream::unfold(pieces, |mut pieces| async {
                    let piece = pieces.recv().await?;
                    Some((piece.map(Frame::data), pieces))
                });
                let body = BodyExt::boxed_unsync(StreamBody::new(frames));
                let mut answer = Response::new(body);
                let json = hyper::header::HeaderValue::from_static("application/json");
                answer.headers_mut().insert(CONTENT_TYPE, json);
                answer
            }
        }
    }
}

fn gzip(text: &[u8]) -> Bytes {
    use std::io::Write;
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = writer.write_all(text).and_then(|()| writer.finish());
    Bytes::from(written.expect("memory takes what is written"))
}

fn plain(code: u16, kind: &'static str, text: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}

fn refused(status: &Status) -> Answer {
    let mut answer = plain(status.code, "application/json", status.to_json().to_string().into());
    if let Some(seconds) = status.retry_after_s() {
        answer.headers_mut().insert(RETRY_AFTER, hyper::header::HeaderValue::from(seconds));
    }
    answer
}

async fn route(core: &Arc<Core>, user: Option<User>, asked: &Asked) -> Result<Content, Status> {
    let user = user.ok_or_else(Status::unauthorized)?;
    let attributes = &asked.attributes;
    authorize(&core.store, &core.options.rules, &user, attributes).map_err(|why| denied(&user, attributes, &why))?;
    if attributes.resource.is_empty() {
        return match (attributes.verb.as_str(), discovery::answer(&attributes.path)) {
            ("get", Some(found)) => Ok(Content::Json(200, found)),
            (_, Some(_)) => Err(Status::method_not_allowed()),
            (_, None) => Ok(Content::Json(404, json!("404 page not found\n"))),
        };
    }
    if let Some(kind) = request::review(attributes) {
        let review = reviews::answer(core, &user, (kind, &attributes.group), document(&asked.body)?);
        return Ok(Content::Json(201, review));
    }
    let Some(resource) = resource::at(&attributes.group, "v1", &attributes.resource) else {
        return Ok(Content::Json(404, json!("404 page not found\n")));
    };
    let manager = asked.query.get("fieldManager").cloned();
    let agent = || asked.seen.user_agent.split('/').next().unwrap_or_default().to_owned();
    let call = Call { user, asked: attributes.clone(), resource, manager: manager.unwrap_or_else(agent) };
    if call.resource.plural == "namespaces" {
        let mut call = call;
        call.asked.namespace.clear();
        return carry_out(core, &call, asked).await;
    }
    carry_out(core, &call, asked).await
}

async fn carry_out(core: &Arc<Core>, call: &Call, asked: &Asked) -> Result<Content, Status> {
    let attributes = &call.asked;
    let sub = attributes.subresource.as_str();
    let show = |object: Value| shown(call.resource, &object);
    match (attributes.verb.as_str(), sub) {
        ("watch", "") => {
            let stream = watch::watch(core, call, &asked.query, asked.seen.clone()).await?;
            Ok(Content::Watch(stream))
        }
        ("list", "") => {
            let mut call = call.clone();
            call.asked.name.clear();
            listing::list(core, &call, &asked.query, asked.stale.as_ref()).await.map(|list| Content::Json(200, list))
        }
        ("get", "" | "status" | "approval") => {
            let object = match &asked.stale {
                Some(stale) => {
                    let key = (call.resource.stored_as, attributes.namespace.clone(), attributes.name.clone());
                    let found = stale.objects.get(&key).cloned();
                    found.ok_or_else(|| Status::not_found(call.resource, &attributes.name))?
                }
                None => core.store.read(|state| call.find(state))?,
            };
            Ok(Content::Json(200, shown(call.resource, &object)))
        }
        ("create", _) => create(core, call, asked),
        ("update", "" | "status" | "approval" | "finalize") => {
            let object = given(call.resource, document(&asked.body)?);
            operations::update(core, call, object).map(|object| Content::Json(200, show(object)))
        }
        ("patch", "" | "status" | "approval") => {
            let patch = read_patch(asked)?;
            operations::patch(core, call, &patch).map(|object| Content::Json(200, show(object)))
        }
        ("delete", "") => {
            let grace = asked.query.get("gracePeriodSeconds").map(String::as_str);
            let options = DeleteOptions::read(&document(&asked.body)?, grace);
            removal::delete(core, call, &options).map(|object| Content::Json(200, show(object)))
        }
        ("deletecollection", "") => delete_all(core, call, asked),
        _ => Err(Status::method_not_allowed()),
    }
}

fn create(core: &Core, call: &Call, asked: &Asked) -> Result<Content, Status> {
    let body = document(&asked.body)?;
    let made = match (call.resource.plural, call.asked.subresource.as_str()) {
        ("pods", "binding") => subresources::bind(core, call, &body),
        ("pods", "eviction") => subresources::evict(core, call, &body),
        ("serviceaccounts", "token") => subresources::token(core, call, body),
        (_, "") if call.asked.name.is_empty() || call.resource.plural == "namespaces" => {
            let made = operations::create(core, call, given(call.resource, body))?;
            Ok(shown(call.resource, &made))
        }
        _ => Err(Status::method_not_allowed()),
    };
    made.map(|object| Content::Json(201, object))
}

fn delete_all(core: &Core, call: &Call, asked: &Asked) -> Result<Content, Status> {
    let selector = listing::selector(call, &asked.query)?;
    let options = DeleteOptions::read(&document(&asked.body)?, None);
    let names: Vec<(String, String)> = core.store.read(|state| {
        let ours = state.of(call.resource.stored_as).filter(|(key, object)| {
            (call.asked.namespace.is_empty() || key.1 == call.asked.namespace) && selector.selects(object)
        });
        ours.map(|(key, _)| (key.1.clone(), key.2.clone())).collect()
    });
    for (namespace, name) in names {
        let mut one = call.clone();
        (one.asked.namespace, one.asked.name) = (namespace, name);
        removal::delete(core, &one, &options)?;
    }
    Ok(Content::Json(200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
}

/// A body in JSON, or in YAML, which contains it; an empty one is nothing.
fn document(body: &Bytes) -> Result<Value, Status> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    // The first bytes of Kubernetes' protobuf envelope.
    if body.starts_with(b"k8s\0") {
        return Err(Status::unsupported_media_type("application/json, application/yaml"));
    }
    let text = std::str::from_utf8(body).map_err(|_| Status::unsupported_media_type("application/json"))?;
    serde_saphyr::from_str(text).map_err(|err| Status::bad_request(format!("error decoding the body: {err}")))
}

fn read_patch(asked: &Asked) -> Result<Patch, Status> {
    const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, \
        application/strategic-merge-patch+json, application/apply-patch+yaml";
    let body = document(&asked.body)?;
    let kind = asked.seen.content_type.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/merge-patch+json" => Ok(Patch::Merge(body)),
        "application/json-patch+json" => Ok(Patch::Json(body)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(body)),
        "application/apply-patch+yaml" => {
            let manager = asked.query.get("fieldManager").cloned().ok_or_else(|| {
                Status::bad_request("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
            })?;
            let force = asked.query.contains_key("force") && yes(&asked.query, "force");
            Ok(Patch::Apply { object: body, manager, force })
        }
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}
