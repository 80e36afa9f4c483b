//! This program once more, inside a pod's network namespace and cgroup: it listens
//! there, or measures `connect()`.

use orlop_tests::World;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// First argument of the child.
const CHILD: &str = "--inside";

/// A child inside the pod of the process `pid`: `serve ADDRESS` or
/// `connect ROUNDS ADDRESS ADDRESS`.
fn command(world: &World, pid: u32, work: &[String]) -> Command {
    // By this name it is found also when a build has replaced it meanwhile.
    let mut command = world.node_command("/proc/self/exe");
    command.args([CHILD, &pid.to_string()]).args(work).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Listens in a pod until dropped.
pub struct Server(Child);

impl Server {
    /// Listens.
    ///
    /// # Panics
    /// It cannot.
    pub fn start(world: &World, pid: u32, address: SocketAddrV4) -> Self {
        let mut child = command(world, pid, &["serve".into(), address.to_string()]).spawn().expect("start the server");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its stdout");
        BufReader::new(stdout).read_line(&mut line).expect("read what the server says");
        assert_eq!(line, "listening\n", "the server cannot listen on {address}");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its stdin, and is ended if it does not.
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Medians of `rounds` connects to each of two addresses, taken in turns, in microseconds.
///
/// # Panics
/// A connect failed.
pub fn connect(world: &World, pid: u32, rounds: u32, addresses: [SocketAddrV4; 2]) -> [f64; 2] {
    let work = ["connect".into(), rounds.to_string(), addresses[0].to_string(), addresses[1].to_string()];
    let output = command(world, pid, &work).output().expect("start the client");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "the client ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let mut numbers = text.split_whitespace().map(|n| n.parse::<f64>().expect("a number of microseconds"));
    std::array::from_fn(|_| numbers.next().expect("two medians"))
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
    enter(pid)?;
    let address = |text: &str| text.parse::<SocketAddrV4>().map_err(|error| format!("{text}: {error}"));
    match work {
        ["serve", at] => serve(address(at)?),
        ["connect", rounds, a, b] => {
            let rounds = rounds.parse().map_err(|error| format!("{rounds}: {error}"))?;
            measure(rounds, [address(a)?, address(b)?])
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

fn serve(address: SocketAddrV4) -> Result<(), String> {
    let listener = TcpListener::bind(address).map_err(|error| format!("bind {address}: {error}"))?;
    println!("listening");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        // Ends with the bench that started it.
        let _ = std::io::stdin().lines().count();
        std::process::exit(0);
    });
    for connection in listener.incoming() {
        drop(connection);
    }
    Ok(())
}

fn measure(rounds: u32, addresses: [SocketAddrV4; 2]) -> Result<(), String> {
    let mut times = [Vec::new(), Vec::new()];
    let warm_up = rounds / 10;
    for round in 0..warm_up + rounds {
        // Who comes first changes each round, so that neither always follows the other.
        for turn in 0..2 {
            let which = ((round + turn) % 2) as usize;
            let took =
                connect_once(addresses[which]).map_err(|error| format!("connect to {}: {error}", addresses[which]))?;
            if round >= warm_up {
                times[which].push(took.as_secs_f64() * 1e6);
            }
        }
    }
    let [a, b] = times.map(|times| crate::figure::median(&times));
    println!("{a:.3} {b:.3}");
    Ok(())
}

/// The time of the system call alone. The connection is reset, so that no port stays in TIME_WAIT.
fn connect_once(to: SocketAddrV4) -> std::io::Result<Duration> {
    // SAFETY: takes three integers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Linger, &linger)?;
    let address = nix::sys::socket::SockaddrIn::from(to);
    let began = Instant::now();
    nix::sys::socket::connect(socket.as_raw_fd(), &address)?;
    Ok(began.elapsed())
}

/// Of an address without its port.
pub fn at(ip: &str, port: u16) -> SocketAddrV4 {
    match format!("{ip}:{port}").parse() {
        Ok(SocketAddr::V4(address)) => address,
        other => panic!("{ip} is no IPv4 address: {other:?}"),
    }
}
