//! Why a command ended, and the exit code that says so.

use crate::api::ErrorKind;
use orlop_wire::frame::FrameError;
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Done.
pub const OK: u8 = 0;
/// It was tried and failed.
pub const FAILED: u8 = 1;
/// The command line makes no sense; clap's own code.
pub const USAGE: u8 = 2;
/// The pod, container or image does not exist.
pub const NOT_FOUND: u8 = 3;
/// Nobody answers on the socket.
pub const NO_AGENT: u8 = 4;
/// What a shell sees of a tool that SIGPIPE killed.
pub const BROKEN_PIPE: u8 = 141;

/// The one table of exit codes; the help is made from it.
const TABLE: &[(u8, &str)] = &[
    (OK, "done"),
    (FAILED, "tried and failed"),
    (USAGE, "the command line makes no sense"),
    (NOT_FOUND, "no such pod, container or image"),
    (NO_AGENT, "the agent does not answer"),
    (BROKEN_PIPE, "nobody reads the output any more"),
];

/// The table as a section of the help.
pub fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in TABLE {
        text.push_str(&format!("  {code:>3}  {meaning}\n"));
    }
    text.push_str("  exec ends with the code of the process, or 128 plus the signal that ended it.\n");
    text
}

/// What can go wrong with a command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The agent said no.
    #[error("{message}")]
    Refused {
        /// Decides the exit code.
        kind: ErrorKind,
        /// The agent's words.
        message: String,
    },
    /// Nobody listens on the socket.
    #[error("the agent does not answer on {}", socket.display())]
    Unreachable {
        /// Which socket.
        socket: PathBuf,
        /// The errno of `connect`, `sendmsg` or `recvmsg`.
        #[source]
        source: io::Error,
    },
    /// The agent closed the connection before it had answered.
    #[error("the agent on {} went away before it had answered", socket.display())]
    Gone {
        /// Which socket.
        socket: PathBuf,
    },
    /// The answer cannot be read.
    #[error("talk to the agent on {}", socket.display())]
    Frame {
        /// Which socket.
        socket: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FrameError,
    },
    /// The answer belongs to another question.
    #[error("the agent answered something else than was asked")]
    Unexpected,
    /// The output cannot be written.
    #[error("write the output")]
    Output(#[source] io::Error),
    /// The answer cannot be shown as asked.
    #[error("write the output as {format}")]
    Encode {
        /// `JSON` or `YAML`.
        format: &'static str,
        /// The serializer's words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A log cannot be read.
    #[error("read {}", path.display())]
    Log {
        /// The file or folder.
        path: PathBuf,
        /// Its errno.
        #[source]
        source: io::Error,
    },
    /// The terminal does not do as told.
    #[error("{what}")]
    Terminal {
        /// What was tried.
        what: &'static str,
        /// Its errno.
        #[source]
        source: io::Error,
    },
    /// The agent could not run.
    #[error("{0:#}")]
    Agent(anyhow::Error),
}

impl CliError {
    /// The exit code, from the table above.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Refused { kind: ErrorKind::Invalid, .. } => USAGE,
            Self::Refused { kind: ErrorKind::NotFound, .. } => NOT_FOUND,
            Self::Unreachable { .. } | Self::Gone { .. } => NO_AGENT,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE,
            Self::Refused { kind: ErrorKind::Failed, .. }
            | Self::Frame { .. }
            | Self::Unexpected
            | Self::Output(_)
            | Self::Encode { .. }
            | Self::Log { .. }
            | Self::Terminal { .. }
            | Self::Agent(_) => FAILED,
        }
    }

    /// The error with its causes and what to do next; `None` when silence is right.
    pub fn report(&self) -> Option<String> {
        if self.code() == BROKEN_PIPE {
            return None;
        }
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            text.push('\n');
            text.push_str(hint);
        }
        Some(text)
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("Only root may use the socket: try again with sudo.")
            }
            Self::Unreachable { .. } => {
                Some("Is the agent running? systemctl status orlop; another node: --socket PATH or ORLOP_SOCKET.")
            }
            Self::Gone { .. } => Some("Was it restarted? systemctl status orlop; journalctl -u orlop. Then try again."),
            Self::Frame { .. } | Self::Unexpected => {
                Some("Are this command and the agent of the same version? orlop version.")
            }
            _ => None,
        }
    }
}

/// A write to the output that failed.
impl From<io::Error> for CliError {
    fn from(source: io::Error) -> Self {
        Self::Output(source)
    }
}
