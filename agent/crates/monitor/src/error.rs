//! What can go wrong in a monitor.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

/// One variant an operation, its operands inside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried, in the infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A system call without a path.
    #[error("{0}")]
    Call(&'static str, #[source] io::Error),
    /// A file with JSON in it.
    #[error("read {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The OCI bundle.
    #[error("bundle {} {problem}", path.display())]
    Bundle {
        /// The bundle.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// libcontainer could not create or start it.
    #[error("{0}")]
    Libcontainer(String),
    /// The command could not be executed.
    #[error("{message}")]
    Command {
        /// In runc's words.
        message: String,
        /// 127 when there is no such file, 126 when it may not be executed.
        code: i32,
    },
    /// A request that cannot be met.
    #[error("{0}")]
    Request(String),
}

impl Error {
    /// For `map_err` on a file operation.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err` on a system call.
    pub fn call<E: Into<io::Error>>(name: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Call(name, source.into())
    }
}

/// The error and its sources in one line, joined by ": ". A source whose text the
/// line already ends with is not said twice.
pub fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = source.source();
    }
    line
}
