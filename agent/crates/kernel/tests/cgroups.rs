//! Cgroups with real processes, below a root of the test's own in every hierarchy.

use nix::sys::signal::Signal;
use orlop_kernel::{CgroupLayout, CgroupMounts, CgroupRoot, KernelError, Pidfd, PodCgroup};
use orlop_model::{ContainerId, PodResources, PodUid, QosClass};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const AT_MOST: Duration = Duration::from_secs(10);

/// A cgroup root that is removed when the test ends, also when it fails.
struct World {
    root: CgroupRoot,
}

impl World {
    fn new(name: &str) -> Self {
        let path = format!("/orlop-kernel-test-{}-{name}", std::process::id());
        let root = CgroupRoot::open(CgroupMounts::detect().unwrap(), Path::new(&path)).unwrap();
        root.make_kubepods().unwrap();
        Self { root }
    }

    fn pod(&self, uid: &str, resources: &PodResources) -> PodCgroup {
        self.root.make_pod(&PodUid::new(uid).unwrap(), QosClass::Burstable, resources, Some(77)).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let removed = self.root.remove_all(AT_MOST);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

fn container() -> ContainerId {
    ContainerId::new("c".repeat(64)).unwrap()
}

/// The folders of a cgroup path in all hierarchies.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = orlop_kernel::parse_mountinfo(&mounts);
    let hierarchies = mounts.iter().filter(|m| m.fs_type == "cgroup2" || m.fs_type == "cgroup");
    hierarchies.map(|mount| mount.target.join(path.strip_prefix("/").unwrap())).filter(|dir| dir.is_dir()).collect()
}

/// A `sleep` in a container's cgroup of every hierarchy, as the runtime would make it.
fn sleeper(pod: &PodCgroup) -> Child {
    pod.container_procs(&container()).unwrap();
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    for dir in folders(pod.path()) {
        let leaf = dir.join(container().as_str());
        if !leaf.exists() {
            fs::create_dir(&leaf).unwrap();
            for name in ["cpuset.cpus", "cpuset.mems"] {
                if leaf.join(name).exists() {
                    fs::write(leaf.join(name), fs::read_to_string(dir.join(name)).unwrap().trim()).unwrap();
                }
            }
        }
        fs::write(leaf.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    child
}

/// What a limit file says in whichever hierarchy has it.
fn says(pod: &PodCgroup, v1: &str, v2: &str) -> String {
    let dirs = folders(pod.path());
    let file = [v2, v1].iter().find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| path.exists()));
    fs::read_to_string(file.unwrap_or_else(|| panic!("neither {v1} nor {v2}"))).unwrap().trim().to_owned()
}

fn is_v2(world: &World) -> bool {
    world.root.layout() == CgroupLayout::V2
}

#[test]
fn a_pods_limits_are_set_changed_and_lifted() {
    let world = World::new("limits");
    let resources = PodResources {
        cpu_request_milli: 500,
        cpu_limit_milli: Some(1500),
        memory_request: 0,
        memory_limit: Some(64 << 20),
    };
    let pod = world.pod("limits", &resources);
    let v2 = is_v2(&world);
    assert_eq!(says(&pod, "cpu.shares", "cpu.weight"), if v2 { "59" } else { "512" });
    assert_eq!(says(&pod, "cpu.cfs_quota_us", "cpu.max"), if v2 { "150000 100000" } else { "150000" });
    assert_eq!(says(&pod, "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(says(&pod, "pids.max", "pids.max"), "77");
    pod.set_limits(&PodResources::default(), None).unwrap();
    assert_eq!(says(&pod, "cpu.cfs_quota_us", "cpu.max"), if v2 { "max 100000" } else { "-1" });
    assert_eq!(says(&pod, "pids.max", "pids.max"), "max");
    world.root.set_qos_cpu(QosClass::Burstable, 2000).unwrap();
    assert_eq!(world.pod("limits", &resources), pod, "making it again is fine");
}

#[test]
fn pods_are_listed_with_their_class_and_ids_are_inodes() {
    let world = World::new("list");
    let uid = |text: &str| PodUid::new(text).unwrap();
    let none = PodResources::default();
    for (name, class) in [("g", QosClass::Guaranteed), ("bu", QosClass::Burstable), ("be", QosClass::BestEffort)] {
        world.root.make_pod(&uid(name), class, &none, None).unwrap();
    }
    let expected =
        vec![(uid("g"), QosClass::Guaranteed), (uid("bu"), QosClass::Burstable), (uid("be"), QosClass::BestEffort)];
    assert_eq!(world.root.list_pods().unwrap(), expected);
    let (g, be) = (world.root.pod(&uid("g"), QosClass::Guaranteed), world.root.pod(&uid("be"), QosClass::BestEffort));
    assert!(g.path().ends_with("kubepods/podg") && be.path().ends_with("kubepods/besteffort/podbe"));
    assert_eq!(g.oci_path(&container()), g.path().join(container().as_str()));
    if g.unified().is_some() {
        assert_ne!(g.id().unwrap(), be.id().unwrap());
        assert!(be.unified().unwrap().starts_with(world.root.unified_pods().unwrap()));
    }
}

#[test]
fn removal_kills_what_runs_and_may_be_repeated() {
    let world = World::new("remove");
    let pod = world.pod("r", &PodResources::default());
    let mut child = sleeper(&pod);
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(pod.processes().unwrap(), [pid]);
    pod.remove_container(&container(), AT_MOST).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    let mut child = sleeper(&pod);
    pod.remove(AT_MOST).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(folders(pod.path()), Vec::<PathBuf>::new());
    pod.remove(AT_MOST).unwrap();
    pod.kill().unwrap();
    assert_eq!((pod.processes().unwrap(), pod.oom_kills().unwrap()), (vec![], 0));
    assert!(world.root.list_pods().unwrap().is_empty());
}

#[tokio::test]
async fn the_watch_wakes_when_the_last_process_ends() {
    let world = World::new("watch");
    let pod = world.pod("w", &PodResources::default());
    let mut child = sleeper(&pod);
    let watch = pod.watch_populated().unwrap().expect("a cgroup2 hierarchy");
    assert!(watch.populated().unwrap());
    let pidfd = Pidfd::open(i32::try_from(child.id()).unwrap()).unwrap();
    let empty = tokio::time::timeout(AT_MOST, watch.wait_empty());
    let kill = async {
        tokio::task::yield_now().await;
        pidfd.signal(Signal::SIGKILL).unwrap();
        pidfd.wait().await.unwrap();
    };
    let (empty, ()) = tokio::join!(empty, kill);
    empty.unwrap().unwrap();
    assert!(!watch.populated().unwrap());
    child.wait().unwrap();
    pod.remove(AT_MOST).unwrap();
    assert!(!watch.populated().unwrap(), "a cgroup that is gone has no processes");
}

#[test]
fn oom_kills_are_counted() {
    let world = World::new("oom");
    let limits = PodResources { memory_limit: Some(8 << 20), ..PodResources::default() };
    let pod = world.pod("oom", &limits);
    assert_eq!(pod.oom_kills().unwrap(), 0);
    // The shell waits until it is in its cgroup; then tail holds an endless line in memory.
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut child =
        Command::new("sh").args(["-c", "read x < \"$1\"; exec tail /dev/zero", "sh"]).arg(&gate).spawn().unwrap();
    let pid = child.id().to_string();
    for dir in folders(pod.path()) {
        // On v2 processes live in leaves only.
        let at = if is_v2(&world) { dir.join("leaf") } else { dir };
        if !at.exists() {
            fs::create_dir(&at).unwrap();
        }
        fs::write(at.join("cgroup.procs"), &pid).unwrap();
    }
    fs::write(&gate, "go\n").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status:?}");
    assert_eq!(pod.oom_kills().unwrap(), 1);
}

#[test]
fn leaves_take_processes_and_lie_outside_the_pods() {
    let world = World::new("leaf");
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let procs = world.root.monitors().unwrap();
    for file in &procs {
        fs::write(file, child.id().to_string()).unwrap();
        assert!(fs::read_to_string(file).unwrap().contains(&child.id().to_string()), "{}", file.display());
        assert!(file.ends_with("orlop-monitors/cgroup.procs") && !file.to_string_lossy().contains("kubepods"));
    }
    assert_eq!(world.root.monitors().unwrap(), procs);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn roots_that_leave_their_place_are_refused() {
    let mounts = CgroupMounts::detect().unwrap();
    for bad in ["relative", "/a/../b", ""] {
        let outcome = CgroupRoot::open(mounts.clone(), Path::new(bad));
        assert!(matches!(outcome, Err(KernelError::CgroupRoot { .. })), "{bad}");
    }
}

/// cgroup v2's rule of no inner processes; v1 and a hybrid's cgroup2 have none such.
#[test]
fn an_inhabited_root_is_named() {
    let world = World::new("inhabited");
    let path = format!("/orlop-kernel-test-{}-inhabited/agent", std::process::id());
    let procs = world.root.leaf("agent").unwrap();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    for file in &procs {
        fs::write(file, child.id().to_string()).unwrap();
    }
    let outcome = CgroupRoot::open(CgroupMounts::detect().unwrap(), Path::new(&path));
    match (world.root.layout(), outcome) {
        (CgroupLayout::V2, Err(KernelError::CgroupInhabited { cgroup })) => assert!(cgroup.ends_with("agent")),
        (CgroupLayout::Hybrid | CgroupLayout::V1, Ok(_)) => {}
        (layout, outcome) => panic!("{layout:?}: {outcome:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn pidfds_wait_and_signal() {
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let process = Pidfd::open(i32::try_from(child.id()).unwrap()).unwrap();
    assert!(!process.wait_blocking(Duration::ZERO).unwrap());
    process.signal(Signal::SIGTERM).unwrap();
    tokio::time::timeout(AT_MOST, process.wait()).await.unwrap().unwrap();
    assert!(process.wait_blocking(Duration::ZERO).unwrap());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    process.signal(Signal::SIGTERM).unwrap();
    assert_eq!(Pidfd::open(process.pid()).unwrap_err().errno(), Some(libc::ESRCH));
}

#[test]
fn all_pods_together_are_limited() {
    let world = World::new("together");
    // Again is fine, and so is another limit.
    for memory in [1 << 30, 2 << 30] {
        world.root.limit_pods(4000, memory, 1234).unwrap();
    }
    let pod = world.pod("p", &PodResources::default());
    let kubepods = pod.path().ancestors().nth(2).unwrap();
    let read = |names: [&str; 2]| {
        let values = folders(kubepods).into_iter().flat_map(|dir| names.map(|name| fs::read_to_string(dir.join(name))));
        values.flatten().map(|text| text.trim().to_owned()).next().unwrap_or_default()
    };
    assert_eq!(read(["memory.limit_in_bytes", "memory.max"]), (2_u64 << 30).to_string());
    assert_eq!(read(["pids.max", "pids.max"]), "1234");
    let weight = orlop_kernel::cpu_weight(4096).to_string();
    assert!(["4096", &weight].contains(&read(["cpu.shares", "cpu.weight"]).as_str()));
}
