//! Processes by descriptor: a signal or a wait can never reach a stranger that
//! was given the same pid.

use crate::KernelError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An open process.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
    pid: i32,
}

impl Pidfd {
    /// Opens a process by its pid. To be sure it is the one that is meant, compare
    /// its start time after this.
    ///
    /// # Errors
    /// ESRCH when there is none.
    pub fn open(pid: i32) -> Result<Self, KernelError> {
        // SAFETY: pidfd_open takes two integers and gives a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(KernelError::Pidfd { what: "open a pidfd of", pid, source: io::Error::last_os_error() });
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it. Descriptors fit in 32 bits.
        #[allow(clippy::cast_possible_truncation)]
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Self { fd, pid })
    }

    /// The pid it was opened by.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal; a process that has ended is fine.
    ///
    /// # Errors
    /// EPERM.
    pub fn signal(&self, signal: Signal) -> Result<(), KernelError> {
        let none: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: the descriptor is open; a null siginfo asks for what kill(2) would send.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal as libc::c_int, none, 0) };
        let error = io::Error::last_os_error();
        if sent == 0 || error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(KernelError::Pidfd { what: "signal", pid: self.pid, source: error })
    }

    /// Waits until the process has ended. Reaps nothing. Cancel-safe.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub async fn wait(&self) -> Result<(), KernelError> {
        let failed = |source| KernelError::Pidfd { what: "wait for", pid: self.pid, source };
        // SAFETY: the borrowed descriptor stays open for as long as `self` is borrowed, which is longer than
        // `watched` lives, and nothing swaps it meanwhile.
        let watched = unsafe { AsyncFd::register_with_interest(self.fd.as_fd(), Interest::READABLE) };
        let watched = watched.map_err(|error| failed(error.into()))?;
        watched.readable().await.map_err(failed).map(drop)
    }

    /// Blocks until the process has ended or the time is up; true when it has ended.
    ///
    /// # Errors
    /// `poll(2)`'s.
    pub fn wait_blocking(&self, at_most: Duration) -> Result<bool, KernelError> {
        let millis = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, millis) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::Error::EINTR) => Ok(false),
            Err(errno) => Err(KernelError::Pidfd { what: "wait for", pid: self.pid, source: errno.into() }),
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
