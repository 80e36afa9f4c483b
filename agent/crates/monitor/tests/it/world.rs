//! A pod's world for the tests: a folder, a busybox root filesystem, a cgroup root
//! of its own, and a monitor that is shut down at the end.

use oci_spec::runtime::Spec;
use orlop_kernel::{CgroupMounts, CgroupRoot};
use orlop_model::{
    ContainerDesired, ContainerId, ContainerName, ContainerSecurity, ImageRef, PodDesired, PodKey, PodUid, PullPolicy,
    SeccompProfile,
};
use orlop_runtime::{
    HostCapabilities, ImageRun, Monitor, MonitorEvent, Mount, NamespacePaths, ResolvedUser, SpecInput, build_spec,
};
use orlop_wire::{AttemptRecord, ContainerStatus, CreateContainer, Exec, ExecUser, LogTarget, SandboxConfig, Snapshot};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

static NEXT: AtomicU32 = AtomicU32::new(0);
/// Longest that anything here takes on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

pub struct World {
    pub folder: tempfile::TempDir,
    pub monitor: Monitor,
    pub events: mpsc::Receiver<MonitorEvent>,
    pub snapshot: Snapshot,
    pub pod: PodDesired,
    pub cgroup_root: String,
    next_id: AtomicU32,
}

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_orlop-monitor"))
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut PodDesired)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut pod = pod();
        change(&mut pod);
        let config = SandboxConfig {
            uid: pod.uid.clone(),
            dir: folder.path().join("pod"),
            hostname: pod.hostname.clone(),
            host_network: pod.host_network,
            host_ipc: pod.host_ipc,
            share_process_namespace: pod.share_process_namespace,
            sysctls: pod.security.sysctls.clone(),
            own_cgroup_procs: Vec::new(),
        };
        make_rootfs(&folder.path().join("rootfs"));
        let (monitor, snapshot, events) = Monitor::start(&program(), &config).await.unwrap();
        let cgroup_root = format!("orlop-test-{}-{number}", std::process::id());
        Self { folder, monitor, events, snapshot, pod, cgroup_root, next_id: AtomicU32::new(0) }
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("pod")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A bundle and its request: `sh -c SCRIPT`, changed as the test likes.
    pub fn container(
        &self,
        script: &str,
        change: impl FnOnce(&mut ContainerDesired, &mut CreateContainer, &mut Vec<Mount>),
    ) -> CreateContainer {
        let n = self.next_id.fetch_add(1, Ordering::Relaxed);
        let id = ContainerId::new(format!("{n:064x}")).unwrap();
        let bundle = self.path(&format!("bundle-{n}"));
        fs::create_dir_all(&bundle).unwrap();
        let mut desired = container(script);
        let mut create = CreateContainer {
            id: id.clone(),
            name: desired.name.clone(),
            attempt: n,
            bundle: bundle.clone(),
            extra_cgroup_procs: Vec::new(),
            oom_score_adj: Some(1000),
            log: LogTarget { path: self.path(&format!("logs/{n}.log")), max_bytes: 10 << 20, max_files: 5 },
            stdin: false,
            termination_message: None,
            message_from_log: false,
            meta: serde_json::json!({ "n": n }),
        };
        let mut mounts = Vec::new();
        change(&mut desired, &mut create, &mut mounts);
        let spec = self.spec(&desired, &id, &mounts);
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        create
    }

    fn spec(&self, desired: &ContainerDesired, id: &ContainerId, mounts: &[Mount]) -> Spec {
        let security = &desired.security;
        let (uid, gid) = (security.run_as_user.unwrap_or(0), security.run_as_group.unwrap_or(0));
        let user = ResolvedUser { uid, gid, groups: vec![gid, 4242], home: "/".into() };
        let limit = oci_spec::runtime::PosixRlimitBuilder::default()
            .typ(oci_spec::runtime::PosixRlimitType::RlimitNofile)
            .soft(111_u64)
            .hard(222_u64)
            .build()
            .unwrap();
        let rootfs = self.path("rootfs");
        let cgroup_root = Path::new("/").join(&self.cgroup_root);
        let cgroups = CgroupRoot::open(CgroupMounts::detect().unwrap(), &cgroup_root).unwrap();
        let input = SpecInput {
            pod: &self.pod,
            container: desired,
            image: &ImageRun::default(),
            env: &[],
            command: &desired.command,
            args: &desired.args,
            user: &user,
            rootfs: &rootfs,
            mounts,
            shm: None,
            namespaces: &NamespacePaths::of_pod(&self.dir(), &self.pod),
            cgroup: &cgroups.pod(&self.pod.uid, self.pod.qos).oci_path(id),
            cgroup_layout: cgroups.layout(),
            pids_limit: Some(100),
            localhost_seccomp: None,
            host_capabilities: HostCapabilities::read().unwrap(),
            devices: &[],
            rlimits: &[limit],
        };
        build_spec(&input).unwrap()
    }

    pub async fn run(&self, script: &str) -> AttemptRecord {
        self.start(self.container(script, |_, _, _| {})).await
    }

    /// Creates a container that must start.
    pub async fn start(&self, create: CreateContainer) -> AttemptRecord {
        let record = self.monitor.create(create).await.unwrap();
        assert!(matches!(record.status, ContainerStatus::Running { .. }), "{record:?}");
        record
    }

    /// The next end of a container.
    pub async fn exited(&mut self) -> AttemptRecord {
        loop {
            match tokio::time::timeout(SOON, self.events.recv()).await.unwrap() {
                Some(MonitorEvent::Exited(record)) => return record,
                Some(MonitorEvent::LogTrouble { .. }) => {}
                other => panic!("{other:?} instead of an exit"),
            }
        }
    }

    /// Waits until the container has said so.
    pub async fn logged(&self, record: &AttemptRecord, text: &str) {
        let said = async {
            while !self.log(record).contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, said).await.unwrap_or_else(|_| panic!("{text:?} is not in the log"));
    }

    pub fn log(&self, record: &AttemptRecord) -> String {
        fs::read_to_string(self.path(&format!("logs/{}.log", record.attempt))).unwrap()
    }

    /// Shuts the pod down and checks that nothing is left of it.
    pub async fn end(mut self) {
        let pid = self.snapshot.ready.pid;
        self.monitor.shutdown().await.unwrap();
        while self.events.recv().await.unwrap_or(MonitorEvent::Gone) != MonitorEvent::Gone {}
        let proc = PathBuf::from(format!("/proc/{pid}"));
        wait_for("the monitor's end", || !proc.exists()).await;
        self.nothing_left();
    }

    pub fn nothing_left(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.folder.path().to_str().unwrap();
        assert!(!mounts.contains(here), "mounts are left: {mounts}");
        for folder in self.cgroups() {
            let below = folder.join(format!("kubepods/besteffort/pod{}", self.pod.uid));
            let left: Vec<_> =
                fs::read_dir(&below).into_iter().flatten().flatten().filter(|e| e.path().is_dir()).collect();
            assert!(left.is_empty(), "cgroups are left: {left:?}");
        }
        let names: Vec<_> = fs::read_dir(self.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["sandbox.json"]);
    }

    /// This world's folder in every hierarchy that has it.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|mount| mount.starts_with("/sys/fs/cgroup"))
            .map(|mount| Path::new(mount).join(&self.cgroup_root))
            .filter(|folder| folder.exists())
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test leaves its monitor: kill exactly that one, by number.
        let pid = i32::try_from(self.snapshot.ready.pid).unwrap();
        for folder in self.cgroups() {
            kill_and_remove(&folder);
        }
        let sandbox = self.dir().join("ns");
        for pin in ["net", "ipc", "uts", "pid"] {
            let _ = nix::mount::umount2(&sandbox.join(pin), nix::mount::MntFlags::MNT_DETACH);
        }
        if Path::new(&format!("/proc/{pid}")).exists() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn kill_and_remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        kill_and_remove(&entry.path());
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < deadline {
        for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
            let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until it is so.
pub async fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn exec(id: &ContainerId, args: &[&str]) -> Exec {
    Exec {
        id: id.clone(),
        exec_id: 0,
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        tty: false,
        user: ExecUser::default(),
        timeout_ms: None,
    }
}

fn make_rootfs(root: &Path) {
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "data"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("Debian's busybox-static is needed");
    for name in
        ["sh", "cat", "sleep", "echo", "id", "kill", "seq", "grep", "true", "hostname", "stty", "dd", "ps", "tr"]
    {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
}

fn container(script: &str) -> ContainerDesired {
    let named = ContainerDesired::new(ContainerName::new("c").unwrap(), ImageRef::new("busybox").unwrap());
    ContainerDesired {
        pull_policy: PullPolicy::Never,
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        security: ContainerSecurity { seccomp: SeccompProfile::RuntimeDefault, ..ContainerSecurity::default() },
        ..named
    }
}

fn pod() -> PodDesired {
    let key = PodKey::new("default", "p").unwrap();
    PodDesired { hostname: "pod-host".into(), ..PodDesired::new(PodUid::new("u-1").unwrap(), key) }
}
