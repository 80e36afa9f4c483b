//! The agent at the other end of the Unix socket.

use super::exit::CliError;
use crate::api::{Request, Response};
use orlop_wire::frame::{self, FrameError};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an agent may think about a question, in milliseconds. It answers from
/// memory; one that is silent for so long is stuck.
const ANSWER_MS_MAX: u64 = 30_000;

/// Knows where the agent listens.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

/// One connection, on which one question was asked.
#[derive(Debug)]
pub struct Conversation<'a> {
    stream: UnixStream,
    socket: &'a Path,
}

impl Client {
    /// The agent that listens on `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks one question.
    ///
    /// # Errors
    /// The agent's own ([`CliError::Refused`]) or the connection's.
    pub fn ask(&self, request: &Request) -> Result<Response, CliError> {
        // Loading unpacks gigabytes; everything else is in memory.
        let limit = match request {
            Request::Load { .. } => None,
            _ => Some(Duration::from_millis(ANSWER_MS_MAX)),
        };
        Ok(self.open(request, &[])?.next(limit)?.0)
    }

    /// Asks a question that is answered more than once, descriptors with it.
    ///
    /// # Errors
    /// The connection's.
    pub fn open(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Conversation<'_>, CliError> {
        let unreachable = |source| CliError::Unreachable { socket: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).map_err(unreachable)?;
        frame::send(&stream, request, fds).map_err(|error| explain(&self.socket, error))?;
        Ok(Conversation { stream, socket: &self.socket })
    }
}

impl Conversation<'_> {
    /// The next answer and the descriptors that came with it; waits at most `limit`.
    ///
    /// # Errors
    /// The agent's own ([`CliError::Refused`]) or the connection's.
    pub fn next(&self, limit: Option<Duration>) -> Result<(Response, Vec<OwnedFd>), CliError> {
        self.stream
            .set_read_timeout(limit)
            .map_err(|source| CliError::Unreachable { socket: self.socket.to_path_buf(), source })?;
        match frame::receive(&self.stream).map_err(|error| explain(self.socket, error))? {
            (Response::Error(error), _) => Err(CliError::Refused { kind: error.kind, message: error.message }),
            answer => Ok(answer),
        }
    }

    /// For `poll`: readable when the next answer is there.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

fn explain(socket: &Path, error: FrameError) -> CliError {
    let socket = socket.to_path_buf();
    match error {
        FrameError::Closed | FrameError::Truncated => CliError::Gone { socket },
        FrameError::Io(error) if error.kind() == io::ErrorKind::WouldBlock => CliError::Unreachable {
            socket,
            source: io::Error::new(io::ErrorKind::TimedOut, format!("silent for {} s", ANSWER_MS_MAX / 1000)),
        },
        FrameError::Io(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            CliError::Gone { socket }
        }
        FrameError::Io(source) => CliError::Unreachable { socket, source },
        source @ (FrameError::TooLong(_) | FrameError::Json(_)) => CliError::Frame { socket, source },
    }
}
