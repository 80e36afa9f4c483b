//! The requests that came, so that a test can say how many there may be.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// One request, as it was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// `pods`; empty when the path names no resource.
    pub resource: String,
    /// `status`, `token`, …
    pub subresource: String,
    /// The namespace, when the path names one.
    pub namespace: String,
    /// The object, when the path (or a field selector) names one.
    pub name: String,
    /// The path without its query.
    pub path: String,
    /// The query as it came.
    pub query: String,
    /// The body's type.
    pub content_type: String,
    /// Who asked; empty when nobody could tell.
    pub user: String,
    /// The bearer token it came with.
    pub token: String,
    /// `User-Agent`.
    pub user_agent: String,
    /// Whether it came over HTTP/2.
    pub http2: bool,
    /// The HTTP code; 0 while unanswered, or when a fault swallowed it.
    pub code: u16,
}

/// How many requests are remembered.
const REQUESTS_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Requests {
    /// Index of the first one kept, and those kept.
    seen: Mutex<(usize, VecDeque<Request>)>,
    changed: Condvar,
}

impl Requests {
    /// Remembers a request and gives its number.
    pub(crate) fn add(&self, request: Request) -> usize {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.1.push_back(request);
        if seen.1.len() > REQUESTS_MAX {
            seen.1.pop_front();
            seen.0 += 1;
        }
        self.changed.notify_all();
        seen.0 + seen.1.len() - 1
    }

    pub(crate) fn answered(&self, number: usize, code: u16) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.0;
        if let Some(request) = number.checked_sub(first).and_then(|at| seen.1.get_mut(at)) {
            request.code = code;
        }
        self.changed.notify_all();
    }

    /// Waits until `look` finds something in the requests, at most `limit`.
    pub(crate) fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&VecDeque<Request>) -> Option<T>) -> Option<T> {
        let mut found = None;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let unfound = |seen: &mut (usize, VecDeque<Request>)| {
            found = look(&seen.1);
            found.is_none()
        };
        drop(self.changed.wait_timeout_while(seen, limit, unfound));
        found
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).1.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0 += seen.1.len();
        seen.1.clear();
    }
}
