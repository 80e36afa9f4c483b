//! What can go wrong between the agent and a container.

use orlop_wire::frame::FrameError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One variant an operation, its operands inside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A value that cannot be read or written as JSON.
    #[error("{what}")]
    Json {
        /// Which.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The monitor program cannot be run.
    #[error("start {}", program.display())]
    Spawn {
        /// Which.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The monitor could not make the sandbox.
    #[error("make sandbox {}: {message}", dir.display())]
    Sandbox {
        /// Its folder.
        dir: PathBuf,
        /// The monitor's own words.
        message: String,
    },
    /// Nobody listens on the monitor's socket.
    #[error("connect to the monitor of {}", dir.display())]
    Connect {
        /// Its folder.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The monitor is newer than this agent.
    #[error("the monitor of {} speaks protocol {theirs}, this agent {ours}", dir.display())]
    Protocol {
        /// Its folder.
        dir: PathBuf,
        /// Its version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// A frame could not be sent.
    #[error("send to the monitor of {}", dir.display())]
    Frame {
        /// Its folder.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: FrameError,
    },
    /// No answer in time. What was asked may still happen.
    #[error("the monitor of {} did not answer {call} within {after:?}", dir.display())]
    Late {
        /// Its folder.
        dir: PathBuf,
        /// The call.
        call: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The connection has ended.
    #[error("the monitor of {} has gone", dir.display())]
    Gone {
        /// Its folder.
        dir: PathBuf,
    },
    /// The monitor refused, in its own words.
    #[error("{call}: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// Why not.
        message: String,
    },
    /// An answer to another question.
    #[error("the monitor of {} gave an unexpected answer to {call}", dir.display())]
    Unexpected {
        /// Its folder.
        dir: PathBuf,
        /// The call.
        call: &'static str,
    },
    /// A container cannot be described to the kernel: the kubelet's
    /// `CreateContainerConfigError`.
    #[error("{0}")]
    Config(String),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { action, path, source }
    }
}
