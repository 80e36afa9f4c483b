//! The user's terminal: raw while a process has it, its size, and always given
//! back as it was.

use crate::cli::exit::CliError;
use nix::errno::Errno;
use nix::libc;
use nix::pty::Winsize;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};

nix::ioctl_read_bad!(get_window_size, libc::TIOCGWINSZ, Winsize);
nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, Winsize);

/// How a terminal was; taken by whoever restores it first.
type Before = Arc<Mutex<Option<(OwnedFd, libc::termios)>>>;

/// A terminal in raw mode until this is dropped.
#[derive(Debug)]
pub struct RawMode(Before);

impl RawMode {
    /// Makes the terminal raw.
    ///
    /// # Errors
    /// The errno of `tcgetattr` or `tcsetattr`.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self, CliError> {
        let failed = |errno: Errno| CliError::Terminal { what: "put the terminal into raw mode", source: errno.into() };
        let attributes = tcgetattr(terminal).map_err(failed)?;
        let mut raw = attributes.clone();
        cfmakeraw(&mut raw);
        let copy = terminal
            .try_clone_to_owned()
            .map_err(|source| CliError::Terminal { what: "duplicate the terminal", source })?;
        let before: Before = Arc::new(Mutex::new(Some((copy, attributes.into()))));
        // Before the message of a panic, so that it can be read.
        let (in_panic, earlier) = (Arc::clone(&before), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            restore(&in_panic);
            earlier(info);
        }));
        let guard = Self(before);
        tcsetattr(terminal, SetArg::TCSADRAIN, &raw).map_err(failed)?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore(&self.0);
    }
}

fn restore(before: &Before) {
    if let Some((terminal, attributes)) = before.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Nobody to tell when it fails: the terminal is gone.
        let _ = tcsetattr(terminal, SetArg::TCSADRAIN, &Termios::from(attributes));
    }
}

/// Rows and columns of a terminal; `None` when it is none, or does not know.
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for the whole call and the kernel writes exactly one `winsize`,
    // which lives on this stack.
    let known = unsafe { get_window_size(terminal.as_raw_fd(), &mut size) }.is_ok();
    (known && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Gives `to` the size of the terminal `from`; nothing when that is no terminal.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both descriptors are open for the whole call and the kernel reads or writes exactly one `winsize`,
    // which lives on this stack.
    unsafe {
        if get_window_size(from.as_raw_fd(), &mut size).is_ok() {
            // A master whose process is gone refuses; its end is noticed by reading.
            let _ = set_window_size(to.as_raw_fd(), &size);
        }
    }
}

/// The signals that matter while a terminal is raw, read instead of delivered.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Holds them back from this thread, the only one.
    ///
    /// # Errors
    /// The errno of `signalfd` or `pthread_sigmask`.
    pub fn hold() -> Result<Self, CliError> {
        let failed = |errno: Errno| CliError::Terminal { what: "wait for signals", source: errno.into() };
        let held =
            SigSet::from_iter([Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT]);
        let fd = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        let before = SigSet::thread_get_mask().map_err(failed)?;
        held.thread_block().map_err(failed)?;
        Ok(Self { fd, before })
    }

    /// The next one that has come.
    pub fn next(&self) -> Option<Signal> {
        let info = self.fd.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}
