//! What a watch asks next. Pure: what was seen goes in, the next request comes out.
//!
//! The rules are those of client-go's reflector (tools/cache/reflector.go), with one
//! added: after the server was away, the watch asks how far the server is before it goes
//! on from where it was. A server that came back with an older state, as after a restored
//! backup, would otherwise keep silent until its versions have passed ours.

use super::backoff::Backoff;
use super::failure::Failure;
use std::time::Duration;

/// client-go's bounds for `timeoutSeconds`.
const TIMEOUT_SECONDS: (f64, f64) = (300.0, 600.0);
/// A watch that stood so long comes back quickly; one that did not backs off.
const STOOD: Duration = Duration::from_secs(5);
/// client-go's "very short watch".
const SHORT: Duration = Duration::from_secs(1);
/// Within which watches that lost their connection together come back.
const SPREAD: Duration = Duration::from_millis(200);
/// Within which watches that have to list again together do so.
const RELIST_SPREAD: Duration = Duration::from_millis(800);
/// A server that goes back more often than this is not one server.
const WENT_BACK_ONCE: Duration = Duration::from_secs(60);
/// A token file may be renewed at any moment.
const UNAUTHORIZED_WAIT_MAX: Duration = Duration::from_secs(10);
/// We do not stay away longer than this, whatever a server says.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// A list as the beginning of a watch.
    Stream { not_older_than: Option<String>, seconds: u64 },
    /// A page of a list.
    Page { not_older_than: Option<String>, limit: Option<u32>, more: Option<String> },
    /// What happened after a version.
    Watch { after: String, seconds: u64 },
    /// The version that the server is at.
    Newest,
}

/// What came of the last request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// A stream was answered and begins.
    Opened,
    /// A page came.
    Page { version: &'a str, more: Option<String> },
    /// The version that the server is at.
    Newest { version: &'a str },
    /// An event of a stream.
    Event { version: &'a str },
    /// A bookmark, which may end a list.
    Bookmark { version: &'a str, ends_list: bool },
    /// The server ended the stream in order.
    Ended,
    /// The request or the stream failed.
    Failed(Failure),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Step {
    /// A list begins, before what came is delivered.
    pub(super) begin: bool,
    /// The list is whole, after what came is delivered.
    pub(super) done: bool,
    /// The server is at a version before ours: this is ours.
    pub(super) went_back: Option<String>,
    /// The next request and how long to wait before it; `None`: go on with this one.
    pub(super) next: Option<(Duration, Ask)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    StreamingList,
    Paging { more: Option<String>, first: Option<String>, whole: bool },
    Watching,
    Doubting,
}

/// One watch's memory.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    phase: Phase,
    streaming: bool,
    page_items: u32,
    /// The newest version that we know to be true of the server.
    version: Option<String>,
    /// The next list must be the newest, whatever we had seen.
    newest: bool,
    /// When the current stream was answered, and whether anything came.
    opened: Option<Duration>,
    /// When the server last turned out to be at an older state.
    went_back_at: Option<Duration>,
    backoff: Backoff,
}

impl Machine {
    pub(super) fn new(streaming: bool, page_items: u32, seed: u64) -> Self {
        Self {
            phase: Phase::StreamingList,
            streaming,
            page_items,
            version: None,
            newest: false,
            opened: None,
            went_back_at: None,
            backoff: Backoff::new(seed),
        }
    }

    /// The first request.
    pub(super) fn start(&mut self) -> Ask {
        self.list()
    }

    /// Whether events are items of a list.
    pub(super) fn listing(&self) -> bool {
        self.phase == Phase::StreamingList
    }

    /// Takes in what was seen at `now`, a time since any fixed moment.
    pub(super) fn on(&mut self, seen: Seen<'_>, now: Duration) -> Step {
        let lived = self.opened.map(|opened| now.saturating_sub(opened));
        if matches!(seen, Seen::Ended | Seen::Failed(_)) {
            self.opened = None;
        }
        match (self.phase.clone(), seen) {
            (_, Seen::Opened) => {
                self.opened = Some(now);
                Step { begin: self.listing(), ..Step::default() }
            }
            (Phase::StreamingList, Seen::Bookmark { version, ends_list: true }) => {
                self.listed(version);
                Step { done: true, ..Step::default() }
            }
            (Phase::StreamingList, Seen::Event { .. } | Seen::Bookmark { .. }) => Step::default(),
            (Phase::StreamingList, Seen::Ended) => self.again(Failure::Away, lived, now),
            (Phase::StreamingList, Seen::Failed(failure)) => self.list_failed(failure, lived, now),
            (Phase::Paging { more, first, whole }, Seen::Page { version, more: next }) => {
                self.page(more.is_none(), first.as_deref().unwrap_or(version), next, whole)
            }
            (Phase::Paging { more, .. }, Seen::Failed(failure)) => self.page_failed(more.is_some(), failure, now),
            (Phase::Watching, Seen::Event { version } | Seen::Bookmark { version, .. }) => self.advance(version, now),
            (Phase::Watching, Seen::Ended) if lived.is_some_and(|lived| lived >= SHORT) => self.go(Duration::ZERO),
            (Phase::Watching, Seen::Ended) => self.again(Failure::Other, lived, now),
            (Phase::Watching, Seen::Failed(failure)) => self.watch_failed(failure, lived, now),
            (Phase::Doubting, Seen::Newest { version }) => self.confirm(version, now),
            (Phase::Doubting, Seen::Failed(failure)) => self.doubt_failed(failure, now),
            // The driver cannot see these: they belong to another request than the one under way.
            (Phase::Paging { .. } | Phase::Doubting, Seen::Event { .. } | Seen::Bookmark { .. } | Seen::Ended)
            | (Phase::StreamingList | Phase::Watching | Phase::Doubting, Seen::Page { .. })
            | (Phase::StreamingList | Phase::Paging { .. } | Phase::Watching, Seen::Newest { .. }) => Step::default(),
        }
    }

    /// A list from its beginning.
    fn list(&mut self) -> Ask {
        self.phase = match self.streaming {
            true => Phase::StreamingList,
            false => Phase::Paging { more: None, first: None, whole: false },
        };
        self.ask()
    }

    /// The request that the phase wants.
    fn ask(&mut self) -> Ask {
        let (low, high) = TIMEOUT_SECONDS;
        let seconds = (low + (high - low) * self.backoff.fraction()) as u64;
        let known = self.version.clone().filter(|_| !self.newest);
        match &self.phase {
            Phase::StreamingList => Ask::Stream { not_older_than: known, seconds },
            Phase::Paging { more: Some(more), .. } => {
                Ask::Page { not_older_than: None, limit: Some(self.page_items), more: Some(more.clone()) }
            }
            Phase::Paging { more: None, whole: true, .. } => {
                Ask::Page { not_older_than: known, limit: None, more: None }
            }
            // A limit together with a version leads past the server's cache to etcd, except for "0".
            Phase::Paging { more: None, .. } => match (known, self.newest) {
                (Some(version), _) => Ask::Page { not_older_than: Some(version), limit: None, more: None },
                (None, newest) => Ask::Page {
                    not_older_than: (!newest).then(|| "0".to_owned()),
                    limit: Some(self.page_items),
                    more: None,
                },
            },
            Phase::Watching => Ask::Watch { after: self.version.clone().unwrap_or_default(), seconds },
            Phase::Doubting => Ask::Newest,
        }
    }

    /// The phase's request, after a wait.
    fn go(&mut self, wait: Duration) -> Step {
        Step { next: Some((wait, self.ask())), ..Step::default() }
    }

    fn listed(&mut self, version: &str) {
        self.version = Some(version.to_owned());
        self.newest = false;
        self.phase = Phase::Watching;
    }

    /// The phase's request again, after what the failure calls for.
    fn again(&mut self, failure: Failure, lived: Option<Duration>, now: Duration) -> Step {
        let wait = match failure {
            Failure::Replaced => Duration::ZERO,
            Failure::Away | Failure::Other if lived.is_some_and(|lived| lived >= STOOD) => {
                SPREAD.mul_f64(self.backoff.fraction())
            }
            Failure::Unauthorized => self.backoff.wait(now).min(UNAUTHORIZED_WAIT_MAX),
            Failure::Busy { retry_after } | Failure::VersionTooLarge { retry_after } => {
                let told = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.backoff.wait(now).max(told.mul_f64(1.0 + self.backoff.fraction() / 4.0))
            }
            Failure::Away | Failure::Gone | Failure::NotStreaming | Failure::Other => self.backoff.wait(now),
        };
        self.go(wait)
    }

    fn list_failed(&mut self, failure: Failure, lived: Option<Duration>, now: Duration) -> Step {
        match failure {
            Failure::NotStreaming => {
                self.streaming = false;
                let ask = self.list();
                Step { next: Some((Duration::ZERO, ask)), ..Step::default() }
            }
            // Making progress is better than insisting on a stream. If the server cannot do this
            // either, that is what we wait after.
            Failure::Other => {
                self.phase = Phase::Paging { more: None, first: None, whole: false };
                self.go(Duration::ZERO)
            }
            Failure::Gone | Failure::VersionTooLarge { .. } => {
                self.newest = true;
                self.again(failure, None, now)
            }
            Failure::Away | Failure::Replaced | Failure::Unauthorized | Failure::Busy { .. } => {
                self.again(failure, lived, now)
            }
        }
    }

    fn page(&mut self, begin: bool, first: &str, next: Option<String>, whole: bool) -> Step {
        let first = first.to_owned();
        let done = next.is_none();
        match next {
            Some(more) => self.phase = Phase::Paging { more: Some(more), first: Some(first), whole },
            // The first page's version: to hear a change twice is better than not at all.
            None => self.listed(&first),
        }
        Step { begin, done, ..self.go(Duration::ZERO) }
    }

    fn page_failed(&mut self, within: bool, failure: Failure, now: Duration) -> Step {
        match failure {
            // The continue token has expired: all in one, as client-go's pager does.
            Failure::Gone if within => {
                self.phase = Phase::Paging { more: None, first: None, whole: true };
                self.go(Duration::ZERO)
            }
            Failure::Gone | Failure::VersionTooLarge { .. } => {
                self.newest = true;
                self.phase = Phase::Paging { more: None, first: None, whole: false };
                self.again(failure, None, now)
            }
            // A page may be asked for again with the same token.
            Failure::Away
            | Failure::Replaced
            | Failure::Unauthorized
            | Failure::Busy { .. }
            | Failure::NotStreaming
            | Failure::Other => self.again(failure, None, now),
        }
    }

    fn advance(&mut self, version: &str, now: Duration) -> Step {
        if self.version.as_deref().is_some_and(|ours| is_before(version, ours)) {
            return self.relist_newest(now);
        }
        if !version.is_empty() {
            self.version = Some(version.to_owned());
        }
        Step::default()
    }

    fn watch_failed(&mut self, failure: Failure, lived: Option<Duration>, now: Duration) -> Step {
        match failure {
            // Not older than what we have seen, so the truth does not go back.
            Failure::Gone => {
                let wait = match lived.is_some_and(|lived| lived >= STOOD) {
                    true => RELIST_SPREAD.mul_f64(self.backoff.fraction()),
                    false => self.backoff.wait(now),
                };
                let ask = self.list();
                Step { next: Some((wait, ask)), ..Step::default() }
            }
            Failure::Away | Failure::VersionTooLarge { .. } => {
                self.phase = Phase::Doubting;
                self.again(failure, lived, now)
            }
            Failure::Replaced
            | Failure::Unauthorized
            | Failure::Busy { .. }
            | Failure::NotStreaming
            | Failure::Other => self.again(failure, lived, now),
        }
    }

    fn confirm(&mut self, version: &str, now: Duration) -> Step {
        if self.version.as_deref().is_some_and(|ours| is_before(version, ours)) {
            return self.relist_newest(now);
        }
        self.phase = Phase::Watching;
        self.go(Duration::ZERO)
    }

    fn doubt_failed(&mut self, failure: Failure, now: Duration) -> Step {
        if failure == Failure::Other {
            // Who may watch need not be allowed to list: then we can only go on.
            self.phase = Phase::Watching;
        }
        self.again(failure, None, now)
    }

    fn relist_newest(&mut self, now: Duration) -> Step {
        let went_back = self.version.take();
        self.newest = true;
        // It has just answered, so there is nothing to wait for; but servers that disagree must
        // not make us list without end.
        let again = self.went_back_at.is_some_and(|at| now.saturating_sub(at) < WENT_BACK_ONCE);
        self.went_back_at = Some(now);
        let wait = match again {
            true => self.backoff.wait(now),
            false => RELIST_SPREAD.mul_f64(self.backoff.fraction()),
        };
        let ask = self.list();
        Step { went_back, next: Some((wait, ask)), ..Step::default() }
    }
}

/// Versions are numbers that grow, and may be compared since Kubernetes 1.35 (KEP-5504);
/// of any that are not numbers we know nothing.
fn is_before(version: &str, than: &str) -> bool {
    match (version.parse::<u128>(), than.parse::<u128>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
