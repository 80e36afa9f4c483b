//! Images from registries into the store.
//!
//! ```text
//! Puller::start ── joined with an equal pull that runs ── Pull (progress, done)
//!    │ a permit for an image
//!    ▼
//! hosts (certs.d) × credentials (keyring) ── manifest ── configuration      attempt.rs
//!    │ a permit for a layer; a layer that runs already is joined
//!    ▼
//! blob → unnamed file → digest, size → files in tmp/ → diff id              layer.rs
//!    │ all there
//!    ▼
//! ImageStore: layers/, record                                               under the store's lock
//! ```
//!
//! All is driven by who waits: when the last one drops its [`Pull`], the pull ends
//! and what it had is removed.

mod attempt;
mod challenge;
mod client;
mod error;
mod layer;
mod manifest;
mod progress;
mod registry;

pub use error::{Answer, PullError};
pub use progress::{LayerPhase, LayerProgress, PullProgress};

use crate::hosts::{Host, hosts_of};
use crate::keyring::{Credential, Keyring};
use crate::{Digest, ImageError, ImageRecord, ImageStore, Reference};
use attempt::Attempt;
use client::Clients;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use layer::Layers;
use manifest::Machine;
use orlop_model::ImageRef;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Layers downloaded at once, over all images; containerd's `max_concurrent_downloads`.
const PARALLEL_LAYERS: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// Until a connection stands; the timeout of containerd's dialer.
const CONNECT_MS: u64 = 30_000;
/// Until a silent registry is given up.
const STALL_MS: u64 = 60_000;

/// How images are pulled.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Folders as containerd's `certs.d`; the first that has something for a registry counts.
    pub certs_dirs: Vec<PathBuf>,
    /// The node's own credentials, see [`crate::node_credential_files`]. Read at every pull.
    pub credential_files: Vec<PathBuf>,
    /// Images pulled at once, `None` without limit: `maxParallelImagePulls`, and 1 for
    /// `serializeImagePulls`. The others wait in the order in which they came.
    pub parallel_images: Option<NonZeroUsize>,
    /// Layers downloaded and unpacked at once, over all images.
    pub parallel_layers: NonZeroUsize,
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest time without an answer, or without 4 KiB more of a layer.
    pub stall_timeout: Duration,
}

impl Default for PullOptions {
    /// The kubelet's and containerd's defaults: one image at a time, three layers,
    /// `/etc/containerd/certs.d`, no credentials.
    fn default() -> Self {
        Self {
            certs_dirs: vec!["/etc/containerd/certs.d".into()],
            credential_files: Vec::new(),
            parallel_images: Some(NonZeroUsize::MIN),
            parallel_layers: PARALLEL_LAYERS,
            connect_timeout: Duration::from_millis(CONNECT_MS),
            stall_timeout: Duration::from_millis(STALL_MS),
        }
    }
}

/// Pulls images into a store. Cheap to clone; all clones share their limits.
#[derive(Clone)]
pub struct Puller {
    inner: Arc<Inner>,
}

struct Inner {
    store: ImageStore,
    options: PullOptions,
    machine: Machine,
    images: Option<Semaphore>,
    layers: Layers,
    clients: Clients,
    running: Mutex<HashMap<Key, Running>>,
}

/// Pulls with other credentials are not joined: who may not read an image must not
/// get it by coming second.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    image: Reference,
    credentials: Vec<Credential>,
}

struct Running {
    outcome: WeakShared<BoxFuture<'static, Result<Outcome, PullError>>>,
    progress: watch::Receiver<PullProgress>,
}

/// A host and how to speak to it.
type Reachable = (Host, Result<reqwest::Client, PullError>);

#[derive(Clone)]
struct Outcome {
    record: ImageRecord,
    resolved: Digest,
    took: Duration,
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image as the store has it.
    pub record: ImageRecord,
    /// What the reference stands for in the registry, an index where there is one:
    /// the digest in a container's `imageID` and in the Node's images.
    pub resolved: Digest,
    /// Time of the pull.
    pub took: Duration,
    /// The same with the time it waited for its turn, as this caller saw it.
    pub with_waiting: Duration,
}

/// A pull that was started. It goes on only while [`Pull::done`] is awaited, by this
/// or by another who wants the same image; dropping the last one ends it.
pub struct Pull {
    outcome: Shared<BoxFuture<'static, Result<Outcome, PullError>>>,
    progress: watch::Receiver<PullProgress>,
    started: Instant,
}

impl Puller {
    /// A puller for a store.
    #[must_use]
    pub fn new(store: ImageStore, options: PullOptions) -> Self {
        let images = options.parallel_images.map(|limit| Semaphore::new(limit.get()));
        let layers = Layers::new(store.clone(), options.parallel_layers);
        let (clients, running) = (Clients::default(), Mutex::default());
        let inner = Inner { store, options, machine: Machine::this(), images, layers, clients, running };
        Self { inner: Arc::new(inner) }
    }

    /// The store that images are pulled into.
    #[must_use]
    pub fn store(&self) -> &ImageStore {
        &self.inner.store
    }

    /// Pulls an image, whether or not it is there: a tag may have moved, and a pod's
    /// credentials are checked. `keyring` is what the pod brings (`imagePullSecrets`
    /// and its service account's); the node's own files come behind it. As with the
    /// kubelet the candidates are tried in order, and an image without any is pulled
    /// anonymously.
    ///
    /// # Errors
    /// See [`PullError`]; nothing of a failed image stays.
    pub async fn pull(&self, image: &ImageRef, keyring: &Keyring) -> Result<Pulled, PullError> {
        self.start(image, keyring).await?.done().await
    }

    /// The same for who wants to see how far it is.
    ///
    /// # Errors
    /// [`PullError::InvalidName`]; all others come from [`Pull::done`].
    pub async fn start(&self, image: &ImageRef, keyring: &Keyring) -> Result<Pull, PullError> {
        let started = Instant::now();
        let text = image.as_str();
        let image = Reference::parse(text).map_err(|error| match error {
            ImageError::Reference { text, problem } => PullError::InvalidName { text, problem: problem.to_owned() },
            other => other.into(),
        })?;
        let mut keyring = keyring.clone();
        let files = self.inner.options.credential_files.clone();
        let keyring = on_blocking_thread(move || {
            // The kubelet passes over a file that does not parse, too.
            let _ = keyring.add_files(&files);
            Ok(keyring)
        })
        .await?;
        let key = Key { credentials: keyring.lookup(&image), image };
        Ok(self.join(key, started))
    }

    fn join(&self, key: Key, started: Instant) -> Pull {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, running| running.outcome.upgrade().is_some_and(|outcome| outcome.peek().is_none()));
        if let Some(found) = running.get(&key)
            && let Some(outcome) = found.outcome.upgrade()
        {
            return Pull { outcome, progress: found.progress.clone(), started };
        }
        let (report, progress) = watch::channel(PullProgress::default());
        let outcome = Arc::clone(&self.inner).pull(key.clone(), report).boxed().shared();
        if let Some(weak) = outcome.downgrade() {
            running.insert(key, Running { outcome: weak, progress: progress.clone() });
        }
        Pull { outcome, progress, started }
    }
}

impl Pull {
    /// How far the pull is; changes as it goes on.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<PullProgress> {
        self.progress.clone()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// As [`Puller::pull`].
    pub async fn done(self) -> Result<Pulled, PullError> {
        let Outcome { record, resolved, took } = self.outcome.await?;
        Ok(Pulled { record, resolved, took, with_waiting: self.started.elapsed() })
    }
}

impl Inner {
    async fn pull(self: Arc<Self>, key: Key, report: watch::Sender<PullProgress>) -> Result<Outcome, PullError> {
        let _permit = match &self.images {
            // It fails only when it is closed, which nobody does.
            Some(images) => images.acquire().await.ok(),
            None => None,
        };
        let started = Instant::now();
        let hosts = self.hosts(&key.image).await?;
        let candidates: Vec<Option<Credential>> = match key.credentials.is_empty() {
            true => vec![None],
            false => key.credentials.into_iter().map(Some).collect(),
        };
        let mut errors = Vec::new();
        for credential in candidates {
            let attempt = Attempt::new(&self, &key.image, &hosts, credential, &report);
            match attempt.run().await {
                Ok((record, resolved)) => return Ok(Outcome { record, resolved, took: started.elapsed() }),
                Err(error) => {
                    let next = error.asks_for_credentials();
                    errors.push(error);
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(PullError::of_several(errors))
    }

    async fn hosts(self: &Arc<Self>, image: &Reference) -> Result<Vec<Reachable>, PullError> {
        let (inner, registry) = (Arc::clone(self), image.registry().to_owned());
        on_blocking_thread(move || {
            let hosts = hosts_of(&registry, &inner.options.certs_dirs)?;
            let connect = inner.options.connect_timeout;
            let client = |host: Host| match inner.clients.for_host(&host, connect) {
                Err(error @ PullError::Configuration { .. }) => Err(error),
                other => Ok((host, other)),
            };
            hosts.into_iter().map(client).collect()
        })
        .await
    }
}

/// Runs what blocks where it may. A panic in it goes on here.
async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(PullError::Unsupported { problem: "the agent is stopping".to_owned() }),
        },
    }
}
