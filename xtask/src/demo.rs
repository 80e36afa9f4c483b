//! `demo`: a whole node beside the host, in namespaces, a cgroup and a folder of
//! its own, with the pods and the Service of `agent/examples`.
//!
//! ```text
//!   client 198.51.100.20 ══ veth ══ node 198.51.100.10:30080 ── orlop agent
//!   (a network namespace)           (network and mount namespace, cgroup orlop-demo-PID)
//!                                     ├─ pod web-1 ┐
//!                                     ├─ pod web-2 ┴ Service web 10.96.0.80:80
//!                                     └─ pod client
//! ```

mod interrupt;
mod leftover;
mod node;
mod place;
mod traffic;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio, id};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::command::{cargo, run as run_command, top};
use crate::setup;
use interrupt::Interrupt;
use leftover::Traces;
use node::{Agent, Counters, Layout, NODE_IP, Pod, Service, copy_manifests, program};
use place::Place;
use traffic::{Answers, get};

const CLIENT_IP: &str = "198.51.100.20";
/// What `agent/examples` says.
const CLUSTER_URL: &str = "http://10.96.0.80/";
const NODE_PORT: u16 = 30080;
const SERVERS: usize = 2;
const PAGE: &str = "ahoy from web-";
const IMAGE: &str = "localhost/busybox:demo";

/// The programs, and the example that makes their image.
const PACKAGES: [&str; 6] = ["--package", "orlop", "--package", "orlop-monitor", "--package", "orlop-image"];
/// Requests from inside and from outside.
const REQUESTS: usize = 20;
/// From the agent's start until every pod is Ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// From the manifests' removal until no pod is left.
const GONE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at the pods.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// End after the checks instead of waiting for Ctrl-C.
    #[arg(long)]
    once: bool,
}

/// Shows a node at work and takes it down again; `Ok(false)` when a check failed or something was left.
pub fn run(args: &Args) -> Result<bool> {
    if !geteuid().is_root() {
        bail!("a node needs root: sudo env \"PATH=$PATH\" cargo xtask demo");
    }
    setup::ensure()?;
    title("Build");
    run_command(cargo().args(["build", "--release", "--bins", "--example", "busybox"]).args(PACKAGES))?;

    let interrupt = Interrupt::take()?;
    let name = format!("orlop-demo-{}", id());
    let layout = Layout { work: Path::new("/var/tmp").join(&name), cgroup: name };
    let mut traces = Traces::before(&layout.cgroup, &layout.work);
    let shown = show(&layout, args.once, &interrupt, &mut traces);
    let good = match &shown {
        Ok(checks) => *checks,
        Err(error) => {
            println!("\nFAILED: {error:#}");
            quote_log(&layout.log());
            false
        }
    };
    let clean = clean(&layout, &traces);
    println!("\n{}", if good && clean { "the demonstration passed" } else { "the demonstration FAILED" });
    Ok(good && clean)
}

/// From the namespaces to the last check, and the node's orderly end.
fn show(layout: &Layout, once: bool, interrupt: &Interrupt, traces: &mut Traces) -> Result<bool> {
    title("A node beside this host");
    let pods = prepare(layout)?;
    let (node, client) = network(layout)?;
    let started = Instant::now();
    let mut agent = Agent::start(&node, layout)?;
    let outcome = act(&mut agent, &client, started, pods, interrupt).and_then(|good| {
        if !once {
            stay(&mut agent, layout, interrupt)?;
        }
        Ok(good)
    });
    traces.note();
    title("Down again");
    let down = take_down(agent, layout).and(reset(&node, layout));
    let good = outcome?;
    down?;
    Ok(good)
}

/// Waits for the pods, sends the requests, prints the tables.
fn act(agent: &mut Agent, client: &Place, started: Instant, pods: usize, interrupt: &Interrupt) -> Result<bool> {
    title("Pods");
    wait_ready(agent, started, pods, interrupt)?;
    title("Requests");
    let inside = from_pod(agent).and_then(|answers| answers.expect(REQUESTS, PAGE, SERVERS));
    let outside = from_outside(client).and_then(|answers| answers.expect(REQUESTS, PAGE, SERVERS));
    let counted = counted(agent);
    let results = [
        (format!("pod client → {CLUSTER_URL}"), inside),
        (format!("outside {CLIENT_IP} → http://{NODE_IP}:{NODE_PORT}/"), outside),
        ("connections counted by the node".to_owned(), counted),
    ];
    let mut good = true;
    for (what, result) in results {
        match result {
            Ok(told) => println!("  ok      {what}: {told}"),
            Err(error) => {
                good = false;
                println!("  FAILED  {what}: {error:#}");
            }
        }
    }
    for arguments in [&["ps"], &["services"], &["counters"]] {
        agent.show(arguments);
    }
    Ok(good)
}

fn title(text: &str) {
    println!("\n── {text} {}", "─".repeat(70usize.saturating_sub(text.chars().count())));
}

/// Folders, image and manifests; gives the number of pods.
fn prepare(layout: &Layout) -> Result<usize> {
    for folder in [&layout.work, &layout.manifests(), &layout.bpffs(), &layout.images()] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let image = layout.images().join("busybox");
    run_command(Command::new(program("examples/busybox")).arg(IMAGE).arg(&image))?;
    let pods = copy_manifests(&top().join("agent/examples"), &layout.manifests())?;
    println!("  work folder   {}", layout.work.display());
    println!("  cgroup        /{}", layout.cgroup);
    Ok(pods)
}

/// The node's and the client's network, joined by a wire and by nothing else.
fn network(layout: &Layout) -> Result<(Place, Place)> {
    let node = Place::new("node", Some(&layout.bpffs()))?;
    let client = Place::new("client", None)?;
    client.ip(&format!("link add lan0 type veth peer name lan0 netns {}", node.netns()))?;
    for (place, address) in [(&node, NODE_IP), (&client, CLIENT_IP)] {
        place.ip("link set lo up")?;
        place.ip(&format!("address add {address}/24 dev lan0"))?;
        place.ip("link set lan0 up")?;
    }
    println!("  network       node {NODE_IP} ══ client {CLIENT_IP}, no way out");
    Ok((node, client))
}

/// Prints each pod whenever its status changes, until all are Ready and the Service has its backends.
fn wait_ready(agent: &mut Agent, started: Instant, pods: usize, interrupt: &Interrupt) -> Result<()> {
    let mut told: Vec<Pod> = Vec::new();
    loop {
        agent.must_run()?;
        let now: Vec<Pod> = agent.ask(&["ps"]).unwrap_or_default();
        for pod in now.iter().filter(|pod| !told.contains(pod)) {
            let ready = if pod.ready { "Ready" } else { "" };
            println!("  {:>5.2} s  {:<8} {:<20} {ready}", started.elapsed().as_secs_f32(), pod.name, pod.status);
        }
        told = now;
        if told.len() == pods && told.iter().all(|pod| pod.ready) && active_backends(agent) == SERVERS {
            return Ok(());
        }
        if started.elapsed() > READY_TIMEOUT {
            for pod in told.iter().filter(|pod| !pod.ready) {
                agent.show(&["describe", &pod.name]);
            }
            let ready = told.iter().filter(|pod| pod.ready).count();
            bail!(
                "{ready} of {pods} pods are Ready and {} of {SERVERS} backends active after {READY_TIMEOUT:?}",
                active_backends(agent)
            );
        }
        if interrupt.within(LOOK_AGAIN) {
            bail!("interrupted before all pods were Ready");
        }
    }
}

fn active_backends(agent: &Agent) -> usize {
    let services: Vec<Service> = agent.ask(&["services"]).unwrap_or_default();
    let web = services.iter().find(|service| service.name == "web");
    web.and_then(|web| web.ports.first())
        .map_or(0, |port| port.backends.iter().filter(|backend| backend.state == "active").count())
}

/// Requests to the ClusterIP from inside a pod. (`-T` makes Debian 12's busybox wget crash.)
fn from_pod(agent: &Agent) -> Result<Answers> {
    let script =
        format!("i=0; while [ $i -lt {REQUESTS} ]; do wget -q -O - {CLUSTER_URL} || echo FAILED; i=$((i+1)); done");
    let mut exec = agent.cli(&["exec", "client", "--", "sh", "-c", &script]);
    let output = exec.stdin(Stdio::null()).output().context("start orlop exec")?;
    if !output.status.success() {
        bail!("orlop exec: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let mut answers = Answers::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        answers.add(if line == "FAILED" { Err(anyhow::anyhow!("wget: {errors}")) } else { Ok(line.to_owned()) });
    }
    Ok(answers)
}

/// Requests to the NodePort from beyond the wire.
fn from_outside(client: &Place) -> Result<Answers> {
    client.run(|| {
        let server = format!("{NODE_IP}:{NODE_PORT}").parse().context("the node's address")?;
        let mut answers = Answers::default();
        (0..REQUESTS).for_each(|_| answers.add(get(server)));
        Ok(answers)
    })
}

/// The node has counted exactly our connections to the Service.
fn counted(agent: &Agent) -> Result<String> {
    let counters: Counters = agent.ask(&["counters"]).context("orlop counters gave no answer")?;
    let web = counters.backends.iter().filter(|backend| backend.service.starts_with("default/web"));
    let connections: u64 = web.map(|backend| backend.connections).sum();
    if connections != 2 * REQUESTS as u64 {
        bail!("{connections}, but {} were made", 2 * REQUESTS);
    }
    Ok(connections.to_string())
}

/// Leaves the node to whoever looks until Ctrl-C.
fn stay(agent: &mut Agent, layout: &Layout, interrupt: &Interrupt) -> Result<()> {
    println!("\nThe node runs until Ctrl-C. In another terminal:");
    println!("  export ORLOP_SOCKET={}", layout.socket().display());
    let orlop = program("orlop");
    for line in ["ps", "exec -it client -- sh", "logs client", "describe web-1", "counters"] {
        println!("  {} {line}", orlop.display());
    }
    println!("Change, add or remove files in {} and see what happens.", layout.manifests().display());
    while !interrupt.within(Duration::from_millis(500)) {
        agent.must_run()?;
    }
    Ok(())
}

/// Removes the manifests, waits until their pods are gone, then ends the agent.
fn take_down(mut agent: Agent, layout: &Layout) -> Result<()> {
    let started = Instant::now();
    for entry in fs::read_dir(layout.manifests()).context("read the manifests")?.flatten() {
        fs::remove_file(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
    }
    let left = loop {
        if agent.must_run().is_err() {
            break None;
        }
        match agent.ask::<Vec<Pod>>(&["ps"]) {
            Some(pods) if pods.is_empty() => break Some(pods),
            pods if started.elapsed() > GONE_TIMEOUT => break Some(pods.unwrap_or_default()),
            _ => std::thread::sleep(LOOK_AGAIN),
        }
    };
    let took = started.elapsed().as_secs_f32();
    match &left {
        None => println!("  the agent is not there to end its pods"),
        Some(pods) if pods.is_empty() => println!("  manifests removed, all pods ended in {took:.1} s"),
        Some(pods) => println!("  still there after {took:.1} s: {}", names(pods)),
    }
    agent.stop()?;
    println!("  agent ended");
    match left {
        Some(pods) if pods.is_empty() => Ok(()),
        _ => bail!("the pods did not end in order"),
    }
}

/// Removes what a node keeps for its next start: cgroups, maps, links, images, logs.
fn reset(node: &Place, layout: &Layout) -> Result<()> {
    let mut command = layout.command("reset");
    let output = node.run(move || command.stdin(Stdio::null()).output().context("start orlop reset"))?;
    if !output.status.success() {
        bail!("orlop reset: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    println!("  node reset");
    Ok(())
}

fn names(pods: &[Pod]) -> String {
    pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The end of the agent's log, for a run that failed.
fn quote_log(log: &Path) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    println!("the end of the agent's log:");
    lines[lines.len().saturating_sub(30)..].iter().for_each(|line| println!("  {line}"));
}

/// Removes what is ours alone and says what is left beside that.
fn clean(layout: &Layout, traces: &Traces) -> bool {
    let ended = traces.end_processes();
    traces.remove_cgroups();
    if let Err(error) = fs::remove_dir_all(&layout.work) {
        println!("  remove {}: {error}", layout.work.display());
    }
    let mut left = traces.left();
    if ended > 0 {
        left.push(format!("{ended} processes that had to be killed"));
    }
    if left.is_empty() {
        println!("  nothing is left: no process, namespace, cgroup, mount, interface, pin or file");
    } else {
        println!("  LEFT BEHIND:");
        left.iter().for_each(|what| println!("    {what}"));
    }
    left.is_empty()
}
