//! Follows a collection: a list, then every change, for ever.
//!
//! ```text
//!            machine: pure                    driver: does
//!   Seen ──▶ what to ask next, when ──▶ Ask ──▶ request, lines ──▶ WatchEvent<T>
//!     ▲                                              │
//!     └──────────────────────────────────────────────┘
//! ```

mod backoff;
mod change;
mod driver;
mod failure;
mod health;
mod line;
mod machine;
mod object;

use crate::client::Client;
use crate::request::Selectors;
use crate::resource::Collection;
use serde::de::DeserializeOwned;
use std::hash::{BuildHasher, RandomState};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use change::WatchChange;
pub use health::{WatchHealth, WatchState};

/// Events that wait for a slow reader before the server has to wait too.
const EVENTS_WAITING_MAX: usize = 256;
/// client-go's page (tools/pager).
const PAGE_ITEMS: u32 = 500;
/// etcd takes no object above 1.5 MiB by default; JSON may double it.
const LINE_BYTES_MAX: usize = 16 << 20;

/// What a watch tells, in the order in which it happened.
///
/// After [`Begin`](Self::Begin) comes the whole truth until [`Done`](Self::Done): whatever
/// was known before and is not in it is gone. Another `Begin` before `Done` starts that anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent<T> {
    /// A list begins: the first, or one after too much was missed, or because the server
    /// came back with an older state.
    Begin,
    /// An object of the list. May come twice, the newer last.
    Item(T),
    /// The list is whole.
    Done,
    /// An object is new or changed.
    Applied(T),
    /// An object is gone; this was its last state. Between `Begin` and `Done` too.
    Deleted(T),
}

/// What is watched and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// Which objects.
    pub selectors: Selectors,
    /// Ask for the list as a stream first; servers that do not know that are asked for pages.
    pub streaming: bool,
    /// Items on a page.
    pub page_items: u32,
    /// The longest event, in bytes, that is accepted.
    pub line_bytes_max: usize,
    /// Where the jitter starts from, so that tests can repeat it; nodes must differ.
    pub seed: u64,
}

impl WatchOptions {
    /// The usual options and a seed by chance.
    #[must_use]
    pub fn new(selectors: Selectors) -> Self {
        Self {
            selectors,
            streaming: true,
            page_items: PAGE_ITEMS,
            line_bytes_max: LINE_BYTES_MAX,
            seed: RandomState::new().hash_one("jitter"),
        }
    }
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self::new(Selectors::default())
    }
}

/// A watch under way; dropping it ends it.
#[derive(Debug)]
pub struct Watch<T> {
    events: mpsc::Receiver<WatchEvent<T>>,
    gather: change::Gather<T>,
    health: WatchHealth,
    driver: JoinHandle<()>,
}

/// Begins to follow a collection. It goes on through every failure; [`Watch::health`]
/// tells of those.
///
/// Must be called within a tokio runtime.
#[must_use]
pub fn watch<T>(client: &Client, of: Collection, options: WatchOptions) -> Watch<T>
where
    T: DeserializeOwned + Send + 'static,
{
    let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let health = WatchHealth::new();
    let driver = driver::Driver::new(client.clone(), of, options, health.clone());
    Watch { events, gather: change::Gather::new(), health, driver: tokio::spawn(driver.run(sender)) }
}

impl<T> Watch<T> {
    /// The next event. Cancelling it loses nothing. `None` only if the runtime shuts down.
    pub async fn next(&mut self) -> Option<WatchEvent<T>> {
        self.events.recv().await
    }

    /// The next event if it is there already: to take what has gathered in one go.
    pub fn try_next(&mut self) -> Option<WatchEvent<T>> {
        self.events.try_recv().ok()
    }

    /// The next change, with a list in one piece. Cancelling it loses nothing. Do not mix it
    /// with [`next`](Self::next), which would take events out of the middle of a list.
    pub async fn next_change(&mut self) -> Option<WatchChange<T>> {
        loop {
            if let Some(change) = self.gather.pop() {
                return Some(change);
            }
            let event = self.events.recv().await?;
            self.gather.push(event);
        }
    }

    /// How it goes; stays valid after the watch has ended.
    #[must_use]
    pub fn health(&self) -> WatchHealth {
        self.health.clone()
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
