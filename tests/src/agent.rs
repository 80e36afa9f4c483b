//! The agent's process.

use crate::World;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

/// Where cargo put the programs: beside the folder of the test's own executable, or
/// in it, as with the benches.
pub(crate) fn program_folder() -> PathBuf {
    let own = std::env::current_exe().expect("find the test's executable");
    let beside = own.parent().expect("target/PROFILE/…");
    let folder = if beside.ends_with("deps") { beside.parent().unwrap_or(Path::new("/")) } else { beside }.to_owned();
    for name in ["orlop", "orlop-monitor"] {
        let program = folder.join(name);
        assert!(program.is_file(), "{} is missing: cargo build -p orlop -p orlop-monitor", program.display());
    }
    folder
}

impl World {
    /// Starts the agent and waits until it answers.
    ///
    /// # Panics
    /// It runs already, or it ends.
    pub fn start(&mut self) {
        let child = self.spawn_agent();
        self.agent = Some(child);
        let socket = self.socket();
        let deadline = std::time::Instant::now() + crate::WAIT;
        while UnixStream::connect(&socket).is_err() || self.ask("node").is_none() {
            let ended = self.agent.as_mut().and_then(|agent| agent.try_wait().expect("wait for the agent"));
            assert!(ended.is_none(), "the agent ended ({ended:?}):\n{}", self.agent_log());
            assert!(std::time::Instant::now() < deadline, "the agent does not answer:\n{}", self.agent_log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Starts the agent without waiting: for nodes that cannot start.
    ///
    /// # Panics
    /// It runs already.
    #[must_use]
    pub fn spawn_agent(&self) -> Child {
        assert!(self.agent.is_none(), "the agent runs already");
        let log = File::options().create(true).append(true).open(self.places.sub("agent.log")).expect("the log");
        let mut command = self.node_command(self.binary("orlop"));
        command.arg("agent").args(self.agent_args()).stdin(std::process::Stdio::null());
        command.stdout(log.try_clone().expect("the log")).stderr(log);
        command.spawn().expect("start orlop agent")
    }

    fn agent_args(&self) -> Vec<String> {
        let sub = |name: &str| self.places.sub(name).display().to_string();
        let mut args: Vec<String> = [
            ("--manifests", sub("manifests")),
            ("--node-name", self.options.name.clone()),
            ("--node-ip", self.options.ips.join(",")),
            ("--root-dir", sub("root")),
            ("--state-dir", sub("state")),
            ("--run-dir", sub("run")),
            ("--log-dir", sub("log")),
            ("--cgroup-root", self.places.cgroup_root.clone()),
            ("--bpf-dir", self.places.bpf_dir.display().to_string()),
            ("--images", self.images.path().display().to_string()),
            ("--log-level", self.options.log_level.to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        let cidrs = self.options.pod_cidr.split(',').filter(|cidr| !cidr.is_empty());
        args.extend(cidrs.flat_map(|cidr| ["--pod-cidr", cidr]).map(str::to_owned));
        if let Some(config) = &self.options.config {
            let path = self.places.sub("config.yaml");
            let text = format!("apiVersion: orlop.dev/v1alpha1\nkind: OrlopConfiguration\n{config}\n");
            fs::write(&path, text).expect("write the configuration");
            args.extend(["--config".to_owned(), path.display().to_string()]);
        }
        args
    }

    /// Ends the agent with SIGTERM; pods go on.
    ///
    /// # Panics
    /// It does not run.
    pub fn stop(&mut self) -> ExitStatus {
        self.end_agent(Signal::SIGTERM)
    }

    /// Kills the agent as a crash would; pods go on.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self) {
        self.end_agent(Signal::SIGKILL);
    }

    /// Runs `orlop reset` with the agent's flags.
    ///
    /// # Panics
    /// The agent runs.
    #[must_use]
    pub fn reset(&self) -> crate::Output {
        assert!(self.agent.is_none(), "stop the agent first");
        crate::Output::of(self.node_command(self.binary("orlop")).arg("reset").args(self.agent_args()))
    }

    /// [`World::kill`] and [`World::start`].
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    fn end_agent(&mut self, signal: Signal) -> ExitStatus {
        let mut agent = self.agent.take().expect("the agent runs");
        let pid = Pid::from_raw(i32::try_from(agent.id()).expect("a process id"));
        kill(pid, signal).expect("signal the agent");
        agent.wait().expect("wait for the agent")
    }

    /// The agent's process id.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("the agent runs").id()
    }

    /// The pods' monitors, by process id.
    ///
    /// # Panics
    /// Their cgroup cannot be read.
    #[must_use]
    pub fn monitor_pids(&self) -> Vec<u32> {
        let mounts = orlop_kernel::CgroupMounts::detect().expect("find the cgroup hierarchies");
        let root = Path::new(&self.places.cgroup_root);
        let files = orlop_kernel::CgroupRoot::open(mounts, root).and_then(|root| root.monitors());
        let text = fs::read_to_string(&files.expect("the monitors' cgroup")[0]).expect("read cgroup.procs");
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// `--cgroup-root`.
    #[must_use]
    pub fn cgroup_root(&self) -> &str {
        &self.places.cgroup_root
    }

    /// What all agents of this node have logged.
    #[must_use]
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.places.sub("agent.log")).unwrap_or_default()
    }

    /// What the newest agent has logged.
    #[must_use]
    pub fn log_since(&self, earlier: &str) -> String {
        self.agent_log().split_off(earlier.len())
    }
}
