//! The agent of the demonstration and the questions put to it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::place::Place;
use crate::command::{self, target_dir};

/// The node's address, made up for documentation (RFC 5737), as the client's is.
pub const NODE_IP: &str = "198.51.100.10";
const POD_CIDR: &str = "10.1.0.0/24";
/// Holds the Service's address in `agent/examples`.
const SERVICE_CIDR: &str = "10.96.0.0/16";

/// How long the agent may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A row of `orlop ps -o json`, as far as we look.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// What `orlop ps` shows under STATUS.
    pub status: String,
    /// The Ready condition.
    pub ready: bool,
}

/// A row of `orlop services -o json`, as far as we look.
#[derive(Debug, Deserialize)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Debug, Deserialize)]
pub struct ServicePort {
    /// Backends.
    pub backends: Vec<Backend>,
}

/// One backend.
#[derive(Debug, Deserialize)]
pub struct Backend {
    /// `active` takes new connections.
    pub state: String,
}

/// `orlop counters -o json`, as far as we look.
#[derive(Debug, Deserialize)]
pub struct Counters {
    /// By Service and backend.
    pub backends: Vec<BackendCounters>,
}

/// Counters of one backend.
#[derive(Debug, Deserialize)]
pub struct BackendCounters {
    /// `namespace/name:port`.
    pub service: String,
    /// Connections sent to it.
    pub connections: u64,
}

/// Folders and addresses of the node.
pub struct Layout {
    /// Everything of the demonstration.
    pub work: PathBuf,
    /// The node's cgroup below every hierarchy's mount, without slash.
    pub cgroup: String,
}

impl Layout {
    /// The watched folder.
    pub fn manifests(&self) -> PathBuf {
        self.work.join("manifests")
    }

    /// Where the fresh bpffs is mounted.
    pub fn bpffs(&self) -> PathBuf {
        self.work.join("bpf")
    }

    /// The folder of images to load.
    pub fn images(&self) -> PathBuf {
        self.work.join("images")
    }

    /// What the agent logs.
    pub fn log(&self) -> PathBuf {
        self.work.join("agent.log")
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.work.join("run/orlop.sock")
    }

    /// `orlop agent` or `orlop reset` with this node's flags.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(program("orlop"));
        command.args([verb, "--node-name", "demo", "--node-ip", NODE_IP]);
        command.args(["--pod-cidr", POD_CIDR, "--service-cidr", SERVICE_CIDR]);
        command.arg("--cgroup-root").arg(format!("/{}", self.cgroup));
        for (flag, path) in [
            ("--manifests", self.manifests()),
            ("--images", self.images()),
            ("--bpf-dir", self.bpffs().join("orlop")),
            ("--root-dir", self.work.join("kubelet")),
            ("--state-dir", self.work.join("state")),
            ("--run-dir", self.work.join("run")),
            ("--log-dir", self.work.join("logs")),
        ] {
            command.arg(flag).arg(path);
        }
        command
    }
}

/// A program of the release build.
pub fn program(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
}

/// The running agent.
pub struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    /// Starts it in the node's place.
    pub fn start(place: &Place, layout: &Layout) -> Result<Self> {
        let log = File::create(layout.log()).with_context(|| format!("create {}", layout.log().display()))?;
        let errors = log.try_clone().context("duplicate a descriptor")?;
        let mut command = layout.command("agent");
        // A process group of its own: Ctrl-C is for us, who then take the node down in order.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let child = place.run(move || command.spawn().context("start orlop agent"))?;
        Ok(Self { child, socket: layout.socket() })
    }

    /// An error if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after the agent")? {
            Some(status) => bail!("the agent ended: {status}"),
            None => Ok(()),
        }
    }

    /// `orlop` with its socket and these arguments.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("orlop"));
        command.arg("--socket").arg(&self.socket).args(arguments);
        command
    }

    /// The JSON answer to these arguments, if the agent gives one.
    pub fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Option<T> {
        let text = command::ask(self.cli(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&text).ok()
    }

    /// Prints what the command prints, under its own line.
    pub fn show(&self, arguments: &[&str]) {
        println!("\n$ orlop {}", arguments.join(" "));
        if let Err(error) = self.cli(arguments).stdin(Stdio::null()).status() {
            println!("{error}");
        }
    }

    /// Ends the agent; an error if it had to be killed or failed.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a process id")?);
        kill(pid, Signal::SIGTERM).context("signal the agent")?;
        let end = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().context("wait for the agent")? {
                if !status.success() {
                    bail!("the agent ended with {status}");
                }
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        bail!("the agent did not end within {STOP_TIMEOUT:?} of SIGTERM and was killed")
    }
}

/// Copies the example manifests; gives how many of them are pods.
pub fn copy_manifests(from: &Path, to: &Path) -> Result<usize> {
    let mut pods = 0;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry.with_context(|| format!("read {}", from.display()))?.path();
        let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|end| end == "yaml")) else {
            continue;
        };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        pods += text.lines().filter(|line| *line == "kind: Pod").count();
        fs::write(to.join(name), text).with_context(|| format!("write {}", to.join(name).display()))?;
    }
    Ok(pods)
}
