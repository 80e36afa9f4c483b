//! `test`: set-up, then every test of the workspace, then one total.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::command::{cargo, run as run_command, shown};
use crate::setup;
use crate::tally::Tally;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Handed to `cargo test` as they are, such as a part of a test's name or `-p CRATE`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the suite; `Ok(false)` when a test failed or a test program did not come to its end.
pub fn run(args: &Args) -> Result<bool> {
    setup::ensure()?;
    // The eBPF programs are no program of the host; what tests them loads their object.
    let whole = ["--workspace", "--exclude", "orlop-ebpf"];
    // The integration tests run the programs, and `cargo test` builds only those whose
    // own package has tests. The same packages as below, so that nothing is built twice.
    let mut build = cargo();
    build.args(["build", "--bins"]).args(whole);
    run_command(&mut build)?;
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    if !args.arguments.iter().any(|argument| argument == "-p" || argument.starts_with("--package")) {
        command.args(whole);
    }
    command.args(&args.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    println!("  $ {}", shown(&command));
    let mut child = command.spawn().context("start cargo test")?;
    let mut tally = Tally::default();
    let output = child.stdout.take().context("cargo test has no stdout")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    let status = child.wait().context("wait for cargo test")?;
    println!();
    for name in &tally.failures {
        println!("failed: {name}");
    }
    if !status.success() && tally.failed == 0 {
        println!("a test program did not build or did not come to its end; see above");
        tally.failed = 1;
    }
    println!("{}", tally.line());
    Ok(status.success() && tally.failed == 0 && tally.passed > 0)
}
