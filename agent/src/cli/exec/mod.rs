//! `orlop exec`: the process gets pipes, or a terminal of its own; both are relayed.

mod pipes;
mod relay;
mod terminal;

use super::args::ExecArgs;
use super::client::{Client, Conversation};
use super::exit::CliError;
use super::streams::Streams;
use crate::api::{Request, Response};
use pipes::Pipes;
use relay::Relay;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use terminal::Signals;
pub use terminal::{RawMode, window_size};

/// How long a process may take to start, in milliseconds; libcontainer needs 7.
const START_MS_MAX: u64 = 30_000;

/// Runs a process in a container; its exit code.
pub fn run(client: &Client, streams: &Streams, args: &ExecArgs) -> Result<u8, CliError> {
    let request = Request::Exec {
        pod: args.pod.resolve()?,
        container: args.container.clone(),
        command: args.command.clone(),
        tty: args.tty,
    };
    let code = match args.tty {
        true => with_terminal(client, streams, &request, args.stdin)?,
        false => with_streams(client, streams, &request, args.stdin)?,
    };
    // The kernel gives a process's parent these eight bits and no more.
    Ok((code & 0xff) as u8)
}

fn with_streams(client: &Client, streams: &Streams, request: &Request, stdin: bool) -> Result<i32, CliError> {
    let (pipes, ends) = Pipes::new(streams, stdin)?;
    let conversation = client.open(request, &ends.each_ref().map(AsFd::as_fd))?;
    // The process's copies are the only ones from here on: their end is its end.
    drop(ends);
    started(&conversation)?;
    pipes.carry(streams, &conversation)
}

fn with_terminal(client: &Client, streams: &Streams, request: &Request, stdin: bool) -> Result<i32, CliError> {
    let conversation = client.open(request, &[])?;
    let master = started(&conversation)?.into_iter().next().ok_or(CliError::Unexpected)?;
    let signals = Signals::hold()?;
    let _raw = match stdin && streams.stdin.is_terminal() {
        true => Some(RawMode::enter(streams.stdin.as_fd())?),
        false => None,
    };
    Relay::new(streams, &conversation, &signals, master, stdin)?.run()
}

fn started(conversation: &Conversation<'_>) -> Result<Vec<OwnedFd>, CliError> {
    match conversation.next(Some(Duration::from_millis(START_MS_MAX)))? {
        (Response::ExecStarted, fds) => Ok(fds),
        _ => Err(CliError::Unexpected),
    }
}
