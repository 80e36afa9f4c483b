//! `bench`: builds everything in release and runs `orlop-bench` (in `tests/src/bin`),
//! which starts nodes of its own and measures them beside their peers. The bench `packets` is a
//! test of `orlop-datapath`, which runs the eBPF programs one by one.

use std::env;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::command::{cargo, run as run_command, shown, target_dir};
use crate::setup;

/// The bench that is a test. Named, it writes its tables into `ebpf/README.md`; else it prints them.
const PACKETS: &str = "packets";

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Which benches; all without a name.
    names: Vec<String>,
    /// Write every figure to a file: {name, value, unit, peer, peer_value, ratio, goal, holds}.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take at most three minutes.
    #[arg(long)]
    quick: bool,
    /// Measure Services with these numbers of them, apart by commas, instead of 1, 1,000, 10,000 and 50,000.
    #[arg(long, value_name = "N,N")]
    services: Option<String>,
    /// Name the benches.
    #[arg(long)]
    list: bool,
}

/// Runs the benches; `Ok(false)` when something could not be measured. A goal that is
/// missed is printed, not a failure.
pub fn run(args: &Args) -> Result<bool> {
    setup::ensure()?;
    let named = args.names.iter().any(|name| name == PACKETS);
    if !args.list && (named || args.names.is_empty()) {
        let mut test = cargo();
        test.args(["test", "-p", "orlop-datapath", "--test", "timing", "--", "--nocapture"]);
        run_command(test.env(if named { "ORLOP_BLESS_TIMES" } else { "ORLOP_TIMES" }, "1"))?;
    }
    let others: Vec<&String> = args.names.iter().filter(|name| *name != PACKETS).collect();
    if named && others.is_empty() {
        return Ok(true);
    }
    let mut build = cargo();
    build.args(["build", "--release", "-p", "orlop", "-p", "orlop-monitor", "-p", "orlop-tests", "--bins"]);
    run_command(&mut build)?;
    let mut bench = std::process::Command::new(target_dir().join("release").join("orlop-bench"));
    bench.args(&others).stdin(Stdio::null());
    if args.quick {
        bench.arg("--quick");
    }
    if let Some(numbers) = &args.services {
        bench.arg("--services").arg(numbers);
    }
    if args.list {
        println!(
            "{PACKETS:12} each eBPF program on each way of a packet, in nanoseconds; named, it writes ebpf/README.md"
        );
        bench.arg("--list");
    }
    if let Some(file) = &args.json {
        bench.arg("--json").arg(env::current_dir().context("find the current folder")?.join(file));
    }
    println!("  $ {}", shown(&bench));
    let status = bench.status().with_context(|| format!("start `{}`", shown(&bench)))?;
    Ok(status.success())
}
