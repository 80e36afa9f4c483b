//! `vm`: the kernel tests of a crate under another kernel, in a virtual machine.
//!
//! The verifier is another one in each kernel. This boots a distribution's kernel under
//! qemu with nothing but busybox, iproute2 and the test programs, and runs these.

mod image;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, on_path, run as run_command, shown, target_dir};
use crate::setup;
use crate::tally::Tally;

/// Options of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Package of the kernel, without `linux-image-` before it.
    #[arg(long, default_value = "6.12-cloud-amd64")]
    kernel: String,
    /// Crates whose tests run; they must need no file of the repository.
    #[arg(long, short, default_value = "orlop-datapath")]
    package: Vec<String>,
    /// Use KVM; a machine that has it but not whole makes qemu stop at once.
    #[arg(long)]
    kvm: bool,
    /// Seconds after which the machine is switched off. Without KVM it is some 20 times slower than this one.
    #[arg(long, default_value_t = 1_500)]
    timeout: u64,
    /// Run only the tests whose name has this in it.
    filter: Option<String>,
}

/// Tests that read the repository, which the machine does not have.
const ON_SOURCES: &str = "readme";

/// Runs the tests; `Ok(false)` when one failed or the machine did not come to its end.
pub fn run(args: &Args) -> Result<bool> {
    setup::ensure()?;
    if on_path("qemu-system-x86_64").is_none() {
        setup::install_packages(&["qemu-system-x86"])?;
    }
    let folder = target_dir().join("xtask/vm");
    let kernel = image::kernel(&folder, &args.kernel)?;
    let tests = tests(&args.package)?;
    let filter = args.filter.as_deref().unwrap_or_default();
    let initrd = image::initrd(&folder, &kernel, &tests, filter)?;

    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35", "-accel", if args.kvm { "kvm" } else { "tcg,thread=multi" }, "-cpu", "max"]);
    qemu.args(["-m", "3072", "-smp", "2", "-display", "none", "-serial", "stdio", "-monitor", "none"]);
    qemu.args(["-no-reboot", "-nic", "none"]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&initrd);
    qemu.args(["-append", "console=ttyS0 panic=-1 quiet"]);
    println!("  $ {}", shown(&qemu));
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start qemu")?;
    watch(child, Duration::from_secs(args.timeout))
}

/// Prints what the machine prints, and sums up.
fn watch(mut child: Child, limit: Duration) -> Result<bool> {
    let output = child.stdout.take().context("qemu has no stdout")?;
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if said.send(line).is_err() {
                return;
            }
        }
    });
    let (end, mut tally, mut ended) = (Instant::now() + limit, Tally::default(), false);
    while let Ok(line) = heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
        println!("{line}");
        tally.read(&line);
        ended |= line == image::ENDED;
    }
    // Switched off by itself, or its time is over.
    let _ = child.kill();
    child.wait().context("wait for qemu")?;
    for name in &tally.failures {
        println!("failed: {name}");
    }
    if !ended {
        println!("the machine did not come to its end");
    }
    println!("{}", tally.line());
    Ok(ended && tally.failed == 0 && tally.passed > 0)
}

/// A test program.
pub struct TestProgram {
    name: String,
    path: PathBuf,
}

/// Builds the tests of the packages.
fn tests(packages: &[String]) -> Result<Vec<TestProgram>> {
    let mut build = cargo();
    build.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    for package in packages {
        build.args(["--package", package]);
    }
    println!("  $ {}", shown(&build));
    let mut child = build.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo")?;
    let mut text = String::new();
    child.stdout.take().context("cargo has no stdout")?.read_to_string(&mut text).context("read cargo's messages")?;
    if !child.wait().context("wait for cargo")?.success() {
        bail!("the tests do not build; see above");
    }
    let mut found = Vec::new();
    for line in text.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("understand cargo's messages")?;
        let (name, path) = (message["target"]["name"].as_str(), message["executable"].as_str());
        if let (Some(name), Some(path)) = (name, path)
            && message["profile"]["test"] == true
            && name != ON_SOURCES
        {
            found.push(TestProgram { name: name.to_owned(), path: path.into() });
        }
    }
    Ok(found)
}

/// Runs a command in a folder.
fn run_in(folder: &Path, program: &str, args: &[&str]) -> Result<()> {
    run_command(Command::new(program).args(args).current_dir(folder))
}
