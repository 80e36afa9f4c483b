//! `orlop-bench`: what `cargo xtask bench` runs.
//!
//! Each bench starts a node of its own (see the crate's text) and measures it beside a
//! peer in the same run, turn by turn, so that a busy machine slows both. What counts
//! are ratios of medians. Nothing here fails for being slow.

mod clock;
mod cluster;
mod crun;
mod figure;
mod load;
mod memory;
mod node;
mod pinned;
mod pod_burst;
mod pod_start;
mod probe;
mod programming;
mod rules;
mod services;

use figure::Report;
use std::path::PathBuf;
use std::process::ExitCode;

/// A bench: its name, what it shows, how to run it.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Effort, &mut Report),
}

/// All benches, in the order in which they run.
const BENCHES: [Bench; 7] = [
    Bench { name: "pod-start", about: "one pod at a time, against `crun run` of the same bundle", run: pod_start::run },
    Bench { name: "pod-burst", about: "50 pods at once", run: pod_burst::run },
    Bench { name: "memory", about: "of a pod's monitor and of the agent", run: memory::run },
    Bench {
        name: "services",
        about: "a pod behind a Service, against kube-proxy's rules and the pod itself",
        run: services::run,
    },
    Bench {
        name: "remote",
        about: "NodePorts whose backend is on another node, against kube-proxy's rules",
        run: services::run_remote,
    },
    Bench { name: "cluster", about: "from binding to Running at an API server; 100,000 endpoints", run: cluster::run },
    Bench {
        name: "programming",
        about: "from the API server's list, or one change of it, into the maps",
        run: programming::run,
    },
];

/// As many Services as fit into their range of addresses, 10.96.0.0/16, with room to spare.
const SERVICES_MAX: usize = 60_000;

/// How much to do.
struct Effort {
    /// At most three minutes for all benches together.
    quick: bool,
    /// Numbers of Services to measure with, in place of the usual ones.
    sizes: Vec<usize>,
}

struct Options {
    names: Vec<String>,
    quick: bool,
    sizes: Vec<usize>,
    list: bool,
    json: Option<PathBuf>,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { names: Vec::new(), quick: false, sizes: Vec::new(), list: false, json: None };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--services" => options.sizes = sizes(&arguments.next().ok_or("--services needs numbers")?)?,
            "--list" => options.list = true,
            "--json" => options.json = Some(arguments.next().ok_or("--json needs a file")?.into()),
            name if BENCHES.iter().any(|bench| bench.name == name) => options.names.push(argument),
            other => return Err(format!("{other:?} is no bench; `--list` names them")),
        }
    }
    Ok(options)
}

/// Numbers, apart by commas, of Services that there is room for.
fn sizes(text: &str) -> Result<Vec<usize>, String> {
    let one = |text: &str| text.parse().ok().filter(|size| (1..=SERVICES_MAX).contains(size));
    text.split(',')
        .map(|size| one(size).ok_or_else(|| format!("{size:?} is no number of Services from 1 to {SERVICES_MAX}")))
        .collect()
}

fn list() {
    for bench in BENCHES {
        println!("{:12} {}", bench.name, bench.about);
    }
}

fn main() -> ExitCode {
    if let Some(code) = probe::child(std::env::args().skip(1)) {
        return code;
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("orlop-bench: {problem}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    let effort = Effort { quick: options.quick, sizes: options.sizes };
    let mut report = Report::default();
    for bench in BENCHES {
        if !options.names.is_empty() && !options.names.iter().any(|name| name == bench.name) {
            continue;
        }
        println!("{}: {}", bench.name, bench.about);
        // The harness panics when the node does not do what it should.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (bench.run)(&effort, &mut report)));
        if let Err(panic) = done {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            report.missing(bench.name, text.and_then(|t| t.lines().next()).unwrap_or("panicked"));
        }
    }
    report.print();
    if let Some(path) = options.json
        && let Err(error) = report.write(&path)
    {
        eprintln!("orlop-bench: write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
