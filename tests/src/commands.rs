//! `orlop` on the command line.

use crate::World;
use std::process::{Child, Command, Stdio};

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 plus the signal that ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Its standard output without the last line end, if it ended with 0.
    ///
    /// # Panics
    /// It ended with another code.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// As [`Output::ok`] for a command that has to fail with `code`: its standard error.
    ///
    /// # Panics
    /// It ended with another code.
    #[must_use]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stderr
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl World {
    /// The command `orlop ARGS`, asking this node.
    #[must_use]
    pub fn orlop_command(&self, args: &[&str]) -> Command {
        let mut command = self.node_command(self.binary("orlop"));
        command.arg("--socket").arg(self.socket()).args(args).stdin(Stdio::null());
        command
    }

    /// Runs `orlop ARGS`, asking this node, with an empty stdin.
    #[must_use]
    pub fn orlop(&self, args: &[&str]) -> Output {
        Output::of(&mut self.orlop_command(args))
    }

    /// Runs `orlop exec POD -- sh -c SCRIPT`.
    #[must_use]
    pub fn sh(&self, pod: &str, script: &str) -> Output {
        self.orlop(&["exec", pod, "--", "sh", "-c", script])
    }

    /// As [`World::sh`] in a container of several.
    #[must_use]
    pub fn sh_in(&self, pod: &str, container: &str, script: &str) -> Output {
        self.orlop(&["exec", pod, "-c", container, "--", "sh", "-c", script])
    }

    /// Starts `orlop ARGS` with pipes for stdin, stdout and stderr.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn orlop_child(&self, args: &[&str]) -> Child {
        let mut command = self.orlop_command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("start orlop")
    }
}
