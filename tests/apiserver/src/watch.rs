//! Watches: the history as lines, with bookmarks, initial events and 410.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::Core;
use crate::events::shown;
use crate::faults::Fault;
use crate::listing;
use crate::operations::Call;
use crate::request::{Query, yes};
use crate::requests::Request;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Change, Entry};

/// A piece of a body; an error cuts the connection.
pub(crate) type Piece = Result<Bytes, std::io::Error>;

/// An open watch.
struct Watch {
    core: Arc<Core>,
    call: Call,
    request: Request,
    selector: Selector,
    bookmarks: bool,
    lines: mpsc::Sender<Piece>,
    /// The last version looked at.
    seen: u64,
    epoch: u64,
}

/// The watch is over, in good order or not.
struct Over;

/// Checks what a watch asks for and starts it; the pieces of its body come out of the receiver.
pub(crate) async fn watch(
    core: &Arc<Core>,
    call: &Call,
    query: &Query,
    request: Request,
) -> Result<mpsc::Receiver<Piece>, Status> {
    let selector = listing::selector(call, query)?;
    let asked = listing::version(query)?;
    let initial = check(core, query)?;
    if let Some(wanted) = asked {
        listing::reached(core, wanted).await?;
    }
    let (epoch, revision, compacted) = core.store.read(|state| (state.epoch, state.revision, state.compacted));
    let (lines, pieces) = mpsc::channel(64);
    let mut watch = Watch {
        core: Arc::clone(core),
        call: call.clone(),
        request,
        selector,
        bookmarks: yes_present(query, "allowWatchBookmarks"),
        lines,
        seen: asked.unwrap_or(0),
        epoch,
    };
    // The real server ends watches that say no time after 30 to 60 minutes.
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).filter(|one| *one > 0);
    let timeout = Duration::from_secs(seconds.unwrap_or(1800));
    // No version, or zero, starts with everything there is.
    let synthetic = initial.unwrap_or(asked.unwrap_or(0) == 0);
    if initial == Some(false) && asked.unwrap_or(0) == 0 {
        watch.seen = revision;
    }
    let too_old = (!synthetic && watch.seen < compacted).then(|| Status::too_old(watch.seen, compacted));
    tokio::spawn(async move {
        let _ = tokio::time::timeout(timeout, watch.run((synthetic, initial == Some(true)), too_old)).await;
    });
    Ok(pieces)
}

fn yes_present(query: &Query, name: &str) -> bool {
    query.contains_key(name) && yes(query, name)
}

/// `sendInitialEvents`, when it is given and may be.
fn check(core: &Core, query: &Query) -> Result<Option<bool>, Status> {
    let refuse = |field: &str, why: &str| {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {why}");
        Err(Status::new(422, "Invalid", message))
    };
    let policy = query.get("resourceVersionMatch").map(String::as_str).unwrap_or_default();
    if !query.contains_key("sendInitialEvents") {
        if !policy.is_empty() {
            return refuse(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        return Ok(None);
    }
    if !core.options.watch_list {
        let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        return refuse("sendInitialEvents", why);
    }
    if policy != "NotOlderThan" {
        return refuse(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    Ok(Some(yes(query, "sendInitialEvents")))
}

impl Watch {
    async fn run(&mut self, (synthetic, ends_initial): (bool, bool), too_old: Option<Status>) -> Result<(), Over> {
        if let Some(status) = too_old {
            return self.line(&json!({"type": "ERROR", "object": status.to_json()})).await;
        }
        let mut changes = self.core.store.subscribe();
        let mut due = self.core.bookmarks_due.subscribe();
        if synthetic {
            self.initial(ends_initial).await?;
        }
        let period = self.core.options.bookmark_period;
        let mut bookmark = tokio::time::interval_at(Instant::now() + period, period);
        loop {
            self.catch_up().await?;
            tokio::select! {
                _ = self.lines.closed() => return Err(Over),
                changed = changes.changed() => changed.map_err(|_| Over)?,
                _ = bookmark.tick() => self.bookmark(false).await?,
                asked = due.changed() => {
                    asked.map_err(|_| Over)?;
                    self.catch_up().await?;
                    self.bookmark(false).await?;
                }
            }
        }
    }

    /// Everything that is there as ADDED, and the bookmark that ends a streaming list.
    async fn initial(&mut self, ends_initial: bool) -> Result<(), Over> {
        let core = Arc::clone(&self.core);
        let objects: Vec<Arc<Value>> = core.store.read(|state| {
            self.seen = state.revision;
            let ours = state.of(self.call.resource.stored_as).filter(|(key, _)| self.within(&key.1));
            ours.filter(|(_, object)| self.selector.selects(object)).map(|(_, object)| Arc::clone(object)).collect()
        });
        for object in objects {
            self.event("ADDED", &object).await?;
        }
        if ends_initial { self.bookmark(true).await } else { Ok(()) }
    }

    fn within(&self, namespace: &str) -> bool {
        self.call.asked.namespace.is_empty() || !self.call.resource.namespaced || namespace == self.call.asked.namespace
    }

    /// Sends what happened since the last look.
    async fn catch_up(&mut self) -> Result<(), Over> {
        let core = Arc::clone(&self.core);
        let found = core.store.read(|state| {
            if state.epoch != self.epoch {
                return Err(None);
            }
            let Some(entries) = state.since(self.seen) else {
                return Err(Some(Status::too_old(self.seen, state.compacted)));
            };
            let ours = entries.filter(|entry| entry.key.0 == self.call.resource.stored_as && self.within(&entry.key.1));
            let events: Vec<(&'static str, Arc<Value>)> = ours.filter_map(|entry| self.seen_as(entry)).collect();
            self.seen = state.revision;
            Ok(events)
        });
        match found {
            Ok(events) => {
                for (word, object) in events {
                    self.event(word, &object).await?;
                }
                Ok(())
            }
            // A server that came back with another state has no watch any more.
            Err(None) => Err(Over),
            Err(Some(status)) => {
                self.line(&json!({"type": "ERROR", "object": status.to_json()})).await?;
                Err(Over)
            }
        }
    }

    /// What a change looks like through the selector: entering is ADDED, leaving is DELETED.
    fn seen_as(&self, entry: &Entry) -> Option<(&'static str, Arc<Value>)> {
        let before = entry.previous.as_ref().is_some_and(|object| self.selector.selects(object));
        let after = entry.change != Change::Deleted && self.selector.selects(&entry.object);
        let word = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        match (&entry.previous, word, entry.change) {
            // Who leaves a selector is shown as it last matched, with the new version.
            (Some(previous), "DELETED", Change::Modified) => {
                let mut last = (**previous).clone();
                last["metadata"]["resourceVersion"] = json!(entry.revision.to_string());
                Some((word, Arc::new(last)))
            }
            _ => Some((word, Arc::clone(&entry.object))),
        }
    }

    async fn event(&mut self, word: &str, object: &Value) -> Result<(), Over> {
        let line = json!({"type": word, "object": shown(self.call.resource, object)});
        match self.core.faults.of_event(&self.request) {
            Some(Fault::HalfALine) => {
                let text = line.to_string();
                let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
                self.lines.send(Ok(half)).await.map_err(|_| Over)?;
                // The piece must be on its way before the connection is cut.
                self.lines.send(Ok(Bytes::new())).await.map_err(|_| Over)?;
                let cut = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut by a fault");
                self.lines.send(Err(cut)).await.map_err(|_| Over)?;
                Err(Over)
            }
            Some(Fault::Gone) => {
                let status = Status::too_old(self.seen, self.core.store.read(|state| state.revision));
                self.line(&json!({"type": "ERROR", "object": status.to_json()})).await?;
                Err(Over)
            }
            Some(Fault::EndWatch) => Err(Over),
            _ => self.line(&line).await,
        }
    }

    async fn bookmark(&mut self, ends_initial: bool) -> Result<(), Over> {
        if !self.bookmarks {
            return Ok(());
        }
        let resource = self.call.resource;
        let mut object = json!({
            "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
        });
        if ends_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.line(&json!({"type": "BOOKMARK", "object": object})).await
    }

    async fn line(&mut self, line: &Value) -> Result<(), Over> {
        let text = format!("{line}\n");
        self.lines.send(Ok(Bytes::from(text))).await.map_err(|_| Over)
    }
}
