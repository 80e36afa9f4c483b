//! A container's cgroup: where it is and what it is given, as the kubelet computes it.

use crate::error::Error;
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder,
};
use orlop_model::{ContainerId, ContainerResources, PodUid, QosClass};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// kubelet's `MinShares` and `MaxShares` (cm/helpers_linux.go).
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
/// kubelet's `QuotaPeriod` and `MinQuotaPeriod`, in microseconds.
const PERIOD_US: u64 = 100_000;
const QUOTA_US_MIN: u64 = 1_000;

/// Which cgroup interface the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// Controllers on v1, with or without a v2 hierarchy beside them.
    V1,
    /// Only v2.
    V2,
}

impl CgroupVersion {
    /// Looks at `/sys/fs/cgroup`, as libcontainer does.
    ///
    /// # Errors
    /// Nothing is mounted there.
    pub fn detect() -> Result<Self, Error> {
        use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
        let fs = statfs("/sys/fs/cgroup").map_err(|errno| Error::file("stat", "/sys/fs/cgroup")(errno.into()))?;
        Ok(if fs.filesystem_type() == CGROUP2_SUPER_MAGIC { Self::V2 } else { Self::V1 })
    }
}

/// The pod's cgroup below the agent's own root, the kubelet's cgroupfs names:
/// `ROOT/kubepods[/burstable|/besteffort]/podUID`.
#[must_use]
pub fn pod_cgroup(root: &Path, qos: QosClass, uid: &PodUid) -> PathBuf {
    let kubepods = root.join("kubepods");
    let class = match qos {
        QosClass::Guaranteed => kubepods,
        QosClass::Burstable => kubepods.join("burstable"),
        QosClass::BestEffort => kubepods.join("besteffort"),
    };
    class.join(format!("pod{uid}"))
}

/// The container's, below the pod's: `linux.cgroupsPath`, absolute, relative to
/// each hierarchy's mount point.
#[must_use]
pub fn container_cgroup(root: &Path, qos: QosClass, uid: &PodUid, id: &ContainerId) -> PathBuf {
    Path::new("/").join(pod_cgroup(root, qos, uid)).join(id.as_str())
}

/// `cpu.shares` for thousandths of a CPU (`MilliCPUToShares`).
#[must_use]
pub fn cpu_shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

/// Microseconds of each period of 100 ms (`MilliCPUToQuota`); `None` is no limit.
#[must_use]
pub fn cpu_quota_us(milli: Option<u64>) -> Option<u64> {
    milli.filter(|&m| m > 0).map(|m| (m.saturating_mul(PERIOD_US) / 1000).max(QUOTA_US_MIN))
}

/// `oom_score_adj` (kubelet's `qos.GetContainerOOMScoreAdjust`): the less of the
/// node's memory a burstable container asks for, the sooner it goes.
#[must_use]
pub fn oom_score_adj(qos: QosClass, memory_request: Option<u64>, node_memory_bytes: u64) -> i32 {
    match qos {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let share = u128::from(memory_request.unwrap_or(0)) * 1000 / u128::from(node_memory_bytes.max(1));
            // Above guaranteed pods' 1000 - 997, below best-effort ones.
            (1000 - i32::try_from(share.min(1000)).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

/// `linux.resources`. A CPU request that is not said is the limit, and else the
/// least there is. Groups as few controllers as are needed: on v1 each costs a
/// move of the container's first process.
///
/// # Errors
/// Never with these values; the builder's error otherwise.
pub fn resources(
    wanted: &ContainerResources,
    pids_limit: Option<u64>,
    privileged: bool,
    version: CgroupVersion,
) -> Result<LinuxResources, Error> {
    let request = wanted.cpu_request_milli.or(wanted.cpu_limit_milli).unwrap_or(0);
    let mut cpu = LinuxCpuBuilder::default().shares(cpu_shares(request));
    if let Some(quota) = cpu_quota_us(wanted.cpu_limit_milli) {
        cpu = cpu.quota(i64::try_from(quota).unwrap_or(i64::MAX)).period(PERIOD_US);
    }
    let mut built = LinuxResourcesBuilder::default().cpu(cpu.build().map_err(spec_error)?);
    if let Some(limit) = wanted.memory_limit.filter(|&l| l > 0) {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        built = built.memory(LinuxMemoryBuilder::default().limit(limit).build().map_err(spec_error)?);
        if version == CgroupVersion::V2 {
            // As the kubelet since 1.28: one process over the limit takes the whole
            // container with it, so that none is left half alive.
            let group = HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
            built = built.unified(group);
        }
    }
    if let Some(limit) = pids_limit {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        built = built.pids(LinuxPidsBuilder::default().limit(limit).build().map_err(spec_error)?);
    }
    // Everything is refused but what libcontainer adds: /dev/{null,zero,full,tty,…}.
    built.devices(vec![all_devices(privileged)?]).build().map_err(spec_error)
}

fn all_devices(allow: bool) -> Result<LinuxDeviceCgroup, Error> {
    LinuxDeviceCgroupBuilder::default().allow(allow).access("rwm").build().map_err(spec_error)
}

fn spec_error(error: oci_spec::OciSpecError) -> Error {
    Error::Config(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_kubelets() {
        let uid = PodUid::new("u-1").unwrap();
        let id = ContainerId::new("a".repeat(64)).unwrap();
        let check = |qos, want: &str| {
            let got = container_cgroup(Path::new("orlop"), qos, &uid, &id);
            assert_eq!(got, Path::new(want).join(id.as_str()));
        };
        check(QosClass::Guaranteed, "/orlop/kubepods/podu-1");
        check(QosClass::Burstable, "/orlop/kubepods/burstable/podu-1");
        check(QosClass::BestEffort, "/orlop/kubepods/besteffort/podu-1");
    }

    #[test]
    fn shares_and_quota() {
        let check = |milli, shares, quota| {
            assert_eq!((cpu_shares(milli), cpu_quota_us(Some(milli))), (shares, quota), "{milli}m");
        };
        check(0, 2, None);
        check(1, 2, Some(1000));
        check(100, 102, Some(10_000));
        check(1000, 1024, Some(100_000));
        check(2500, 2560, Some(250_000));
        check(10_000_000, 262_144, Some(1_000_000_000));
    }

    #[test]
    fn oom_scores_of_the_kubelet() {
        let gib = 1 << 30;
        let check = |qos, request, want| assert_eq!(oom_score_adj(qos, request, 8 * gib), want, "{qos:?} {request:?}");
        check(QosClass::Guaranteed, Some(gib), -997);
        check(QosClass::BestEffort, None, 1000);
        check(QosClass::Burstable, None, 999);
        check(QosClass::Burstable, Some(gib), 875);
        check(QosClass::Burstable, Some(8 * gib), 3);
        check(QosClass::Burstable, Some(80 * gib), 3);
    }
}
