//! Sleeps until a log's folder changes.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Why it woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something happened in the folder.
    Changed,
    /// Nothing did, for as long as was asked.
    Quiet,
    /// The reader of our own output is gone.
    Unread,
}

/// An inotify watch on a folder that may not exist yet.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    dir: PathBuf,
    watching: bool,
}

impl Watch {
    /// Watches the folder.
    ///
    /// # Errors
    /// The errno of inotify, for example its limit of instances.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut watch = Self { inotify, dir: dir.into(), watching: false };
        watch.start()?;
        Ok(watch)
    }

    /// Begins as soon as the folder exists. True when it did so now, so that what
    /// is in it was not seen before.
    fn start(&mut self) -> io::Result<bool> {
        if self.watching {
            return Ok(false);
        }
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(&self.dir, flags) {
            Ok(_) => self.watching = true,
            Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Sleeps until the folder changes or `output` has lost its reader, at most
    /// `ms` milliseconds.
    pub fn wait(&mut self, output: BorrowedFd<'_>, ms: u16) -> io::Result<Wake> {
        if self.start()? {
            return Ok(Wake::Changed);
        }
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN), PollFd::new(output, PollFlags::empty())];
        match poll(&mut fds, PollTimeout::from(ms)) {
            Ok(0) => return Ok(Wake::Quiet),
            // Woken without a reason that matters; the caller looks again.
            Err(Errno::EINTR) => return Ok(Wake::Changed),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[1].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)) {
            return Ok(Wake::Unread);
        }
        match self.inotify.read_events() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(Wake::Changed),
            Err(error) => Err(error.into()),
        }
    }
}
