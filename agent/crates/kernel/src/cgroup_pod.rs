//! One pod's cgroup in every hierarchy: limits, processes, events, removal.

use crate::cgroup::child_names;
use crate::cgroup_weight::{cpu_quota, cpu_shares, cpu_weight};
use crate::{KernelError, Pidfd, PopulatedWatch, file};
use nix::sys::signal::Signal;
use orlop_model::{ContainerId, PodResources};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// cgroup2 with the controllers.
    V2,
    /// cgroup2 beside v1: it carries eBPF and events only.
    UnifiedOnly,
    /// v1 with these controllers.
    V1(Vec<String>),
}

/// A cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dir {
    pub path: PathBuf,
    pub kind: Kind,
}

impl Dir {
    /// Writes one value; a file that is not there means that its controller is not.
    pub(crate) fn set(&self, controller: &'static str, name: &str, value: &str) -> Result<(), KernelError> {
        match file::write(&self.path.join(name), value) {
            Err(KernelError::Open { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(KernelError::NoController { controller, cgroup: self.path.clone() })
            }
            outcome => outcome,
        }
    }
}

/// A pod's cgroup. The value is only a name; the cgroup may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCgroup {
    dirs: Vec<Dir>,
    /// From the hierarchies' mounts, absolute.
    path: PathBuf,
}

impl PodCgroup {
    pub(crate) fn new(dirs: Vec<Dir>, path: PathBuf) -> Self {
        Self { dirs, path }
    }

    /// The path below every hierarchy's mount, for example `/orlop/kubepods/burstable/pod<UID>`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A container's `linux.cgroupsPath`: [`PodCgroup::path`] and its id. Absolute,
    /// because a relative one would start at the caller's own cgroup.
    #[must_use]
    pub fn oci_path(&self, container: &ContainerId) -> PathBuf {
        self.path.join(container.as_str())
    }

    /// The pod's cgroup2 folder; `None` on pure v1.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.dirs.iter().find(|dir| !matches!(dir.kind, Kind::V1(_))).map(|dir| dir.path.as_path())
    }

    /// The pod's cgroup2 id as `bpf_get_current_ancestor_cgroup_id` gives it: the
    /// inode of the folder (kernfs makes them the same on 64-bit machines).
    ///
    /// # Errors
    /// The cgroup is not there. `None` on pure v1.
    pub fn id(&self) -> Result<Option<u64>, KernelError> {
        let Some(path) = self.unified() else { return Ok(None) };
        let meta = fs::metadata(path).map_err(|source| KernelError::Read { path: path.to_owned(), source })?;
        Ok(Some(meta.ino()))
    }

    /// On a hybrid host makes the container's cgroup2 folder and gives its
    /// `cgroup.procs`, into which its init has to be written; elsewhere nothing,
    /// because the runtime does it all.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn container_procs(&self, container: &ContainerId) -> Result<Vec<PathBuf>, KernelError> {
        let mut procs = Vec::new();
        for dir in self.dirs.iter().filter(|dir| dir.kind == Kind::UnifiedOnly) {
            let path = dir.path.join(container.as_str());
            match fs::create_dir(&path) {
                Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                    return Err(KernelError::MakeDir { path, source });
                }
                _ => procs.push(path.join("cgroup.procs")),
            }
        }
        Ok(procs)
    }

    /// Removes what is left of one container's cgroup, killing its processes.
    ///
    /// # Errors
    /// As [`PodCgroup::remove`].
    pub fn remove_container(&self, container: &ContainerId, at_most: Duration) -> Result<(), KernelError> {
        let below = |dir: &Dir| Dir { path: dir.path.join(container.as_str()), kind: dir.kind.clone() };
        remove_dirs(&self.dirs.iter().map(below).collect::<Vec<_>>(), at_most)
    }

    /// Sets the pod's limits; what is `None` becomes unlimited.
    ///
    /// # Errors
    /// Names file and value.
    pub fn set_limits(&self, resources: &PodResources, pids_max: Option<u64>) -> Result<(), KernelError> {
        for dir in &self.dirs {
            match &dir.kind {
                Kind::V2 => set_v2(dir, resources, pids_max)?,
                Kind::V1(controllers) => {
                    for controller in controllers {
                        set_v1(dir, controller, resources, pids_max)?;
                    }
                }
                Kind::UnifiedOnly => {}
            }
        }
        Ok(())
    }

    /// Processes in the pod's cgroup and below, in any hierarchy, sorted.
    ///
    /// # Errors
    /// A file cannot be read; a cgroup that is gone has no processes.
    pub fn processes(&self) -> Result<Vec<i32>, KernelError> {
        all_processes(&self.dirs)
    }

    /// Sends SIGKILL to every process of the pod, once; does not wait.
    ///
    /// # Errors
    /// Names the file or process.
    pub fn kill(&self) -> Result<(), KernelError> {
        kill_dirs(&self.dirs)
    }

    /// How often the kernel's OOM killer struck in the pod's cgroup and below.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn oom_kills(&self) -> Result<u64, KernelError> {
        let mut kills = 0;
        for dir in &self.dirs {
            match &dir.kind {
                Kind::V2 => kills += counter(&dir.path.join("memory.events"), "oom_kill")?,
                // v1 counts each cgroup alone.
                Kind::V1(controllers) if controllers.iter().any(|c| c == "memory") => {
                    for cgroup in tree(&dir.path)? {
                        kills += counter(&cgroup.join("memory.oom_control"), "oom_kill")?;
                    }
                }
                Kind::V1(_) | Kind::UnifiedOnly => {}
            }
        }
        Ok(kills)
    }

    /// Watches whether the pod has processes, on the cgroup2 hierarchy. `None` on pure v1.
    ///
    /// # Errors
    /// The cgroup is not there.
    pub fn watch_populated(&self) -> Result<Option<PopulatedWatch>, KernelError> {
        self.unified().map(PopulatedWatch::open).transpose()
    }

    /// Kills what is left and removes the cgroup with all below it, in every
    /// hierarchy. Blocks at most about `at_most`. A cgroup that is gone is fine.
    ///
    /// # Errors
    /// Processes outlive `at_most` (in uninterruptible sleep), or a folder stays.
    pub fn remove(&self, at_most: Duration) -> Result<(), KernelError> {
        remove_dirs(&self.dirs, at_most)
    }
}

fn set_v2(dir: &Dir, resources: &PodResources, pids_max: Option<u64>) -> Result<(), KernelError> {
    let or_max = |limit: Option<u64>| limit.map_or_else(|| "max".to_owned(), |n| n.to_string());
    dir.set("cpu", "cpu.weight", &cpu_weight(cpu_shares(resources.cpu_request_milli)).to_string())?;
    let quota = resources.cpu_limit_milli.and_then(cpu_quota);
    let max = quota.map_or_else(|| "max".to_owned(), |max| format!("{} {}", max.quota_us, max.period_us));
    dir.set("cpu", "cpu.max", &max)?;
    dir.set("memory", "memory.max", &or_max(resources.memory_limit))?;
    // As the kubelet's default, NoSwap: a limit on memory would else be none on a node
    // that swaps. A kernel without CONFIG_SWAP has no such file.
    if dir.path.join("memory.swap.max").exists() {
        dir.set("memory", "memory.swap.max", "0")?;
    }
    dir.set("pids", "pids.max", &or_max(pids_max))
}

fn set_v1(dir: &Dir, controller: &str, resources: &PodResources, pids_max: Option<u64>) -> Result<(), KernelError> {
    match controller {
        "cpu" => {
            dir.set("cpu", "cpu.shares", &cpu_shares(resources.cpu_request_milli).to_string())?;
            match resources.cpu_limit_milli.and_then(cpu_quota) {
                None => dir.set("cpu", "cpu.cfs_quota_us", "-1"),
                Some(max) => {
                    dir.set("cpu", "cpu.cfs_period_us", &max.period_us.to_string())?;
                    dir.set("cpu", "cpu.cfs_quota_us", &max.quota_us.to_string())
                }
            }
        }
        "memory" => {
            let limit = resources.memory_limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
            dir.set("memory", "memory.limit_in_bytes", &limit)
        }
        "pids" => dir.set("pids", "pids.max", &pids_max.map_or_else(|| "max".to_owned(), |n| n.to_string())),
        _ => Ok(()),
    }
}

/// The cgroup and all below it, parents first; empty when it is gone.
fn tree(cgroup: &Path) -> Result<Vec<PathBuf>, KernelError> {
    if !cgroup.is_dir() {
        return Ok(Vec::new());
    }
    let mut all = vec![cgroup.to_owned()];
    let mut next = 0;
    while let Some(at) = all.get(next).cloned() {
        next += 1;
        all.extend(child_names(&at)?.into_iter().map(|name| at.join(name)));
    }
    Ok(all)
}

/// A cgroup that disappears under the reader reads as nothing.
fn read_or_gone(path: &Path) -> Result<String, KernelError> {
    match file::read(path) {
        Err(KernelError::Read { source, .. })
            if source.kind() == ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(String::new())
        }
        outcome => outcome,
    }
}

fn counter(path: &Path, key: &str) -> Result<u64, KernelError> {
    let text = read_or_gone(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    Ok(value.unwrap_or(0))
}

fn all_processes(dirs: &[Dir]) -> Result<Vec<i32>, KernelError> {
    let mut pids = BTreeSet::new();
    for dir in dirs {
        for cgroup in tree(&dir.path)? {
            let text = read_or_gone(&cgroup.join("cgroup.procs"))?;
            // A process of another pid namespace reads as 0.
            pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|&pid: &i32| pid > 0));
        }
    }
    Ok(pids.into_iter().collect())
}

fn kill_dirs(dirs: &[Dir]) -> Result<(), KernelError> {
    for dir in dirs.iter().filter(|dir| !matches!(dir.kind, Kind::V1(_))) {
        match file::write(&dir.path.join("cgroup.kill"), "1") {
            // Gone, or a kernel before 5.14: the pids below do it.
            Err(KernelError::Open { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) if error.errno() == Some(libc::ENODEV) => {}
            outcome => outcome?,
        }
    }
    all_processes(dirs)?.into_iter().try_for_each(|pid| match Pidfd::open(pid) {
        Ok(process) => process.signal(Signal::SIGKILL),
        Err(error) if error.errno() == Some(libc::ESRCH) => Ok(()),
        Err(error) => Err(error),
    })
}

pub(crate) fn remove_dirs(dirs: &[Dir], at_most: Duration) -> Result<(), KernelError> {
    let start = Instant::now();
    loop {
        kill_dirs(dirs)?;
        let left = all_processes(dirs)?;
        for &pid in &left {
            let rest = at_most.saturating_sub(start.elapsed());
            match Pidfd::open(pid) {
                Ok(process) => drop(process.wait_blocking(rest)?),
                Err(error) if error.errno() == Some(libc::ESRCH) => {}
                Err(error) => return Err(error),
            }
        }
        let busy = remove_empty(dirs)?;
        let waited = start.elapsed();
        match busy {
            None => return Ok(()),
            Some(cgroup) if waited >= at_most => {
                return Err(KernelError::CgroupBusy { cgroup, pids: left, waited_ms: waited.as_millis() });
            }
            // An exiting process leaves its cgroup a moment after its pidfd says that it
            // has ended; nothing tells of that on v1.
            Some(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Removes children before parents; gives the first that is still busy.
fn remove_empty(dirs: &[Dir]) -> Result<Option<PathBuf>, KernelError> {
    let mut busy = None;
    for dir in dirs {
        for cgroup in tree(&dir.path)?.into_iter().rev() {
            match fs::remove_dir(&cgroup) {
                Err(error) if is_busy(&error) => busy = busy.or(Some(cgroup)),
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(KernelError::Remove { path: cgroup, source });
                }
                _ => {}
            }
        }
    }
    Ok(busy)
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written on pure v2, which not every machine that runs this has.
    #[test]
    fn v2_limits() {
        let none = PodResources::default();
        let some = PodResources {
            cpu_request_milli: 1000,
            cpu_limit_milli: Some(2500),
            memory_request: 1,
            memory_limit: Some(4096),
        };
        for (resources, pids, expected) in
            [(none, None, ["1", "max", "max", "max"]), (some, Some(10), ["100", "250000 100000", "4096", "10"])]
        {
            let temp = tempfile::tempdir().unwrap();
            let names = ["cpu.weight", "cpu.max", "memory.max", "pids.max"];
            names.iter().for_each(|name| fs::write(temp.path().join(name), "").unwrap());
            let dir = Dir { path: temp.path().to_owned(), kind: Kind::V2 };
            let cgroup = PodCgroup::new(vec![dir], "/x".into());
            cgroup.set_limits(&resources, pids).unwrap();
            let written = names.map(|name| fs::read_to_string(temp.path().join(name)).unwrap());
            assert_eq!(written, expected);
            assert!(!temp.path().join("memory.swap.max").exists(), "a file that the kernel does not have");
            fs::write(temp.path().join("memory.swap.max"), "").unwrap();
            cgroup.set_limits(&resources, pids).unwrap();
            assert_eq!(fs::read_to_string(temp.path().join("memory.swap.max")).unwrap(), "0");

            fs::remove_file(temp.path().join("memory.max")).unwrap();
            let error = cgroup.set_limits(&resources, pids).unwrap_err().to_string();
            assert!(error.starts_with("cgroup controller memory is not available in /"), "{error}");
        }
    }

    #[test]
    fn v2_oom_kills() {
        let temp = tempfile::tempdir().unwrap();
        let events = "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n";
        fs::write(temp.path().join("memory.events"), events).unwrap();
        let dir = Dir { path: temp.path().to_owned(), kind: Kind::V2 };
        assert_eq!(PodCgroup::new(vec![dir], "/x".into()).oom_kills().unwrap(), 3);
    }
}
