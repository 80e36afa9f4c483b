//! Carries bytes between the user's terminal and a process's.

use super::terminal::{Signals, copy_size};
use crate::api::Response;
use crate::cli::client::Conversation;
use crate::cli::exit::CliError;
use crate::cli::streams::Streams;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Taken from the user's stdin at once, in bytes, and only after the last were delivered.
const CHUNK_BYTES: usize = 16 << 10;
/// What an ended process may have left in its terminal, in bytes; its background
/// children could write for ever.
const LEFT_BYTES_MAX: usize = 1 << 20;
/// End of file, as a terminal's line discipline takes it (VEOF, Ctrl-D).
const END_OF_FILE: u8 = 4;

/// A process's terminal and the user's streams.
pub struct Relay<'a> {
    streams: &'a Streams,
    conversation: &'a Conversation<'a>,
    signals: &'a Signals,
    /// `None` once all that was written to it has been read.
    master: Option<File>,
    /// Whether the user's stdin is (still) read.
    reading: bool,
    /// On its way to the process.
    outgoing: Vec<u8>,
    /// The last byte that the user sent.
    last: u8,
}

/// What `poll` said.
#[derive(Debug, Clone, Copy, Default)]
struct Ready {
    agent: bool,
    signal: bool,
    stdin: bool,
    master_in: bool,
    master_out: bool,
}

impl<'a> Relay<'a> {
    /// Ready to carry; `reading` is `-i`.
    ///
    /// # Errors
    /// The errno of `fcntl`.
    pub fn new(
        streams: &'a Streams,
        conversation: &'a Conversation<'a>,
        signals: &'a Signals,
        master: OwnedFd,
        reading: bool,
    ) -> Result<Self, CliError> {
        // A write must not wait for a process that does not read: its output would wait too.
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR)).map_err(failed)?;
        let (outgoing, last) = (Vec::new(), b'\n');
        Ok(Self { streams, conversation, signals, master: Some(master.into()), reading, outgoing, last })
    }

    /// Carries until the process has ended and its output is out; its exit code,
    /// or 128 plus the signal that ended this command.
    pub fn run(mut self) -> Result<i32, CliError> {
        self.resize();
        loop {
            let ready = self.wait(PollTimeout::NONE)?;
            if ready.signal
                && let Some(signal) = self.take_signals()
            {
                return Ok(128 + signal as i32);
            }
            if ready.master_in {
                self.read_process()?;
            }
            if ready.stdin {
                self.read_user()?;
            }
            if ready.master_out || (ready.stdin && !self.outgoing.is_empty()) {
                self.write_process()?;
            }
            if ready.agent {
                let (response, _) = self.conversation.next(None)?;
                let Response::ExecExited { code } = response else { return Err(CliError::Unexpected) };
                self.leftovers()?;
                return Ok(code);
            }
        }
    }

    fn wait(&self, timeout: PollTimeout) -> Result<Ready, CliError> {
        let mut fds = vec![
            PollFd::new(self.conversation.stream().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let (mut stdin_at, mut master_at) = (None, None);
        if self.reading && self.outgoing.is_empty() && self.master.is_some() {
            stdin_at = Some(fds.len());
            fds.push(PollFd::new(self.streams.stdin.as_fd(), PollFlags::POLLIN));
        }
        if let Some(master) = &self.master {
            let out = if self.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            master_at = Some(fds.len());
            fds.push(PollFd::new(master.as_fd(), PollFlags::POLLIN | out));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
        // POLLHUP and POLLERR, which are not asked for, are learnt by reading.
        let any = |at: usize| fds[at].revents().is_some_and(|events| events.intersects(!PollFlags::POLLOUT));
        let out = |at: usize| fds[at].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT));
        Ok(Ready {
            agent: any(0),
            signal: any(1),
            stdin: stdin_at.is_some_and(any),
            master_in: master_at.is_some_and(any),
            master_out: master_at.is_some_and(out),
        })
    }

    /// The signal that ends this command, if one has come.
    fn take_signals(&self) -> Option<Signal> {
        while let Some(signal) = self.signals.next() {
            if signal != Signal::SIGWINCH {
                return Some(signal);
            }
            self.resize();
        }
        None
    }

    fn resize(&self) {
        if let Some(master) = &self.master {
            copy_size(self.streams.stdin.as_fd(), master.as_fd());
        }
    }

    /// Returns how many bytes came.
    fn read_process(&mut self) -> Result<usize, CliError> {
        let Some(mut master) = self.master.as_ref() else { return Ok(0) };
        let mut bytes = [0; CHUNK_BYTES];
        match master.read(&mut bytes) {
            Ok(0) => self.master = None,
            // Nobody has the other side open any more.
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => self.master = None,
            Err(error) if is_transient(&error) => {}
            Err(source) => return Err(CliError::Terminal { what: "read from the process's terminal", source }),
            Ok(count) => {
                (&self.streams.stdout).write_all(&bytes[..count])?;
                return Ok(count);
            }
        }
        Ok(0)
    }

    fn read_user(&mut self) -> Result<(), CliError> {
        let mut bytes = [0; CHUNK_BYTES];
        match (&self.streams.stdin).read(&mut bytes) {
            Ok(0) => {
                self.reading = false;
                // In the middle of a line the first one only delivers the line so far.
                self.outgoing = if self.last == b'\n' { vec![END_OF_FILE] } else { vec![END_OF_FILE; 2] };
            }
            Ok(count) => {
                self.outgoing.extend_from_slice(&bytes[..count]);
                self.last = bytes[count - 1];
            }
            Err(error) if is_transient(&error) => {}
            Err(source) => return Err(CliError::Terminal { what: "read from stdin", source }),
        }
        Ok(())
    }

    fn write_process(&mut self) -> Result<(), CliError> {
        let Some(mut master) = self.master.as_ref() else { return Ok(()) };
        match master.write(&self.outgoing) {
            Ok(count) => drop(self.outgoing.drain(..count)),
            Err(error) if is_transient(&error) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => self.outgoing.clear(),
            Err(source) => return Err(CliError::Terminal { what: "write to the process's terminal", source }),
        }
        Ok(())
    }

    /// What the process wrote last.
    fn leftovers(&mut self) -> Result<(), CliError> {
        let mut carried = 0;
        while self.master.is_some() && carried < LEFT_BYTES_MAX {
            match self.read_process()? {
                0 => break,
                count => carried += count,
            }
        }
        Ok(())
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn failed(errno: Errno) -> CliError {
    CliError::Terminal { what: "relay the terminal", source: errno.into() }
}
