//! The three pipes between this command and a process without a terminal.
//!
//! The process never gets this command's own streams: through `/proc/self/fd` it
//! could open what is behind them anew, a file for writing at its start, or the
//! user's terminal for reading.

use crate::api::Response;
use crate::cli::client::Conversation;
use crate::cli::exit::CliError;
use crate::cli::streams::Streams;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Taken from a pipe at once, in bytes; a pipe holds as much by default.
const CHUNK_BYTES: usize = 64 << 10;

/// Delivered from one pipe before the other has its turn, in bytes; more than a pipe holds.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// This command's ends.
pub struct Pipes {
    stdout: Option<File>,
    stderr: Option<File>,
}

/// The process's ends: stdin, stdout and stderr.
pub type ProcessEnds = [OwnedFd; 3];

impl Pipes {
    /// Makes the pipes. With `stdin` the user's input is carried from now on, by a
    /// thread that ends with this command: it may wait for a line that never comes.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub fn new(streams: &Streams, stdin: bool) -> Result<(Self, ProcessEnds), CliError> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(failed("make a pipe for the command"));
        let input = if stdin {
            let (process, own) = pipe()?;
            let mut user = streams.stdin.try_clone().map_err(|error| failed("use stdin")(error))?;
            // An error is the process's stdin closing, which is its right.
            std::thread::spawn(move || io::copy(&mut user, &mut File::from(own)));
            process
        } else {
            File::open("/dev/null").map_err(|error| failed("open /dev/null as the command's stdin")(error))?.into()
        };
        let (stdout, process_stdout) = pipe()?;
        let (stderr, process_stderr) = pipe()?;
        for own in [&stdout, &stderr] {
            fcntl(own, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed("read the command's output"))?;
        }
        let own = Self { stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
        Ok((own, [input, process_stdout, process_stderr]))
    }

    /// Carries the process's output until it has ended; its exit code. What it wrote
    /// before its end is all delivered; what children that it leaves behind write
    /// later is not waited for.
    ///
    /// # Errors
    /// The conversation broke, or nobody reads the output.
    pub fn carry(mut self, streams: &Streams, conversation: &Conversation<'_>) -> Result<i32, CliError> {
        loop {
            let ended = self.wait(conversation)?;
            let answer = if ended { Some(conversation.next(None)?.0) } else { None };
            drain(&mut self.stdout, &streams.stdout)?;
            drain(&mut self.stderr, &streams.stderr)?;
            match answer {
                None => {}
                Some(Response::ExecExited { code }) => return Ok(code),
                Some(_) => return Err(CliError::Unexpected),
            }
        }
    }

    /// Waits for output or an answer; `true` when there is an answer.
    fn wait(&self, conversation: &Conversation<'_>) -> Result<bool, CliError> {
        let mut fds = vec![PollFd::new(conversation.stream().as_fd(), PollFlags::POLLIN)];
        let own = [&self.stdout, &self.stderr];
        fds.extend(own.into_iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed("wait for the command")(error)),
        }
        Ok(fds[0].any().unwrap_or(false))
    }
}

/// Delivers what is in a pipe now, a megabyte at most: children that the process
/// leaves behind could write for ever.
fn drain(pipe: &mut Option<File>, mut to: &File) -> Result<(), CliError> {
    let (mut bytes, mut delivered) = (vec![0; CHUNK_BYTES], 0);
    while let Some(from) = pipe.as_mut().filter(|_| delivered < DRAIN_BYTES_MAX) {
        match from.read(&mut bytes) {
            Ok(0) => *pipe = None,
            Ok(length) => {
                to.write_all(&bytes[..length]).map_err(CliError::Output)?;
                delivered += length;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read the command's output")(error)),
        }
    }
    Ok(())
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> CliError {
    move |error| CliError::Terminal { what, source: error.into() }
}
