//! inotify(7) for async callers.

use crate::KernelError;
use nix::sys::inotify::{InitFlags, Inotify};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A non-blocking inotify instance that can be waited for. What it watches and
/// reads is nix's, by dereference.
#[derive(Debug)]
pub struct AsyncInotify {
    inotify: Inotify,
    /// The same, to wait for.
    readable: AsyncFd<OwnedFd>,
}

impl AsyncInotify {
    /// Watches nothing yet. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// The user's instances are used up (`fs.inotify.max_user_instances`).
    pub fn new() -> Result<Self, KernelError> {
        let failed = |source| KernelError::Inotify { source };
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| failed(io::Error::from(errno)))?;
        let copy = inotify.as_fd().try_clone_to_owned().map_err(failed)?;
        // SAFETY: the AsyncFd owns the descriptor and keeps it until it is dropped.
        let readable = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) };
        let readable = readable.map_err(|error| failed(error.into()))?;
        Ok(Self { inotify, readable })
    }

    /// Waits until events can be read, at most so long.
    pub async fn wait(&self, at_most: Duration) {
        if let Ok(Ok(mut ready)) = tokio::time::timeout(at_most, self.readable.readable()).await {
            ready.clear_ready();
        }
    }
}

impl Deref for AsyncInotify {
    type Target = Inotify;
    fn deref(&self) -> &Inotify {
        &self.inotify
    }
}
