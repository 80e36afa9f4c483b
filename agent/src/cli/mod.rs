//! The command line: asks the agent on its Unix socket and prints for people.
//!
//! ```text
//!   args ──▶ Request ──client──▶ agent
//!                                  │ Response
//!   ps images services counters    ▼
//!   describe node   ◀── views of api.rs ──▶ -o json|yaml
//!   logs   reads the files that LogView names, itself
//!   exec   hands over its own stdin, stdout and stderr, or relays a terminal
//! ```
//!
//! Nothing here needs an async runtime: one question, one answer, one thread.

mod agent;
mod args;
mod client;
mod counters;
mod describe;
mod event;
mod exec;
mod exit;
mod images;
mod join;
mod logs;
mod node;
mod output;
mod ps;
mod pull;
mod quantity;
mod service_args;
mod services;
mod since;
mod streams;
mod table;
mod tables;
#[cfg(test)]
mod tests;

pub use agent::{AgentArgs, LogFormat};
pub use join::JoinArgs;
pub use service_args::ServiceArgs;

use crate::api::{Request, Response};
use args::{Cli, CompletionShell, Verb};
use clap::{CommandFactory, Parser};
use client::Client;
use exit::CliError;
use jiff::Timestamp;
use std::process::ExitCode;
use streams::Streams;

/// Parses the process's arguments, does what they say, and reports to stderr what
/// went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let streams = match Streams::inherited() {
        Ok(streams) => streams,
        Err(error) => {
            eprintln!("error: duplicate the standard streams: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    ExitCode::from(finish(cli, &streams))
}

fn finish(cli: Cli, streams: &Streams) -> u8 {
    run(cli, streams).unwrap_or_else(|error| {
        if let Some(report) = error.report() {
            streams.note(&report);
        }
        error.code()
    })
}

fn run(cli: Cli, streams: &Streams) -> Result<u8, CliError> {
    let client = Client::new(cli.socket);
    let now = Timestamp::now();
    match cli.verb {
        Verb::Agent(args) => crate::run_agent(*args).map_err(CliError::Agent)?,
        Verb::Join(args) => crate::join(*args).map_err(CliError::Agent)?,
        Verb::Reset(args) => crate::reset(*args).map_err(CliError::Agent)?,
        Verb::Ps(args) => ps::run(&client, streams, &args, now)?,
        Verb::Logs(args) => logs::run(&client, streams, &args, now)?,
        Verb::Exec(args) => return exec::run(&client, streams, &args),
        Verb::Describe(args) => describe::run(&client, streams, &args, now)?,
        Verb::Images(args) => images::list(&client, streams, &args, now)?,
        Verb::Pull(args) => pull::run(&client, streams, &args)?,
        Verb::Load(args) => images::load(&client, streams, &args, now)?,
        Verb::Services(args) => services::run(&client, streams, &args, now)?,
        Verb::Tables(args) => tables::run(&client, streams, &args)?,
        Verb::Counters(args) => counters::run(&client, streams, &args)?,
        Verb::Node(args) => node::run(&client, streams, &args, now)?,
        Verb::Completions { shell } => complete(streams, shell)?,
        Verb::Version => version(&client, streams)?,
    }
    Ok(exit::OK)
}

fn complete(streams: &Streams, shell: CompletionShell) -> Result<(), CliError> {
    let shell = match shell {
        CompletionShell::Bash => clap_complete::Shell::Bash,
        CompletionShell::Zsh => clap_complete::Shell::Zsh,
        CompletionShell::Fish => clap_complete::Shell::Fish,
    };
    // Into memory first: `generate` panics when its stream fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "orlop", &mut script);
    Ok(streams.print(|out| out.write_all(&script))?)
}

fn version(client: &Client, streams: &Streams) -> Result<(), CliError> {
    let agent = match client.ask(&Request::Node) {
        Ok(Response::Node(node)) => format!("{} (node {})", node.version, node.name),
        Ok(_) => return Err(CliError::Unexpected),
        Err(error) if error.code() == exit::NO_AGENT => format!("does not answer on {}", client.socket().display()),
        Err(error) => return Err(error),
    };
    Ok(streams.print(|out| writeln!(out, "orlop  {}\nagent  {agent}", env!("CARGO_PKG_VERSION")))?)
}

/// The flags of `orlop agent`, for tests of what becomes of them.
#[cfg(test)]
pub(crate) fn agent_args(args: &[String]) -> AgentArgs {
    let words = ["orlop", "agent"].map(str::to_owned).into_iter().chain(args.iter().cloned());
    match Cli::try_parse_from(words).expect("flags of the agent").verb {
        Verb::Agent(args) => *args,
        verb => unreachable!("{verb:?}"),
    }
}

/// The flags of `orlop join` with the ones that it cannot do without.
#[cfg(test)]
pub(crate) fn join_args(args: &[&str]) -> JoinArgs {
    let hash = format!("--discovery-token-ca-cert-hash=sha256:{}", "0".repeat(64));
    let needed = ["orlop", "join", "192.0.2.1:6443", "--token", "abcdef.0123456789abcdef", &hash];
    match Cli::try_parse_from(needed.iter().chain(args)).expect("flags of join").verb {
        Verb::Join(args) => *args,
        verb => unreachable!("{verb:?}"),
    }
}
