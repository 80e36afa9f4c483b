//! Where a command reads and writes, so that a test can give it pipes and terminals.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

/// Standard input, output and error.
#[derive(Debug)]
pub struct Streams {
    /// Read from, with `exec -i` only.
    pub stdin: File,
    /// Answers.
    pub stdout: File,
    /// Notes and errors.
    pub stderr: File,
}

impl Streams {
    /// The process's own.
    ///
    /// # Errors
    /// The errno of `dup`.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self {
            stdin: io::stdin().as_fd().try_clone_to_owned()?.into(),
            stdout: io::stdout().as_fd().try_clone_to_owned()?.into(),
            stderr: io::stderr().as_fd().try_clone_to_owned()?.into(),
        })
    }

    /// Calls `write` with a buffer in front of stdout, and flushes it.
    ///
    /// # Errors
    /// What `write` returns, or the flush.
    pub fn print(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = BufWriter::new(&self.stdout);
        write(&mut out)?;
        out.flush()
    }

    /// A line on stderr; that nobody reads it is no error.
    pub fn note(&self, text: &str) {
        let _ = writeln!(&self.stderr, "{text}");
    }
}
