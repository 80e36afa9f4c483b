//! `orlop`: the node's agent and the command line that asks it.

mod api;
mod cli;
mod cluster;
mod config;
mod counters;
mod events;
mod health;
mod identity;
mod join;
mod manifest;
mod node;
mod nodes;
mod pod;
mod reset;
mod run;
mod server;
mod services;
mod socket;
mod upkeep;
mod uplinks;

use join::join;
use reset::reset;
use run::run_agent;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
