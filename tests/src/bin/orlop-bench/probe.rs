//! This program once more, inside another network namespace (and a pod's cgroup): it
//! serves there, or makes load.

use crate::load::{self, Order};
use crate::pinned;
use orlop_tests::World;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

/// First argument of the child.
const CHILD: &str = "--inside";
/// In place of a process: the child is where it is to be.
const HERE: &str = "-";
/// By this name the program is found also when a build has replaced it meanwhile.
pub const PROGRAM: &str = "/proc/self/exe";

/// A child in the pod of the process `pid`.
pub fn in_pod(world: &World, pid: u32) -> Command {
    let mut command = world.node_command(PROGRAM);
    command.args([CHILD, &pid.to_string()]);
    command
}

/// A child where the command runs by itself; it must be one for [`PROGRAM`].
pub fn here(mut command: Command) -> Command {
    command.args([CHILD, HERE]);
    command
}

fn started(mut command: Command) -> (Child, ChildStdin, Lines<BufReader<ChildStdout>>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start this program again");
    let stdin = child.stdin.take().expect("its stdin");
    let stdout = child.stdout.take().expect("its stdout");
    (child, stdin, BufReader::new(stdout).lines())
}

/// Serves until dropped.
pub struct Server {
    child: Child,
    /// It ends when this is closed.
    stdin: Option<ChildStdin>,
}

impl Server {
    /// Serves in the place that the command is for.
    ///
    /// # Panics
    /// It cannot.
    pub fn start(mut command: Command, address: SocketAddrV4) -> Self {
        command.args(["serve", &address.to_string()]);
        let (child, stdin, mut lines) = started(command);
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        assert_eq!(line, "listening", "the server cannot listen on {address}");
        Self { child, stdin: Some(stdin) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes load by order.
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Waits for orders in the place that the command is for.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(mut command: Command) -> Self {
        command.arg("work");
        let (child, stdin, lines) = started(command);
        Self { child, stdin, lines }
    }

    /// Whether a connect succeeds; one that does not is the end of this worker.
    pub fn reaches(&mut self, to: SocketAddrV4) -> bool {
        let asked = self.stdin.write_all(Order::Connect(1).line(to).as_bytes()).is_ok();
        asked && self.lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty())
    }

    /// Carries out an order for the contestant of this name; the numbers are those that [`Order`] says.
    ///
    /// # Panics
    /// It could not be carried out; the reason is on stderr.
    pub fn carry_out(&mut self, order: Order, to: SocketAddrV4, name: &str) -> Vec<f64> {
        self.stdin.write_all(order.line(to).as_bytes()).expect("the worker takes an order");
        let line = self.lines.next().and_then(Result::ok).unwrap_or_default();
        assert!(!line.is_empty(), "{name}: {order:?} to {to} failed");
        line.split(' ').map(|number| number.parse().expect("a number")).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs as the child, if the arguments say so.
pub fn child(mut arguments: impl Iterator<Item = String>) -> Option<ExitCode> {
    if arguments.next().as_deref() != Some(CHILD) {
        return None;
    }
    let arguments: Vec<String> = arguments.collect();
    Some(match inside(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    })
}

fn inside(arguments: &[String]) -> Result<(), String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [pid, work @ ..] = &arguments[..] else { return Err("no pid".into()) };
    if *pid != HERE {
        enter(pid)?;
    }
    match work {
        ["serve", at] => load::serve(at.parse::<SocketAddr>().map_err(|error| format!("{at}: {error}"))?),
        ["work"] => load::work(),
        ["watch", first, count] => {
            let first = first.parse().map_err(|error| format!("{first}: {error}"))?;
            pinned::watch(first, count.parse().map_err(|error| format!("{count}: {error}"))?)
        }
        _ => Err(format!("cannot {work:?}")),
    }
}

/// Enters the cgroup2 and the network namespace of a container's process.
fn enter(pid: &str) -> Result<(), String> {
    let cgroups =
        fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|error| format!("cgroups of {pid}: {error}"))?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("no cgroup2")?;
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let mount = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists()).ok_or("no cgroup2 mount")?;
    let procs = mount.join(path).join("cgroup.procs");
    fs::write(&procs, "0").map_err(|error| format!("enter {}: {error}", procs.display()))?;
    let netns = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| format!("namespace of {pid}: {error}"))?;
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("enter the namespace: {error}"))
}

/// Of an address without its port.
pub fn at(ip: &str, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip.parse().unwrap_or_else(|error| panic!("{ip} is no IPv4 address: {error}")), port)
}
