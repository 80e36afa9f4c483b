//! Which cgroup hierarchies this machine has mounted.

use crate::{KernelError, MountPoint, file, parse_mountinfo};
use std::path::{Path, PathBuf};

/// How controllers are spread over hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupLayout {
    /// cgroup2 alone, with the controllers. What Orlop is for.
    V2,
    /// v1 controllers, and a cgroup2 beside them without any.
    Hybrid,
    /// v1 alone: no place to attach eBPF to.
    V1,
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct V1Hierarchy {
    pub mount: PathBuf,
    /// `cpu` and `cpuacct` may share one.
    pub controllers: Vec<String>,
}

/// The mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMounts {
    pub(crate) unified: Option<PathBuf>,
    pub(crate) v1: Vec<V1Hierarchy>,
}

/// Controllers a node's cgroups are made in on v1.
const V1_CONTROLLERS: [&str; 10] =
    ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "blkio", "freezer", "hugetlb", "perf_event"];

impl CgroupMounts {
    /// Looks at this process's mounts.
    ///
    /// # Errors
    /// `/proc` is not mounted, or no hierarchy is.
    pub fn detect() -> Result<Self, KernelError> {
        let mounts = parse_mountinfo(&file::read(Path::new("/proc/self/mountinfo"))?);
        Self::from_mounts(&mounts).ok_or(KernelError::NoCgroups)
    }

    /// Finds the hierarchies among mounts; the first mount of each counts. Named v1
    /// hierarchies (systemd's) are left out.
    #[must_use]
    pub fn from_mounts(mounts: &[MountPoint]) -> Option<Self> {
        let unified = mounts.iter().find(|mount| mount.fs_type == "cgroup2").map(|mount| mount.target.clone());
        let mut v1: Vec<V1Hierarchy> = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.fs_type == "cgroup") {
            let known = |option: &&str| V1_CONTROLLERS.contains(option);
            let controllers: Vec<String> = mount.super_options.split(',').filter(known).map(str::to_owned).collect();
            if !controllers.is_empty() && !v1.iter().any(|had| had.controllers == controllers) {
                v1.push(V1Hierarchy { mount: mount.target.clone(), controllers });
            }
        }
        (unified.is_some() || !v1.is_empty()).then_some(Self { unified, v1 })
    }

    /// How controllers are spread.
    #[must_use]
    pub fn layout(&self) -> CgroupLayout {
        match (&self.unified, self.v1.is_empty()) {
            (Some(_), true) => CgroupLayout::V2,
            (Some(_), false) => CgroupLayout::Hybrid,
            (None, _) => CgroupLayout::V1,
        }
    }

    /// Where cgroup2 is mounted.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, layout: Option<CgroupLayout>, v1: usize) {
        let found = CgroupMounts::from_mounts(&parse_mountinfo(text));
        assert_eq!(found.as_ref().map(CgroupMounts::layout), layout, "{text}");
        assert_eq!(found.map_or(0, |mounts| mounts.v1.len()), v1, "{text}");
    }

    #[test]
    fn layouts() {
        check("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", Some(CgroupLayout::V2), 0);
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        check(hybrid, Some(CgroupLayout::Hybrid), 2);
        check("35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", Some(CgroupLayout::V1), 1);
        check("1 0 0:1 / / rw - ext4 /dev/vda rw\n", None, 0);
    }
}
