//! `ebpf`: the eBPF object alone, in a folder that `ORLOP_EBPF_DIR` can name on a
//! machine without a compiler for eBPF.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::command::{cargo, shown, target_dir};
use crate::setup;

/// The crate whose build script builds the object.
const BUILDER: &str = "orlop-datapath";
/// The object's name in that script's output folder.
const BUILT: &str = "orlop-ebpf.o";
/// The name that the script looks for in `ORLOP_EBPF_DIR`.
pub const OBJECT: &str = "orlop-ebpf";

/// Options of `cargo xtask ebpf`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to put the object (default: `ebpf` in Cargo's target folder).
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The one message of Cargo's that says where a build script wrote.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    out_dir: String,
}

/// Builds the object, copies it and says how to use it.
pub fn run(args: &Args) -> Result<bool> {
    setup::ensure()?;
    let mut command = cargo();
    command.args(["check", "--package", BUILDER, "--message-format", "json-render-diagnostics"]);
    let object = built_object(&mut command)?;
    let folder = args.out.clone().unwrap_or_else(|| target_dir().join("ebpf"));
    let folder = env::current_dir().context("read the current folder")?.join(folder);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let copy = folder.join(OBJECT);
    let bytes = fs::copy(&object, &copy).with_context(|| format!("copy {} to {}", object.display(), copy.display()))?;
    println!("{} ({bytes} bytes)", copy.display());
    println!("to build with it elsewhere: ORLOP_EBPF_DIR={} cargo build", folder.display());
    Ok(true)
}

fn built_object(command: &mut Command) -> Result<PathBuf> {
    println!("  $ {}", shown(command));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(command), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let folder = out_dir(&text).ok_or_else(|| anyhow!("cargo names no output folder of {BUILDER}"))?;
    let object = Path::new(&folder).join(BUILT);
    if !object.is_file() {
        bail!("the build script of {BUILDER} left no {BUILT} in {folder}");
    }
    Ok(object)
}

fn out_dir(messages: &str) -> Option<String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .find(|message| message.reason == "build-script-executed" && message.package_id.contains("/datapath#"))
        .map(|message| message.out_dir)
}
