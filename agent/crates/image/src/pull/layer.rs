//! One layer: downloaded into an unnamed file, checked, unpacked beside the store.

use super::error::PullError;
use super::manifest::Blob;
use super::on_blocking_thread;
use super::progress::LayerPhase;
use super::registry::{Endpoint, Request};
use crate::load::{layer_error, unpack_blob};
use crate::{Digest, ImageError, ImageStore};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

/// Bytes that are gathered before a thread hashes and writes them.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes that must come within one stall time.
const PROGRESS_BYTES_MIN: u64 = 4 << 10;
/// Buffer between the file and its decompressor.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// What to fetch and from where.
#[derive(Clone)]
pub(super) struct Job {
    pub blob: Blob,
    pub diff_id: Digest,
    /// For errors.
    pub image: String,
    /// In the order in which they are tried.
    pub endpoints: Arc<Vec<Endpoint>>,
}

/// A layer that is in the store or ready to go there.
pub(super) struct Staged {
    pub unpacked_bytes: u64,
    /// Gone once an image took it.
    folder: Mutex<Option<TempDir>>,
    /// Keeps other processes from sweeping the folder.
    _pulls: Option<File>,
}

type Fetch = Shared<BoxFuture<'static, Result<Arc<Staged>, PullError>>>;
type State = (LayerPhase, u64);

/// A layer that an image has not taken in yet. Others that come meanwhile find it by its fetch.
pub(super) struct Held {
    pub staged: Arc<Staged>,
    _fetch: Fetch,
}

/// All layers that are being fetched.
pub(super) struct Layers {
    store: ImageStore,
    permits: Arc<Semaphore>,
    running: Mutex<HashMap<Digest, Running>>,
}

struct Running {
    fetch: WeakShared<BoxFuture<'static, Result<Arc<Staged>, PullError>>>,
    state: watch::Receiver<State>,
}

impl Layers {
    pub(super) fn new(store: ImageStore, parallel: NonZeroUsize) -> Self {
        let permits = Arc::new(Semaphore::new(parallel.get()));
        Self { store, permits, running: Mutex::default() }
    }

    /// Fetches a layer, or waits for who does it already. `meter` hears how far it is.
    pub(super) async fn fetch(&self, job: Job, meter: impl Fn(State)) -> Result<Held, PullError> {
        let (fetch, state, joined) = self.join(&job, false);
        match watched(fetch, state, &meter).await {
            // The other one's host or credentials may have been the reason.
            Err(_) if joined => {
                let (fetch, state, _) = self.join(&job, true);
                watched(fetch, state, &meter).await
            }
            other => other,
        }
    }

    fn join(&self, job: &Job, alone: bool) -> (Fetch, watch::Receiver<State>, bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, running| running.fetch.upgrade().is_some_and(|fetch| is_of_use(&fetch)));
        if let Some(found) = running.get(&job.diff_id)
            && let Some(fetch) = found.fetch.upgrade()
            && !alone
        {
            return (fetch, found.state.clone(), true);
        }
        let (report, state) = watch::channel((LayerPhase::Waiting, 0));
        let (store, permits) = (self.store.clone(), Arc::clone(&self.permits));
        let fetch = fetch(store, permits, job.clone(), report).boxed().shared();
        if let Some(weak) = fetch.downgrade() {
            running.insert(job.diff_id, Running { fetch: weak, state: state.clone() });
        }
        (fetch, state, false)
    }
}

/// Whether another image can have what a fetch gives: it runs, or its layer was not taken yet.
fn is_of_use(fetch: &Fetch) -> bool {
    match fetch.peek() {
        None => true,
        Some(Err(_)) => false,
        Some(Ok(staged)) => staged.folder.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
    }
}

/// Waits for a fetch and passes on how far it is.
async fn watched(fetch: Fetch, mut state: watch::Receiver<State>, meter: &impl Fn(State)) -> Result<Held, PullError> {
    let mut waiting = fetch.clone();
    loop {
        meter(*state.borrow_and_update());
        tokio::select! {
            biased;
            result = &mut waiting => {
                meter(*state.borrow());
                return result.map(|staged| Held { staged, _fetch: fetch });
            }
            Ok(()) = state.changed() => {}
        }
    }
}

async fn fetch(
    store: ImageStore,
    permits: Arc<Semaphore>,
    job: Job,
    report: watch::Sender<State>,
) -> Result<Arc<Staged>, PullError> {
    // It fails only when it is closed, which nobody does.
    let _permit = permits.acquire_owned().await.ok();
    let (place, diff_id) = (store.clone(), job.diff_id);
    let here = on_blocking_thread(move || match place.layer_size(diff_id) {
        Some(size) => Ok(Err(size)),
        None => Ok(Ok(place.lock_for_pull()?)),
    })
    .await?;
    let pulls = match here {
        Ok(pulls) => pulls,
        Err(unpacked_bytes) => {
            report.send_replace((LayerPhase::Exists, job.blob.size));
            return Ok(Arc::new(Staged { unpacked_bytes, folder: Mutex::new(None), _pulls: None }));
        }
    };
    let (file, host) = download_from_any(&store, &job, &report).await?;
    report.send_replace((LayerPhase::Unpacking, job.blob.size));
    let (folder, unpacked_bytes) = unpack(&store, &job, file, host).await?;
    report.send_replace((LayerPhase::Done, job.blob.size));
    Ok(Arc::new(Staged { unpacked_bytes, folder: Mutex::new(Some(folder)), _pulls: Some(pulls) }))
}

/// The packed layer in an unnamed file, and the host it came from.
async fn download_from_any(
    store: &ImageStore,
    job: &Job,
    report: &watch::Sender<State>,
) -> Result<(File, String), PullError> {
    let mut errors = Vec::new();
    for endpoint in job.endpoints.iter().filter(|endpoint| endpoint.host.pulls) {
        report.send_replace((LayerPhase::Downloading, 0));
        match download(store, &job.blob, endpoint, report).await {
            Ok(file) => return Ok((file, endpoint.name())),
            // Another host does not make the disk larger.
            Err(error @ PullError::Store(_)) => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    Err(PullError::of_several(errors))
}

async fn download(
    store: &ImageStore,
    blob: &Blob,
    endpoint: &Endpoint,
    report: &watch::Sender<State>,
) -> Result<File, PullError> {
    let wanted = format!("layer {}", blob.digest);
    let path = format!("blobs/{}", blob.digest);
    let mut response = endpoint.get(&Request { path: &path, accept: "*/*", wanted: &wanted }).await?;
    let size_error = |got: u64| PullError::Mismatch {
        host: endpoint.name(),
        what: format!("size of {wanted}"),
        want: blob.size.to_string(),
        got: got.to_string(),
    };
    if let Some(length) = response.content_length().filter(|&length| length != blob.size) {
        return Err(size_error(length));
    }
    let scratch = store.scratch_dir();
    let mut sink = on_blocking_thread(move || Ok(Sink::open(&scratch)?)).await?;
    let (mut done, mut marked) = (0, 0);
    let mut deadline = Instant::now() + endpoint.stall;
    while let Some(bytes) =
        timeout_at(deadline, endpoint.chunk(&mut response)).await.map_err(|_| endpoint.timeout())??
    {
        done += bytes.len() as u64;
        if done > blob.size {
            return Err(size_error(done));
        }
        sink.block.extend_from_slice(&bytes);
        if sink.block.len() >= BLOCK_BYTES {
            sink = sink.write(store).await?;
        }
        report.send_replace((LayerPhase::Downloading, done));
        // A byte now and then is no progress.
        if done - marked >= PROGRESS_BYTES_MIN {
            (marked, deadline) = (done, Instant::now() + endpoint.stall);
        }
    }
    if done != blob.size {
        return Err(size_error(done));
    }
    report.send_replace((LayerPhase::Verifying, done));
    let sink = sink.write(store).await?;
    let (file, got) = sink.finish();
    if got != blob.digest {
        return Err(PullError::digest(&endpoint.name(), wanted, blob.digest, got));
    }
    Ok(file)
}

/// A file without a name: it is gone with its last descriptor, whatever happens.
struct Sink {
    file: File,
    hash: Sha256,
    block: Vec<u8>,
}

impl Sink {
    fn open(scratch: &Path) -> Result<Self, ImageError> {
        let file = tempfile::tempfile_in(scratch).map_err(ImageError::io("make a file in", scratch))?;
        Ok(Self { file, hash: Sha256::new(), block: Vec::with_capacity(BLOCK_BYTES + (64 << 10)) })
    }

    /// Hashes and writes what was gathered.
    async fn write(mut self, store: &ImageStore) -> Result<Self, PullError> {
        let scratch = store.scratch_dir();
        on_blocking_thread(move || {
            self.hash.update(&self.block);
            self.file.write_all(&self.block).map_err(ImageError::io("write a layer to", &scratch))?;
            self.block.clear();
            Ok(self)
        })
        .await
    }

    fn finish(self) -> (File, Digest) {
        (self.file, Digest::from_hash(self.hash))
    }
}

/// Ends the thread that unpacks when nobody waits for it any more.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Cancellable<R> {
    inner: R,
    cancelled: Arc<AtomicBool>,
}

impl<R: Read> Read for Cancellable<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for this pull any more"));
        }
        self.inner.read(buf)
    }
}

async fn unpack(store: &ImageStore, job: &Job, mut file: File, host: String) -> Result<(TempDir, u64), PullError> {
    let cancel = Cancel(Arc::default());
    let (scratch, cancelled, job) = (store.scratch_dir(), Arc::clone(&cancel.0), job.clone());
    let unpacked = on_blocking_thread(move || {
        file.rewind().map_err(ImageError::io("read a layer in", &scratch))?;
        // Dropped on any error, and with it all that was unpacked.
        let folder = tempfile::Builder::new()
            .prefix("layer-")
            .tempdir_in(&scratch)
            .map_err(ImageError::io("make a folder in", &scratch))?;
        let blob = Cancellable { inner: BufReader::with_capacity(READ_BUFFER_BYTES, file), cancelled };
        let done = unpack_blob(blob, folder.path())
            .map_err(|error| layer_error(Path::new(&job.image), job.diff_id, folder.path(), error))?;
        let (got, bytes) = done.unpacked;
        if got != job.diff_id {
            let what = format!("layer {} unpacked", job.blob.digest);
            return Err(PullError::digest(&host, what, job.diff_id, got));
        }
        Ok((folder, bytes))
    })
    .await;
    drop(cancel);
    unpacked
}

impl Staged {
    /// The folder and the bytes of its tar stream, for the one who asks first.
    pub(super) fn take(&self) -> Option<(TempDir, u64)> {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((folder, self.unpacked_bytes))
    }
}

impl Drop for Staged {
    /// Removing a large folder takes a while, which an async thread does not have.
    fn drop(&mut self) {
        let folder = self.folder.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(folder), Ok(runtime)) = (folder, tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(folder));
        }
    }
}
