//! `check`: everything a change has to pass beside the tests. All of it runs, even
//! when an early part fails, so that one run tells everything.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{ask, cargo, run as run_command, top};
use crate::setup;

/// The version whose configuration `deny.toml` is written for.
const DENY_VERSION: &str = "0.20.2";
/// What lies visibly at the top; anything else belongs into one of these.
const TOP: [&str; 10] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "agent",
    "cni",
    "ebpf",
    "tests",
];
/// Configuration that the tools want to find at the top.
const TOP_FOR_TOOLS: [&str; 3] = ["deny.toml", "rustfmt.toml", "xtask"];

/// Options of `cargo xtask check`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out cargo-deny, which takes minutes to build where it is missing.
    #[arg(long)]
    no_deny: bool,
}

/// Runs all checks; `Ok(false)` when one failed.
pub fn run(args: &Args) -> Result<bool> {
    setup::ensure()?;
    let mut results = vec![
        ("layout", layout()),
        ("format", run_command(cargo().args(["fmt", "--all", "--check"]))),
        ("lints", lints()),
        ("documents", documents()),
    ];
    if !args.no_deny {
        results.push(("dependencies", dependencies()));
        results.push(("advisories", advisories()));
    }
    println!();
    let mut good = true;
    for (name, result) in results {
        match result {
            Ok(()) => println!("{name:<14}ok"),
            Err(error) => {
                good = false;
                println!("{name:<14}FAILED: {error:#}");
            }
        }
    }
    Ok(good)
}

/// The top folder stays as small as it is.
fn layout() -> Result<()> {
    let Some(files) = ask(Command::new("git").args(["ls-files"]).current_dir(top())) else {
        println!("  layout: not a git work tree, nothing to compare");
        return Ok(());
    };
    let seen: BTreeSet<&str> = files.lines().filter_map(|path| path.split('/').next()).collect();
    let known = |name: &&str| name.starts_with('.') || TOP.contains(name) || TOP_FOR_TOOLS.contains(name);
    let strangers: Vec<&str> = seen.into_iter().filter(|name| !known(name)).collect();
    if !strangers.is_empty() {
        bail!("does not belong at the top of the repository: {}", strangers.join(", "));
    }
    Ok(())
}

fn lints() -> Result<()> {
    run_command(cargo().args([
        "clippy",
        "--workspace",
        "--exclude",
        "orlop-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

/// The test programs named `readme` compare generated parts of the documents with the code.
fn documents() -> Result<()> {
    run_command(cargo().args(["test", "--quiet", "--workspace", "--exclude", "orlop-ebpf", "--test", "readme"]))
}

fn dependencies() -> Result<()> {
    install_deny()?;
    run_command(cargo().args(["deny", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))
}

/// The database lies on a git host. Where that cannot be reached the rest still counts.
fn advisories() -> Result<()> {
    install_deny()?;
    if run_command(cargo().args(["deny", "fetch", "db"])).is_err() {
        println!("  advisories: NOT CHECKED, the database could not be fetched");
        return Ok(());
    }
    run_command(cargo().args(["deny", "check", "--hide-inclusion-graph", "advisories"]))
}

fn install_deny() -> Result<()> {
    if ask(cargo().args(["deny", "--version"])).is_some() {
        return Ok(());
    }
    println!("  cargo-deny is missing: it checks licences, sources and who uses which crate (minutes to build)");
    run_command(cargo().args(["install", "--locked", &format!("cargo-deny@{DENY_VERSION}")]))
        .context("or run `cargo xtask check --no-deny`")
}
