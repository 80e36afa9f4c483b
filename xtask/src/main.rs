//! `cargo xtask VERB`: everything one does with this repository beyond
//! `cargo build`. The verbs are a closed set; each lives in the module of its name.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod command;
mod demo;
mod ebpf;
mod setup;
mod suite;
mod tally;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Set up, check, show and test Orlop")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find what this machine lacks for building and running Orlop, and install it.
    Setup(setup::Args),
    /// Formatting, lints, dependency policy and generated documents.
    Check(check::Args),
    /// Build the eBPF object alone and put it into a folder (for ORLOP_EBPF_DIR).
    Ebpf(ebpf::Args),
    /// Run a node beside this host, show it at work, take it down.
    Demo(demo::Args),
    /// Set up, then run every test of the workspace and print one total.
    Test(suite::Args),
    /// Measure release builds beside their peers and print ratios.
    Bench(bench::Args),
    /// Run kernel tests under another kernel, in a virtual machine.
    Vm(vm::Args),
}

fn run(verb: Verb) -> Result<bool> {
    match verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Ebpf(args) => ebpf::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => suite::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Vm(args) => vm::run(&args),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
