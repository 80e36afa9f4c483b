//! Faults on demand.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::requests::Request;
use crate::status::Status;
use crate::store::Snapshot;

/// What happens to a request instead of (or before) its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is closed, all its streams with it, before anything is done.
    Drop,
    /// It is carried out, and the connection is closed instead of the answer.
    DropAnswer,
    /// It waits, and goes on.
    Delay(Duration),
    /// 429 with `Retry-After` in seconds.
    TooManyRequests(u64),
    /// Another refusal: 500, 503, 401, …
    Refuse(Status),
    /// No answer comes, ever.
    BlackHole,
    /// Reads are answered out of an earlier state.
    Stale(Snapshot),
    /// A watch ends in the middle of the line of its next event, and its connection with it.
    HalfALine,
    /// A watch gets the 410 error event in place of its next event.
    Gone,
    /// A watch ends in good order at its next event.
    EndWatch,
}

impl Fault {
    /// Whether it acts on an open watch rather than on a request.
    fn acts_on_events(&self) -> bool {
        matches!(self, Self::HalfALine | Self::Gone | Self::EndWatch)
    }
}

type Matcher = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

struct RuleOf {
    id: u64,
    matches: Matcher,
    fault: Fault,
    /// How often it still acts; nothing for always.
    left: Option<u64>,
    hits: u64,
}

/// The faults of a server. A rule is looked at in the order in which rules were added;
/// the first that matches acts, and a `Delay` goes on to the next.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Vec<RuleOf>>,
    next: AtomicU64,
    frozen: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    /// Counts the orders to close every connection.
    closings: tokio::sync::watch::Sender<u64>,
}

/// A rule that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

impl Faults {
    /// Acts on every request that `matches` says yes to, `times` at most (nothing: always).
    pub fn add(
        &self,
        fault: Fault,
        times: Option<u64>,
        matches: impl Fn(&Request) -> bool + Send + Sync + 'static,
    ) -> FaultId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let rule = RuleOf { id, matches: Arc::new(matches), fault, left: times, hits: 0 };
        self.lock().push(rule);
        FaultId(id)
    }

    /// Acts on requests of a verb on a resource (`pods`, `pods/status`); `*` is any.
    pub fn on(&self, verb: &str, resource: &str, fault: Fault, times: Option<u64>) -> FaultId {
        let (verb, resource) = (verb.to_owned(), resource.to_owned());
        self.add(fault, times, move |request| {
            let asked = match request.subresource.as_str() {
                "" => request.resource.clone(),
                sub => format!("{}/{sub}", request.resource),
            };
            (verb == "*" || verb == request.verb) && (resource == "*" || resource == asked)
        })
    }

    /// Takes a rule away; gives how often it acted.
    pub fn remove(&self, id: FaultId) -> u64 {
        let mut rules = self.lock();
        let at = rules.iter().position(|rule| rule.id == id.0);
        at.map_or(0, |at| rules.remove(at).hits)
    }

    /// How often a rule acted. A rule that is used up is kept until it is removed.
    #[must_use]
    pub fn hits(&self, id: FaultId) -> u64 {
        self.lock().iter().find(|rule| rule.id == id.0).map_or(0, |rule| rule.hits)
    }

    /// Takes all rules away and lets frozen connections go on.
    pub fn clear(&self) {
        self.lock().clear();
        self.thaw();
    }

    /// From now on nothing is read from or written to any connection, old or new, as if
    /// the machine were gone: not even a ping is answered.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Ends `freeze`: what was held back goes on.
    pub fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(Waker::wake);
    }

    /// Closes every connection that is open now.
    pub fn close_connections(&self) {
        self.closings.send_modify(|count| *count += 1);
    }

    pub(crate) fn closings(&self) -> tokio::sync::watch::Receiver<u64> {
        self.closings.subscribe()
    }

    /// Whether an input or output has to wait; it is woken by `thaw`.
    pub(crate) fn holds_back(&self, waker: &Waker) -> bool {
        if !self.frozen.load(Ordering::SeqCst) {
            return false;
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
        // Whoever thaws meanwhile may have missed this waker.
        if !self.frozen.load(Ordering::SeqCst) {
            waker.wake_by_ref();
        }
        true
    }

    /// The faults of a request, in their order.
    pub(crate) fn of_request(&self, request: &Request) -> Vec<Fault> {
        let mut found = Vec::new();
        for rule in self.lock().iter_mut().filter(|rule| !rule.fault.acts_on_events()) {
            if rule.left == Some(0) || !(rule.matches)(request) {
                continue;
            }
            rule.hit();
            found.push(rule.fault.clone());
            if !matches!(rule.fault, Fault::Delay(_)) {
                break;
            }
        }
        found
    }

    /// The fault of the next event of an open watch.
    pub(crate) fn of_event(&self, request: &Request) -> Option<Fault> {
        let mut rules = self.lock();
        let rule = rules
            .iter_mut()
            .filter(|rule| rule.fault.acts_on_events())
            .find(|rule| rule.left != Some(0) && (rule.matches)(request))?;
        rule.hit();
        Some(rule.fault.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RuleOf>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleOf {
    fn hit(&mut self) {
        self.hits += 1;
        self.left = self.left.map(|left| left - 1);
    }
}
