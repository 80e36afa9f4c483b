//! Does what the machine asks for, and delivers what comes.

use super::failure::Failure;
use super::line::Lines;
use super::machine::{Ask, Machine, Seen, Step};
use super::object::{Line, Meta, RawPage, ends_list, read};
use super::{WatchEvent, WatchHealth, WatchOptions};
use crate::client::{Answer, Call, Client, broken};
use crate::connection::Length;
use crate::error::{ApiError, Status, chain};
use crate::resource::Collection;
use bytes::Bytes;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, timeout};

/// A streaming list in which nothing comes for so long will not be ended either
/// (client-go warns after 10 s).
const LIST_QUIET_MAX: Duration = Duration::from_secs(10);
/// Servers before 1.27 do not know of such lists, and never end them; where objects change
/// all the time they are not quiet either.
const LIST_MAX: Duration = Duration::from_secs(60);
/// What a server may take beyond `timeoutSeconds`.
const OVERTIME: Duration = Duration::from_secs(30);

/// The reader has gone.
struct NobodyListens;

/// How a request ended: what comes next, or nobody wants it any more.
type Next = Result<(Duration, Ask), NobodyListens>;

pub(super) struct Driver {
    client: Client,
    of: Collection,
    options: WatchOptions,
    health: WatchHealth,
    machine: Machine,
    started: Instant,
    /// When we last lost sight of the server.
    lost: Instant,
}

impl Driver {
    pub(super) fn new(client: Client, of: Collection, options: WatchOptions, health: WatchHealth) -> Self {
        let machine = Machine::new(options.streaming, options.page_items, options.seed);
        let now = Instant::now();
        Self { client, of, options, health, machine, started: now, lost: now }
    }

    pub(super) async fn run<T: DeserializeOwned>(mut self, out: Sender<WatchEvent<T>>) {
        let mut next = (Duration::ZERO, self.machine.start());
        loop {
            let (wait, ask) = next;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = out.closed() => return,
            }
            let done = match &ask {
                Ask::Stream { .. } | Ask::Watch { .. } => {
                    let done = self.stream(&ask, &out).await;
                    self.lost = Instant::now();
                    done
                }
                Ask::Page { .. } => self.page(&ask, &out).await,
                Ask::Newest => Ok(self.newest(&ask).await),
            };
            match done {
                Ok(following) => next = following,
                Err(NobodyListens) => return,
            }
        }
    }

    fn on(&mut self, seen: Seen<'_>) -> Step {
        self.machine.on(seen, self.started.elapsed())
    }

    /// The machine has an answer to every end of a request; were it not so, we list again.
    fn follow(&mut self, step: Step) -> (Duration, Ask) {
        step.next.unwrap_or_else(|| (OVERTIME, self.machine.start()))
    }

    fn fail(&mut self, error: &ApiError) -> (Duration, Ask) {
        let failure = Failure::of(error, self.machine.listing());
        let step = self.on(Seen::Failed(failure));
        let next = self.follow(step);
        // Expiry is part of a watch's life, a replaced connection is what we wanted, and pages do
        // as well as a stream.
        if matches!(failure, Failure::Gone | Failure::Replaced | Failure::NotStreaming) {
            tracing::debug!(watch = %self.of, err = %chain(error), "watch starts again");
        } else {
            self.went_down(error, next.0);
        }
        next
    }

    fn went_down(&self, error: &ApiError, wait: Duration) {
        let text = chain(error);
        let mut health = self.health.lock();
        health.failures += 1;
        // Once: the metric and the handle tell whether it goes on.
        if health.down_since.is_none() {
            health.down_since = Some(std::time::Instant::now());
            tracing::warn!(watch = %self.of, err = %text, wait_ms = wait.as_millis(), "watch is down, trying again");
        } else {
            tracing::debug!(watch = %self.of, err = %text, wait_ms = wait.as_millis(), "watch is still down");
        }
        health.last_error = Some(text);
    }

    fn went_up(&self) {
        let mut health = self.health.lock();
        if let Some(since) = health.down_since.take() {
            tracing::info!(watch = %self.of, down_ms = since.elapsed().as_millis(), "watch is back");
        }
    }

    fn request(&self, ask: &Ask) -> Result<Call, ApiError> {
        let mut query: Vec<_> = self.options.selectors.query().map(|(key, value)| (key, value.to_owned())).collect();
        let mut add = |key, value: &str| query.push((key, value.to_owned()));
        match ask {
            Ask::Stream { not_older_than, seconds } => {
                add("watch", "true");
                add("sendInitialEvents", "true");
                add("resourceVersionMatch", "NotOlderThan");
                add("resourceVersion", not_older_than.as_deref().unwrap_or_default());
                add("allowWatchBookmarks", "true");
                add("timeoutSeconds", &seconds.to_string());
            }
            Ask::Watch { after, seconds } => {
                add("watch", "true");
                add("resourceVersion", after);
                add("allowWatchBookmarks", "true");
                add("timeoutSeconds", &seconds.to_string());
            }
            Ask::Page { not_older_than, limit, more } => {
                limit.iter().for_each(|limit| add("limit", &limit.to_string()));
                more.iter().for_each(|more| add("continue", more));
                if let Some(version) = not_older_than {
                    add("resourceVersion", version);
                    add("resourceVersionMatch", "NotOlderThan");
                }
            }
            Ask::Newest => add("limit", "1"),
        }
        self.client.call(Method::GET, &self.of.segments()?, &query)
    }

    async fn fetch(&self, ask: &Ask) -> Result<(String, Bytes), ApiError> {
        self.client.send(self.request(ask)?).await
    }

    /// How far the server is.
    async fn newest(&mut self, ask: &Ask) -> (Duration, Ask) {
        let resource = self.of.resource();
        let asked = Instant::now();
        let (call, version) = match self.client.newest_since(resource, self.lost) {
            Some(version) => (format!("GET {}", self.of), version),
            None => {
                let fetched = self.fetch(ask).await;
                let read = fetched.and_then(|(call, body)| {
                    let version = decode_page(&call, &body)?.metadata.resource_version;
                    self.client.note_newest(resource, asked, &version);
                    Ok((call, version))
                });
                match read {
                    Ok(read) => read,
                    Err(error) => {
                        self.lost = Instant::now();
                        return self.fail(&error);
                    }
                }
            }
        };
        let step = self.on(Seen::Newest { version: &version });
        self.note_went_back(&call, &version, &step);
        self.follow(step)
    }

    async fn page<T: DeserializeOwned>(&mut self, ask: &Ask, out: &Sender<WatchEvent<T>>) -> Next {
        let (call, body) = match self.fetch(ask).await {
            Ok(fetched) => fetched,
            Err(error) => return Ok(self.fail(&error)),
        };
        let page: RawPage<'_> = match decode_page(&call, &body) {
            Ok(page) => page,
            Err(error) => return Ok(self.fail(&error)),
        };
        let more = page.metadata.r#continue.filter(|token| !token.is_empty());
        let step = self.on(Seen::Page { version: &page.metadata.resource_version, more });
        if step.begin {
            self.begin(out).await?;
        }
        for item in page.items {
            self.deliver(&call, item, out, WatchEvent::Item).await?;
        }
        if step.done {
            self.done(out).await?;
        }
        Ok(self.follow(step))
    }

    async fn stream<T: DeserializeOwned>(&mut self, ask: &Ask, out: &Sender<WatchEvent<T>>) -> Next {
        let (call, answer) = match self.open(ask).await {
            Ok(opened) => opened,
            Err(error) => return Ok(self.fail(&error)),
        };
        self.health.lock().connects += 1;
        self.went_up();
        if self.on(Seen::Opened).begin {
            self.begin(out).await?;
        }
        self.read(&call, answer, ask, out).await
    }

    async fn open(&self, ask: &Ask) -> Result<(Call, Answer), ApiError> {
        let call = self.request(ask)?;
        let waited = self.client.timeout();
        match timeout(waited, self.client.open(&call, Length::Watch)).await {
            Ok(answer) => answer.map(|answer| (call, answer)),
            Err(_) => Err(ApiError::Timeout { call: call.label(), waited }),
        }
    }

    async fn read<T: DeserializeOwned>(
        &mut self,
        call: &Call,
        mut answer: Answer,
        ask: &Ask,
        out: &Sender<WatchEvent<T>>,
    ) -> Next {
        let label = call.label();
        let seconds = match ask {
            Ask::Stream { seconds, .. } | Ask::Watch { seconds, .. } => *seconds,
            Ask::Page { .. } | Ask::Newest => 0,
        };
        let opened = Instant::now();
        let end = opened + Duration::from_secs(seconds) + OVERTIME;
        let mut lines = Lines::new(self.options.line_bytes_max);
        loop {
            let chunk = tokio::select! {
                chunk = self.chunk(call, &mut answer, opened, end) => chunk,
                () = out.closed() => return Err(NobodyListens),
            };
            match chunk {
                Ok(Some(chunk)) => {
                    self.health.lock().bytes += chunk.len() as u64;
                    lines.push(chunk);
                }
                Ok(None) if lines.begun() == 0 => {
                    let step = self.on(Seen::Ended);
                    return Ok(self.follow(step));
                }
                Ok(None) => return Ok(self.fail(&ApiError::HalfLine { call: label, bytes: lines.begun() })),
                Err(error) => return Ok(self.fail(&error)),
            }
            loop {
                let line = match lines.next() {
                    Ok(Some(line)) => line,
                    Ok(None) => break,
                    Err(super::line::TooLong) => {
                        let bytes_max = self.options.line_bytes_max;
                        return Ok(self.fail(&ApiError::TooLong { call: label, bytes_max }));
                    }
                };
                if let Some(next) = self.line(&label, &line, out).await? {
                    return Ok(next);
                }
            }
        }
    }

    /// The next chunk; `None` at the end of the stream or of its time.
    async fn chunk(
        &self,
        call: &Call,
        answer: &mut Answer,
        opened: Instant,
        end: Instant,
    ) -> Result<Option<Bytes>, ApiError> {
        let listing = self.machine.listing();
        let quiet = (Instant::now() + LIST_QUIET_MAX).min(opened + LIST_MAX);
        tokio::select! {
            chunk = answer.response.chunk() => chunk.map_err(|error| broken(call, error)),
            _ = answer.leased.replaced.changed() => Err(ApiError::Replaced { call: call.label() }),
            () = tokio::time::sleep_until(quiet), if listing => {
                Err(ApiError::NoListEnd { call: call.label(), waited: opened.elapsed() })
            }
            () = tokio::time::sleep_until(end) => Ok(None),
        }
    }

    /// One event. `Some`: the stream is of no more use.
    async fn line<T: DeserializeOwned>(
        &mut self,
        call: &str,
        line: &[u8],
        out: &Sender<WatchEvent<T>>,
    ) -> Result<Option<(Duration, Ask)>, NobodyListens> {
        let line: Line<'_> = match decode_line(call, line) {
            Ok(line) => line,
            // No way to know what was missed: as if it had broken off.
            Err(error) => return Ok(Some(self.fail(&error))),
        };
        let listing = self.machine.listing();
        match line.r#type {
            "ADDED" | "MODIFIED" if listing => self.deliver(call, line.object, out, WatchEvent::Item).await?,
            "ADDED" | "MODIFIED" => self.deliver(call, line.object, out, WatchEvent::Applied).await?,
            "DELETED" => self.deliver(call, line.object, out, WatchEvent::Deleted).await?,
            "BOOKMARK" => {}
            "ERROR" => return Ok(Some(self.told(call, line.object))),
            other => {
                tracing::debug!(watch = %self.of, r#type = other, "unknown event");
                return Ok(None);
            }
        }
        if listing && line.r#type != "BOOKMARK" {
            return Ok(None);
        }
        let meta = Meta::of(line.object);
        let version = meta.resource_version.as_str();
        let step = match line.r#type {
            "BOOKMARK" => self.on(Seen::Bookmark { version, ends_list: listing && ends_list(line.object) }),
            _ => self.on(Seen::Event { version }),
        };
        self.note_went_back(call, version, &step);
        if step.done {
            self.done(out).await?;
        }
        Ok(step.next)
    }

    /// An `ERROR` event: its object is a `Status`.
    fn told(&mut self, call: &str, object: &RawValue) -> (Duration, Ask) {
        let call = call.to_owned();
        match Status::from_event(object.get()) {
            Ok(status) => self.fail(&ApiError::Status { call, status: Box::new(status) }),
            Err(source) => self.fail(&ApiError::Body { call, field: "object".to_owned(), source }),
        }
    }

    fn note_went_back(&self, call: &str, server: &str, step: &Step) {
        if let Some(ours) = &step.went_back {
            let (call, server) = (call.to_owned(), server.to_owned());
            let error = ApiError::WentBack { call, server, ours: ours.clone() };
            tracing::warn!(watch = %self.of, err = %error, "listing again");
            let mut health = self.health.lock();
            health.failures += 1;
            health.last_error = Some(error.to_string());
        }
    }

    async fn begin<T>(&self, out: &Sender<WatchEvent<T>>) -> Result<(), NobodyListens> {
        self.health.lock().lists += 1;
        out.send(WatchEvent::Begin).await.map_err(|_| NobodyListens)
    }

    async fn done<T>(&self, out: &Sender<WatchEvent<T>>) -> Result<(), NobodyListens> {
        self.health.lock().listed = true;
        out.send(WatchEvent::Done).await.map_err(|_| NobodyListens)
    }

    /// Hands an object on; one that cannot be read is named and left out.
    async fn deliver<T: DeserializeOwned>(
        &self,
        call: &str,
        object: &RawValue,
        out: &Sender<WatchEvent<T>>,
        event: fn(T) -> WatchEvent<T>,
    ) -> Result<(), NobodyListens> {
        let object = match read(call, object) {
            Ok(object) => object,
            Err(error) => {
                tracing::warn!(watch = %self.of, err = %chain(&error), "leaving out an object that is not understood");
                self.health.lock().unparsable += 1;
                return Ok(());
            }
        };
        self.health.lock().events += 1;
        out.send(event(object)).await.map_err(|_| NobodyListens)
    }
}

fn decode_page<'a>(call: &str, body: &'a [u8]) -> Result<RawPage<'a>, ApiError> {
    serde_json::from_slice(body).map_err(|source| not_understood(call, source))
}

fn decode_line<'a>(call: &str, line: &'a [u8]) -> Result<Line<'a>, ApiError> {
    serde_json::from_slice(line).map_err(|source| not_understood(call, source))
}

fn not_understood(call: &str, source: serde_json::Error) -> ApiError {
    ApiError::Body { call: call.to_owned(), field: ".".to_owned(), source }
}
