//! Lists: selectors, pages, and which resource version an answer may have.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cluster::Core;
use crate::operations::Call;
use crate::request::Query;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Key, Snapshot, State};

/// Reads the parameter `resourceVersion`; absent is nothing, "0" is zero.
pub(crate) fn version(query: &Query) -> Result<Option<u64>, Status> {
    match query.get("resourceVersion").map(String::as_str).unwrap_or_default() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
        }),
    }
}

pub(crate) fn selector(call: &Call, query: &Query) -> Result<Selector, Status> {
    let parameter = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    Selector::parse(call.resource.stored_as, parameter("labelSelector"), parameter("fieldSelector"))
}

/// Waits until the store has reached a version, and says 504 when it does not in time.
pub(crate) async fn reached(core: &Core, wanted: u64) -> Result<(), Status> {
    let mut changes = core.store.subscribe();
    let there = async {
        while core.store.read(|state| state.revision) < wanted {
            if changes.changed().await.is_err() {
                break;
            }
        }
    };
    match tokio::time::timeout(core.options.future_version_wait, there).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Status::too_large(wanted, core.store.read(|state| state.revision))),
    }
}

/// Where a list goes on: (revision, namespace, name); revision 0 is "as it is then".
type Token = (u64, String, String);

fn token_text(token: &Token) -> String {
    let body = json!({"v": "meta.k8s.io/v1", "rv": token.0, "start": [token.1, token.2]});
    URL_SAFE_NO_PAD.encode(body.to_string())
}

fn token_of(text: &str) -> Option<Token> {
    let body: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let start = |at: usize| body["start"][at].as_str().map(str::to_owned);
    Some((body["rv"].as_u64()?, start(0)?, start(1)?))
}

/// One list.
pub(crate) async fn list(core: &Core, call: &Call, query: &Query, stale: Option<&Snapshot>) -> Result<Value, Status> {
    let selector = selector(call, query)?;
    let asked = version(query)?;
    let limit = query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(0);
    let policy = query.get("resourceVersionMatch").map(String::as_str).unwrap_or_default();
    let token = query.get("continue").map(String::as_str).unwrap_or_default();
    check_match(policy, asked, token)?;
    if let Some(stale) = stale {
        let objects = stale.objects.clone();
        return Ok(page(call, &selector, (objects, stale.revision), (None, limit)));
    }
    if !token.is_empty() {
        let token = token_of(token).ok_or_else(|| Status::bad_request("continue key is not valid"))?;
        return core.store.read(|state| going_on(state, call, &selector, (token, limit)));
    }
    if let Some(wanted) = asked.filter(|wanted| *wanted > 0) {
        reached(core, wanted).await?;
    }
    // The watch cache answers version zero, and knows no pages.
    let limit = if asked == Some(0) { 0 } else { limit };
    core.store.read(|state| {
        let exact = asked.filter(|_| policy == "Exact" || (policy.is_empty() && limit > 0)).filter(|asked| *asked > 0);
        let at = exact.unwrap_or(state.revision);
        let objects = state.of_at(call.resource.stored_as, at).ok_or_else(|| {
            Status::new(410, "Expired", format!("The resourceVersion for the provided list is too old: {at}"))
        })?;
        Ok(page(call, &selector, (objects, at), (None, limit)))
    })
}

/// Source: `ValidateListOptions` in apimachinery.
fn check_match(policy: &str, asked: Option<u64>, token: &str) -> Result<(), Status> {
    let forbidden = |field: &str, why: &str| {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {why}");
        Err(Status::new(422, "Invalid", message))
    };
    match (policy, asked) {
        _ if !token.is_empty() && asked.is_some_and(|asked| asked > 0) => {
            Err(Status::bad_request("specifying resource version is not allowed when using continue"))
        }
        ("", _) => Ok(()),
        (_, _) if !token.is_empty() => {
            forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
        }
        (_, None) => {
            forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
        }
        ("Exact", Some(0)) => {
            forbidden("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        ("Exact" | "NotOlderThan", Some(_)) => Ok(()),
        (other, Some(_)) => Err(Status::new(
            422,
            "Invalid",
            format!(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: {other:?}: \
                 supported values: \"Exact\", \"NotOlderThan\", \"\""
            ),
        )),
    }
}

fn going_on(state: &State, call: &Call, selector: &Selector, (token, limit): (Token, usize)) -> Result<Value, Status> {
    let (revision, namespace, name) = token;
    let start = Some((call.resource.stored_as, namespace.clone(), name.clone()));
    let at = if revision == 0 { state.revision } else { revision };
    match state.of_at(call.resource.stored_as, at) {
        Some(objects) => Ok(page(call, selector, (objects, at), (start, limit))),
        None => Err(Status::continue_expired(token_text(&(0, namespace, name)))),
    }
}

/// One page, starting after the key that the last one ended with.
fn page(
    call: &Call,
    selector: &Selector,
    (objects, revision): (BTreeMap<Key, Arc<Value>>, u64),
    (after, limit): (Option<Key>, usize),
) -> Value {
    let within = |key: &Key| {
        key.0 == call.resource.stored_as
            && (call.asked.namespace.is_empty() || !call.resource.namespaced || key.1 == call.asked.namespace)
            && after.as_ref().is_none_or(|after| key > after)
    };
    let chosen: Vec<(&Key, &Arc<Value>)> =
        objects.iter().filter(|(key, object)| within(key) && selector.selects(object)).collect();
    let taken = if limit == 0 { chosen.len() } else { limit.min(chosen.len()) };
    let items: Vec<Value> = chosen[..taken].iter().map(|(_, object)| item(call, object)).collect();
    let mut meta = json!({"resourceVersion": revision.to_string()});
    if let Some((key, _)) = chosen[..taken].last().filter(|_| taken < chosen.len()) {
        meta["continue"] = json!(token_text(&(revision, key.1.clone(), key.2.clone())));
        // The real server does not count what a selector may still leave out.
        if *selector == Selector::default() {
            meta["remainingItemCount"] = json!(chosen.len() - taken);
        }
    }
    json!({
        "kind": format!("{}List", call.resource.kind), "apiVersion": call.resource.api_version(),
        "metadata": meta, "items": items,
    })
}

/// Items of a list have no type of their own.
fn item(call: &Call, object: &Value) -> Value {
    let mut item = crate::events::shown(call.resource, object);
    if let Some(item) = item.as_object_mut() {
        item.remove("kind");
        item.remove("apiVersion");
    }
    item
}
