//! The node's cgroups: a root below every hierarchy's mount, the kubelet's QoS
//! hierarchy in it, and leaves for processes that are not pods.

use crate::cgroup_layout::CgroupLayout;
use crate::cgroup_pod::{Dir, Kind, PodCgroup, remove_dirs};
use crate::cgroup_weight::{cpu_shares, cpu_weight};
use crate::{CgroupMounts, KernelError, file};
use orlop_model::{PodResources, PodUid, QosClass};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Controllers that are handed down on v2, where they are to be had.
const V2_CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The leaf of the pods' monitors; the name must be clear at the top of a hierarchy, too.
const MONITORS: &str = "orlop-monitors";

/// The node's place in every hierarchy.
#[derive(Debug, Clone)]
pub struct CgroupRoot {
    mounts: CgroupMounts,
    /// Without the leading slash; empty for `/`.
    root: PathBuf,
}

impl CgroupRoot {
    /// Makes the root (`/` or a path below every hierarchy's mount) where it is not there yet.
    ///
    /// # Errors
    /// The path is not absolute or has `..`, or a cgroup cannot be made.
    pub fn open(mounts: CgroupMounts, root: &Path) -> Result<Self, KernelError> {
        let bad = |part: Component<'_>| matches!(part, Component::ParentDir | Component::CurDir);
        let Ok(relative) = root.strip_prefix("/") else {
            return Err(KernelError::CgroupRoot { root: root.to_owned() });
        };
        if relative.components().any(bad) {
            return Err(KernelError::CgroupRoot { root: root.to_owned() });
        }
        let cgroups = Self { root: relative.to_owned(), mounts };
        cgroups.make(Path::new(""), true)?;
        Ok(cgroups)
    }

    /// How the machine's controllers are spread.
    #[must_use]
    pub fn layout(&self) -> CgroupLayout {
        self.mounts.layout()
    }

    /// The node's cgroup2 folder, for eBPF to attach to. `None` on pure v1. It is
    /// the hierarchy's root when the cgroup root is `/`: then every process of the
    /// machine is caught.
    #[must_use]
    pub fn unified(&self) -> Option<PathBuf> {
        self.mounts.unified.as_ref().map(|mount| mount.join(&self.root))
    }

    /// The folder of the pods' cgroup2, for eBPF that is to see pods only.
    #[must_use]
    pub fn unified_pods(&self) -> Option<PathBuf> {
        self.unified().map(|dir| dir.join("kubepods"))
    }

    /// Makes `kubepods`, `kubepods/burstable` and `kubepods/besteffort`.
    ///
    /// # Errors
    /// Names the cgroup.
    pub fn make_kubepods(&self) -> Result<(), KernelError> {
        self.make(Path::new("kubepods"), true)?;
        self.make(Path::new("kubepods/burstable"), true)?;
        self.make(Path::new("kubepods/besteffort"), true)?;
        // The kubelet's values: best effort gets the smallest share, burstable what its pods ask for.
        self.set_qos_cpu(QosClass::BestEffort, 0)
    }

    /// Sets the CPU share of a QoS class to the sum of its pods' requests (the
    /// kubelet does this for burstable pods whenever one comes or goes).
    ///
    /// # Errors
    /// Names the file.
    pub fn set_qos_cpu(&self, class: QosClass, request_milli: u64) -> Result<(), KernelError> {
        let shares = cpu_shares(request_milli);
        for dir in self.dirs(qos_path(class)) {
            match dir.kind {
                Kind::V2 => dir.set("cpu", "cpu.weight", &cpu_weight(shares).to_string())?,
                Kind::V1(ref of) if of.iter().any(|c| c == "cpu") => {
                    dir.set("cpu", "cpu.shares", &shares.to_string())?;
                }
                Kind::V1(_) | Kind::UnifiedOnly => {}
            }
        }
        Ok(())
    }

    /// Limits all pods together: thousandths of a CPU as a share, bytes of memory, and
    /// tasks. No CPU quota: what others leave idle, pods may use.
    ///
    /// # Errors
    /// Names file and value; v1 refuses a limit of memory that is in use already.
    pub fn limit_pods(&self, cpu_milli: u64, memory_bytes: u64, pids: u64) -> Result<(), KernelError> {
        let (shares, memory, pids) = (cpu_shares(cpu_milli), memory_bytes.to_string(), pids.to_string());
        for dir in self.dirs("kubepods") {
            match &dir.kind {
                Kind::V2 => {
                    dir.set("cpu", "cpu.weight", &cpu_weight(shares).to_string())?;
                    dir.set("memory", "memory.max", &memory)?;
                    dir.set("pids", "pids.max", &pids)?;
                }
                Kind::V1(of) => {
                    let has = |controller| of.iter().any(|c| c == controller);
                    if has("cpu") {
                        dir.set("cpu", "cpu.shares", &shares.to_string())?;
                    }
                    if has("memory") {
                        dir.set("memory", "memory.limit_in_bytes", &memory)?;
                    }
                    if has("pids") {
                        dir.set("pids", "pids.max", &pids)?;
                    }
                }
                Kind::UnifiedOnly => {}
            }
        }
        Ok(())
    }

    /// Makes a pod's cgroup (again is fine) and sets its limits. `pids_max` is the
    /// node's `podPidsLimit`.
    ///
    /// # Errors
    /// Names cgroup, file and value.
    pub fn make_pod(
        &self,
        pod: &PodUid,
        class: QosClass,
        resources: &PodResources,
        pids_max: Option<u64>,
    ) -> Result<PodCgroup, KernelError> {
        let cgroup = self.pod(pod, class);
        self.make(&pod_path(pod, class), true)?;
        cgroup.set_limits(resources, pids_max)?;
        Ok(cgroup)
    }

    /// A pod's cgroup, whether it is there or not.
    #[must_use]
    pub fn pod(&self, pod: &PodUid, class: QosClass) -> PodCgroup {
        let path = pod_path(pod, class);
        PodCgroup::new(self.dirs(&path), Path::new("/").join(&self.root).join(path))
    }

    /// The pods that have a cgroup in any hierarchy.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn list_pods(&self) -> Result<Vec<(PodUid, QosClass)>, KernelError> {
        let mut found = Vec::new();
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for dir in self.dirs(qos_path(class)) {
                for name in child_names(&dir.path)? {
                    let uid = name.strip_prefix("pod").and_then(|uid| PodUid::new(uid).ok());
                    if let Some(uid) = uid.filter(|uid| !found.iter().any(|(had, _)| had == uid)) {
                        found.push((uid, class));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Makes a leaf beside the pods and gives its `cgroup.procs` files, one a hierarchy:
    /// a process that writes itself (`0`) into each has left its starter's cgroups.
    /// The agent puts itself into `agent` and its monitors into `monitors`.
    ///
    /// # Errors
    /// Names the cgroup.
    pub fn leaf(&self, name: &str) -> Result<Vec<PathBuf>, KernelError> {
        self.make(Path::new(name), false)?;
        Ok(self.dirs(name).into_iter().map(|dir| dir.path.join("cgroup.procs")).collect())
    }

    /// The `orlop-monitors` leaf, outside the pods.
    ///
    /// # Errors
    /// Names the cgroup.
    pub fn monitors(&self) -> Result<Vec<PathBuf>, KernelError> {
        self.leaf(MONITORS)
    }

    /// Removes the pods' and the monitors' cgroups, killing what still runs in them;
    /// the root itself stays.
    ///
    /// # Errors
    /// Something outlives `at_most`.
    pub fn remove_pods(&self, at_most: Duration) -> Result<(), KernelError> {
        remove_dirs(&self.dirs("kubepods"), at_most)?;
        remove_dirs(&self.dirs(MONITORS), at_most)
    }

    /// Removes the root with everything in it, killing what still runs. For
    /// nodes that own their root: demonstrations and tests. Refuses `/`.
    ///
    /// # Errors
    /// The root is `/`, or something outlives `at_most`.
    pub fn remove_all(&self, at_most: Duration) -> Result<(), KernelError> {
        if self.root.as_os_str().is_empty() {
            return Err(KernelError::CgroupRoot { root: PathBuf::from("/") });
        }
        remove_dirs(&self.dirs(""), at_most)
    }

    fn dirs(&self, below: impl AsRef<Path>) -> Vec<Dir> {
        let place = |mount: &Path| mount.join(&self.root).join(below.as_ref());
        let kind = if self.mounts.v1.is_empty() { Kind::V2 } else { Kind::UnifiedOnly };
        let unified = self.mounts.unified.iter().map(|mount| Dir { path: place(mount), kind: kind.clone() });
        let v1 = self.mounts.v1.iter();
        unified.chain(v1.map(|h| Dir { path: place(&h.mount), kind: Kind::V1(h.controllers.clone()) })).collect()
    }

    /// Makes one cgroup in every hierarchy. On v2 every ancestor hands its controllers
    /// down, and so does the new one if it is to have children.
    fn make(&self, below: &Path, inner: bool) -> Result<(), KernelError> {
        let path = self.root.join(below);
        if let Some(mount) = &self.mounts.unified {
            let enable = self.mounts.v1.is_empty();
            let mut at = mount.clone();
            for part in path.components() {
                if enable {
                    hand_down(&at)?;
                }
                at.push(part);
                make_dir(&at)?;
            }
            if enable && inner {
                hand_down(&at)?;
            }
        }
        for hierarchy in &self.mounts.v1 {
            let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
            let mut at = hierarchy.mount.clone();
            for part in path.components() {
                let parent = at.clone();
                at.push(part);
                make_dir(&at)?;
                if cpuset {
                    inherit_cpuset(&parent, &at)?;
                }
            }
        }
        Ok(())
    }
}

fn qos_path(class: QosClass) -> &'static Path {
    Path::new(match class {
        QosClass::Guaranteed => "kubepods",
        QosClass::Burstable => "kubepods/burstable",
        QosClass::BestEffort => "kubepods/besteffort",
    })
}

fn pod_path(pod: &PodUid, class: QosClass) -> PathBuf {
    qos_path(class).join(format!("pod{pod}"))
}

fn make_dir(path: &Path) -> Result<(), KernelError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            Err(KernelError::MakeDir { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

pub(crate) fn child_names(dir: &Path) -> Result<Vec<String>, KernelError> {
    let failed = |source| KernelError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// Enables in `cgroup.subtree_control` what `cgroup.controllers` offers and is not
/// enabled yet.
fn hand_down(cgroup: &Path) -> Result<(), KernelError> {
    let offered = file::read(&cgroup.join("cgroup.controllers"))?;
    let control = cgroup.join("cgroup.subtree_control");
    let enabled = file::read(&control)?;
    let has = |list: &str, controller: &str| list.split_whitespace().any(|c| c == controller);
    let missing: Vec<String> = V2_CONTROLLERS
        .iter()
        .filter(|c| has(&offered, c) && !has(&enabled, c))
        .map(|controller| format!("+{controller}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    file::write(&control, &missing.join(" ")).map_err(|error| match error.errno() {
        Some(libc::EBUSY) => KernelError::CgroupInhabited { cgroup: cgroup.to_owned() },
        _ => error,
    })
}

/// A new v1 cpuset has no CPUs and no memory nodes, and no process may enter it so.
/// Looked at each time: a crash may have come between making the cgroup and this.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<(), KernelError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(&child.join(name))?.trim().is_empty() {
            file::write(&child.join(name), file::read(&parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cgroup2's files are what is written here, so plain files show what would be.
    #[test]
    fn only_what_is_offered_and_missing_is_handed_down() {
        for (offered, enabled, written) in [
            ("cpuset cpu io memory pids rdma", "", "+cpuset +cpu +io +memory +pids"),
            ("cpu memory pids", "cpu pids", "+memory"),
            ("cpu memory", "memory cpu", "memory cpu"),
            ("", "", ""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("cgroup.controllers"), offered).unwrap();
            let control = dir.path().join("cgroup.subtree_control");
            fs::write(&control, enabled).unwrap();
            hand_down(dir.path()).unwrap();
            // The kernel takes each write by itself; a plain file keeps the tail of what was there.
            assert!(fs::read_to_string(&control).unwrap().starts_with(written), "{offered} / {enabled}");
        }
    }
}
