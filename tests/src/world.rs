//! A node of its own for a test.

use crate::commands::Output;
use crate::inventory::{self, Places, inventory};
use crate::namespaces::{Namespaces, ip};
use crate::view::{Detail, Pod};
use crate::waiting::{WAIT, wait_for, wait_for_at_most};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use orlop_wire::frame;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Worlds of this process so far.
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Where something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// In the node's namespaces.
    Node,
    /// In the namespace of a client beside the node.
    Outside,
}

impl Role {
    /// Its address on the link between the two.
    #[must_use]
    pub fn address(self) -> &'static str {
        match self {
            Self::Node => "10.99.0.1",
            Self::Outside => "10.99.0.2",
        }
    }
}

/// What differs from the usual node.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--node-name`.
    pub name: String,
    /// `--node-ip`, one of each family at most; the node has to have them.
    pub ips: Vec<String>,
    /// `--pod-cidr`; one of each family, apart by a comma; empty for none.
    pub pod_cidr: String,
    /// Keys of the configuration file.
    pub config: Option<String>,
    /// Bytes of the state folder, which is then a tmpfs of its own.
    pub state_bytes: Option<u64>,
    /// `--log-level`.
    pub log_level: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "n1".to_owned(),
            ips: vec![Role::Node.address().to_owned()],
            pod_cidr: "10.244.7.0/24".to_owned(),
            config: None,
            state_bytes: None,
            log_level: "debug",
        }
    }
}

/// See the crate's text.
#[derive(Debug)]
pub struct World {
    pub(crate) places: Places,
    pub(crate) options: Options,
    pub(crate) agent: Option<Child>,
    pub(crate) images: Arc<TempDir>,
    node: Namespaces,
    outside: Arc<Namespaces>,
    /// As it was before the first pod.
    empty: BTreeSet<String>,
    dir: Option<TempDir>,
}

impl World {
    /// A node with a running agent and no pods.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    /// As [`World::new`] with options.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let mut world = Self::stopped(options);
        world.begin();
        world
    }

    /// Starts the agent of a node that has no pods yet.
    pub(crate) fn begin(&mut self) {
        self.start();
        // The leaf for processes of the host is the world's own, not left behind.
        drop(self.host_procs());
        self.empty = inventory(&self.places, &self.node);
    }

    /// A node whose agent was not started yet.
    pub(crate) fn stopped(options: Options) -> Self {
        Self::wired(options, |node| {
            let outside = Namespaces::network();
            node.link_to("up0", &outside, "out0");
            for (role, namespaces, link) in [(Role::Node, node, "up0"), (Role::Outside, &outside, "out0")] {
                namespaces.run(|| {
                    ip(&format!("addr add {}/24 dev {link}", role.address()));
                    ip(&format!("link set {link} up"));
                });
            }
            node.run(|| ip(&format!("route add default via {}", Role::Outside.address())));
            Arc::new(outside)
        })
    }

    /// As [`World::stopped`] with links of one's own: `wire` gives the node its links, addresses and
    /// routes, and says what is outside.
    pub(crate) fn wired(options: Options, wire: impl FnOnce(&Namespaces) -> Arc<Namespaces>) -> Self {
        let base = base_folder();
        let dir = tempfile::Builder::new().prefix("o").tempdir_in(&base).expect("make the world's folder");
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let places = Places {
            dir: dir.path().to_owned(),
            cgroup_root: format!("/orlop-it-{}-{number}", std::process::id()),
            bpf_dir: PathBuf::from("/sys/fs/bpf/orlop"),
        };
        for name in ["manifests", "root", "state", "run", "log", "bin"] {
            fs::create_dir(places.sub(name)).expect("make a folder");
        }
        keep_programs(&places.sub("bin"));
        let node = Namespaces::node();
        let outside = wire(&node);
        // Name servers of the machine are out of reach, and asking them would take its time.
        let resolv_conf = places.sub("resolv.conf");
        fs::write(&resolv_conf, "nameserver 127.0.0.1\n").expect("write resolv.conf");
        let none: Option<&str> = None;
        node.run(|| mount(Some(&resolv_conf), "/etc/resolv.conf", none, MsFlags::MS_BIND, none))
            .expect("give the node a resolv.conf of its own");
        if let Some(bytes) = options.state_bytes {
            node.run(|| orlop_kernel::mount_tmpfs(&places.sub("state"), Some(bytes), 0o755)).expect("mount a tmpfs");
        }
        let images = crate::image::shared_layout(&base);
        Self { places, options, agent: None, images, node, outside, empty: BTreeSet::new(), dir: Some(dir) }
    }

    /// Runs on a thread of its own in the namespaces of the node or of outside.
    ///
    /// # Panics
    /// As `work` does.
    pub fn run<T: Send>(&self, role: Role, work: impl FnOnce() -> T + Send) -> T {
        match role {
            Role::Node => self.node.run(work),
            Role::Outside => self.outside.run(work),
        }
    }

    /// A command in the node's namespaces, not in its cgroup.
    #[must_use]
    pub fn node_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.node.command(program)
    }

    /// A command in the namespace of outside.
    #[must_use]
    pub fn outside_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.outside.command(program)
    }

    /// A command that runs as a process of the node's host: in its namespaces and in
    /// the leaf `host` of its cgroup, so that Services are translated for it.
    ///
    /// # Panics
    /// The cgroup cannot be made.
    #[must_use]
    pub fn host_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let procs = self.host_procs();
        let mut command = self.node.command(program);
        // SAFETY: between fork and exec only files that are open already are written to.
        unsafe {
            command.pre_exec(move || procs.iter().try_for_each(|mut file| std::io::Write::write_all(&mut file, b"0")))
        };
        command
    }

    /// `cgroup.procs` of the leaf `host`, open.
    pub(crate) fn host_procs(&self) -> Vec<fs::File> {
        let mounts = orlop_kernel::CgroupMounts::detect().expect("find the cgroup hierarchies");
        let root =
            orlop_kernel::CgroupRoot::open(mounts, Path::new(&self.places.cgroup_root)).expect("the cgroup root");
        let files = root.leaf("host").expect("make the host's cgroup");
        files.iter().map(|file| fs::File::options().write(true).open(file).expect("open cgroup.procs")).collect()
    }

    /// Forks a process of the node's host (see [`World::host_command`]) that runs `work`
    /// and gives back its text. `work` may use sockets and memory, but take no lock that
    /// another thread may have had: no printing, no panicking on purpose.
    ///
    /// # Panics
    /// It cannot be forked, or did not end within half a minute.
    #[must_use]
    pub fn host_process(&self, work: impl FnOnce() -> String + Send) -> String {
        let procs = self.host_procs();
        self.node.run(|| {
            let (reader, writer) = nix::unistd::pipe().expect("a pipe");
            // SAFETY: the child uses memory and system calls only; glibc makes malloc usable after a fork.
            match unsafe { nix::unistd::fork() }.expect("fork") {
                nix::unistd::ForkResult::Child => {
                    nix::unistd::alarm::set(30);
                    let moved = procs.iter().all(|mut file| std::io::Write::write_all(&mut file, b"0").is_ok());
                    let text = if moved { work() } else { "cannot enter the host's cgroup".to_owned() };
                    let mut file = fs::File::from(writer);
                    let sent = std::io::Write::write_all(&mut file, text.as_bytes()).is_ok();
                    // SAFETY: ends the child without running the parent's exit handlers.
                    unsafe { libc::_exit(i32::from(!sent)) }
                }
                nix::unistd::ForkResult::Parent { child } => {
                    drop(writer);
                    let text = std::io::read_to_string(fs::File::from(reader)).expect("read the pipe");
                    let status = nix::sys::wait::waitpid(child, None).expect("wait for the child");
                    assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}: {text}");
                    text
                }
            }
        })
    }

    /// Writes a manifest file `NAME.yaml` at once, so that no half of it is seen.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn apply(&self, name: &str, yaml: &str) {
        let folder = self.places.sub("manifests");
        let hidden = folder.join(format!(".{name}.new"));
        fs::write(&hidden, yaml).expect("write the manifest");
        fs::rename(&hidden, folder.join(format!("{name}.yaml"))).expect("rename the manifest");
    }

    /// Removes the manifest file `NAME.yaml`.
    ///
    /// # Panics
    /// There is none.
    pub fn delete(&self, name: &str) {
        fs::remove_file(self.places.sub("manifests").join(format!("{name}.yaml"))).expect("remove the manifest");
    }

    /// One of the world's folders: `root`, `state`, `run`, `log`, `manifests`, or a new one.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.places.sub(name)
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.places.sub("run/orlop.sock")
    }

    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        let kept = self.places.sub("bin").join(name);
        if kept.exists() { kept } else { crate::agent::program_folder().join(name) }
    }

    /// `FILE` of a pod's or container's cgroup: `CGROUP` below the hierarchy of `CONTROLLER`.
    #[must_use]
    pub fn cgroup_file(&self, controller: &str, cgroup: &str, file: &str) -> Option<String> {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let mount = if v1.is_dir() { v1 } else { PathBuf::from("/sys/fs/cgroup") };
        let path = mount.join(cgroup.trim_start_matches('/')).join(file);
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    }

    /// One question to the agent; `None` when nobody answers.
    #[must_use]
    pub fn ask(&self, question: impl Into<Value>) -> Option<Value> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(WAIT)).ok()?;
        frame::write(&mut stream, &question.into()).ok()?;
        frame::read(&mut stream).ok()
    }

    /// All pods.
    ///
    /// # Panics
    /// The agent does not answer.
    #[must_use]
    pub fn pods(&self) -> Vec<Pod> {
        let answer = self.ask("pods").unwrap_or_else(|| panic!("the agent does not answer:\n{}", self.agent_log()));
        serde_json::from_value(answer["pods"].clone()).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// A pod of the namespace `default`, if it is there.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Pod> {
        self.pods().into_iter().find(|pod| pod.namespace == "default" && pod.name == name)
    }

    /// A pod of the namespace `default`.
    ///
    /// # Panics
    /// It is not there.
    #[must_use]
    pub fn pod(&self, name: &str) -> Pod {
        self.find(name).unwrap_or_else(|| panic!("no pod {name}\n{}", self.report()))
    }

    /// A pod of the namespace `default` with its events, if it is there.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<Detail> {
        let answer = self.ask(json!({ "pod": { "pod": { "namespace": "default", "name": name } } }))?;
        let detail = answer.get("pod")?;
        Some(serde_json::from_value(detail.clone()).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }

    /// Everything about the node that helps to understand a failure.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = String::new();
        if self.ask("node").is_some() {
            text += &self.orlop(&["node"]).stdout;
            for pod in self.pods().iter().take(5) {
                text += &self.orlop(&["describe", &format!("{}/{}", pod.namespace, pod.name)]).stdout;
            }
        }
        let log = self.agent_log();
        let lines: Vec<&str> = log.lines().collect();
        format!("{text}--- agent's log, last lines\n{}", lines[lines.len().saturating_sub(80)..].join("\n"))
    }

    /// What a power cut does to a node whose agent was killed: all processes, mounts
    /// and the run folder are gone; what is on disk stays.
    ///
    /// # Panics
    /// Something survives.
    pub fn power_off(&self) {
        assert!(self.agent.is_none(), "kill the agent first");
        inventory::power_off(&self.places, &self.node);
    }

    /// Runs a command in the node's namespaces and gives what it printed.
    #[must_use]
    pub fn node_output(&self, program: &str, args: &[&str]) -> Output {
        Output::of(self.node_command(program).args(args))
    }

    /// Takes everything down and says what was left.
    fn take_down(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir(self.places.sub("manifests")).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        if self.agent.is_some() {
            let gone = wait_for(|| self.ask("pods").is_none_or(|answer| answer["pods"] == json!([])).then_some(()));
            if gone.is_none() {
                left.push(format!("pods did not end:\n{}", self.report()));
            }
            // The last of a pod's links and cgroups may go a moment after it.
            let extra = || inventory(&self.places, &self.node).difference(&self.empty).cloned().collect::<Vec<_>>();
            if wait_for_at_most(Duration::from_secs(5), || extra().is_empty().then_some(())).is_none() {
                left.extend(extra());
            }
            let status = self.stop();
            if !status.success() {
                left.push(format!("the agent ended with {status}"));
            }
        }
        left.extend(inventory::remove(&self.places, &self.node));
        let ended = || self.node.inhabitants().is_empty().then_some(());
        if wait_for_at_most(Duration::from_secs(5), ended).is_none() {
            for (pid, name) in self.node.inhabitants() {
                left.push(format!("process {pid} in the node's namespaces: {name}"));
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        left.extend(self.places.cgroups().iter().map(|cgroup| format!("cgroup {}", cgroup.display())));
        left
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("the node when the test failed:\n{}", self.report());
        }
        let left = self.take_down();
        if let Some(dir) = self.dir.take() {
            // Mounts left inside belong to a mount namespace that ends with this value.
            let _ = fs::remove_dir_all(dir.path());
        }
        if left.is_empty() {
            return;
        }
        let text = format!("left behind by the node:\n  {}", left.join("\n  "));
        if failed {
            eprintln!("{text}");
        } else {
            panic!("{text}\n{}", "the world must end as empty as it began");
        }
    }
}

/// A folder that can hold a root filesystem's upper layer: not on overlayfs. Short, because
/// sockets below it have names of at most 108 bytes.
fn base_folder() -> PathBuf {
    let fits = |path: &&str| statfs(*path).is_ok_and(|fs| fs.filesystem_type() != OVERLAYFS_SUPER_MAGIC);
    let found = ["/tmp", "/var/tmp", "/dev/shm"].into_iter().find(fits);
    found.expect("one of /tmp, /var/tmp and /dev/shm has to be something else than an overlay").into()
}

/// Links the programs, so that a build that runs meanwhile changes nothing under a test.
fn keep_programs(folder: &Path) {
    let from = crate::agent::program_folder();
    for name in ["orlop", "orlop-monitor"] {
        // On another file system they are used where they are.
        if fs::hard_link(from.join(name), folder.join(name)).is_err() {
            let _ = fs::remove_file(folder.join("orlop"));
            return;
        }
    }
}
