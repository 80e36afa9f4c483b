//! What there is of a world: taken before its first pod and compared after its last.

use crate::namespaces::Namespaces;
use orlop_kernel::CgroupMounts;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroup hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Folders and places of a world.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Everything on disk is below it.
    pub dir: PathBuf,
    /// `--cgroup-root`.
    pub cgroup_root: String,
    /// `--bpf-dir`.
    pub bpf_dir: PathBuf,
}

impl Places {
    /// A folder below [`Places::dir`].
    pub fn sub(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The world's cgroup in each hierarchy that it is in.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let relative = self.cgroup_root.trim_start_matches('/');
        let hierarchies = fs::read_dir(CGROUPS).expect("read /sys/fs/cgroup").flatten().map(|entry| entry.path());
        // On pure v2 the mount itself is the hierarchy.
        let all = hierarchies.chain([PathBuf::from(CGROUPS)]).map(|mount| mount.join(relative));
        all.filter(|path| path.is_dir()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Everything a pod leaves its marks on, one line each.
pub(crate) fn inventory(places: &Places, node: &Namespaces) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for cgroup in places.cgroups() {
        walk(&cgroup, &mut |path| {
            if path.is_dir() {
                found.insert(format!("cgroup {}", path.display()));
                let monitor = path.ends_with("monitors");
                for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
                    let what = if monitor { "monitor" } else { "process" };
                    found.insert(format!("{what} {pid} in {}: {}", path.display(), command_line(pid)));
                }
            }
        });
    }
    found.extend(node.run(|| {
        let mut inside = BTreeSet::new();
        for name in links() {
            inside.insert(format!("link {name}"));
        }
        let of_tunnels: Vec<String> = tunnels().map(|index| format!("{index}-")).collect();
        walk(&places.bpf_dir, &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !of_tunnels.iter().any(|start| name.starts_with(start)) {
                inside.insert(format!("pin {}", path.display()));
            }
        });
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("read mountinfo");
        let below = places.dir.display().to_string();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        inside.extend(targets.filter(|target| target.starts_with(&below)).map(|target| format!("mount {target}")));
        for folder in ["run/pods", "root/pods", "state/pods", "state/containers", "log"] {
            for entry in fs::read_dir(places.sub(folder)).into_iter().flatten().flatten() {
                inside.insert(format!("file {}", entry.path().display()));
            }
        }
        inside
    }));
    found
}

/// Devices of the calling thread's network namespace. Tunnels to other nodes are there while
/// these are, whatever pods come and go.
fn links() -> Vec<String> {
    devices().into_iter().filter(|name| !is_tunnel(name)).collect()
}

fn is_tunnel(name: &str) -> bool {
    name.starts_with("orlop-vxlan")
}

fn devices() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").expect("read net/dev");
    table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Indices of the tunnels, with which their programs' pins begin.
fn tunnels() -> impl Iterator<Item = u32> {
    let tunnels = devices().into_iter().filter(|name| is_tunnel(name));
    tunnels.filter_map(|name| nix::net::if_::if_nametoindex(name.as_str()).ok())
}

fn command_line(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

fn walk(path: &Path, see: &mut dyn FnMut(&Path)) {
    if !path.exists() {
        return;
    }
    see(path);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let child = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&child, see);
        } else {
            see(&child);
        }
    }
}

/// Removes the node's own cgroups and pins, killing what still runs there.
pub(crate) fn remove(places: &Places, node: &Namespaces) -> Vec<String> {
    let mut errors = Vec::new();
    node.run(|| {
        if let Err(error) = orlop_datapath::remove_all(&places.bpf_dir) {
            errors.push(format!("remove the pins: {error}"));
        }
        let root = CgroupMounts::detect()
            .and_then(|mounts| orlop_kernel::CgroupRoot::open(mounts, Path::new(&places.cgroup_root)));
        match root.and_then(|root| root.remove_all(std::time::Duration::from_secs(10))) {
            Ok(()) => {}
            Err(error) => errors.push(format!("remove the cgroups: {error}")),
        }
    });
    errors
}

/// What a power cut takes: every process of the node's cgroups, the mounts below its
/// folders, and the run folder.
pub(crate) fn power_off(places: &Places, node: &Namespaces) {
    let alive = || {
        let mut pids = Vec::new();
        for cgroup in places.cgroups() {
            walk(&cgroup, &mut |path| {
                if path.ends_with("cgroup.procs") {
                    let text = fs::read_to_string(path).unwrap_or_default();
                    pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
                }
            });
        }
        pids
    };
    let dead = crate::wait_for(|| {
        let pids = alive();
        for pid in &pids {
            // One that is gone already is what is wanted.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        pids.is_empty().then_some(())
    });
    assert!(dead.is_some(), "processes outlive SIGKILL: {:?}", alive());
    node.run(|| {
        for folder in ["run", "root"] {
            orlop_kernel::detach_below(&places.sub(folder)).expect("unmount what is below");
        }
        orlop_kernel::detach_below(&places.sub("state/containers")).expect("unmount what is below");
        fs::remove_dir_all(places.sub("run")).expect("empty the run folder");
    });
}
