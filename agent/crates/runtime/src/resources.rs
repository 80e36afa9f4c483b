//! What a container's cgroup is given, as the kubelet computes it.

use crate::error::Error;
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder,
};
use orlop_kernel::{CgroupLayout, cpu_quota, cpu_shares};
use orlop_model::{ContainerResources, QosClass};
use std::collections::HashMap;

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
    layout: CgroupLayout,
) -> Result<LinuxResources, Error> {
    let request = wanted.cpu_request_milli.or(wanted.cpu_limit_milli).unwrap_or(0);
    let mut cpu = LinuxCpuBuilder::default().shares(cpu_shares(request));
    if let Some(max) = wanted.cpu_limit_milli.and_then(cpu_quota) {
        cpu = cpu.quota(i64::try_from(max.quota_us).unwrap_or(i64::MAX)).period(max.period_us);
    }
    let mut built = LinuxResourcesBuilder::default().cpu(cpu.build().map_err(spec_error)?);
    if let Some(limit) = wanted.memory_limit.filter(|&l| l > 0) {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        built = built.memory(LinuxMemoryBuilder::default().limit(limit).build().map_err(spec_error)?);
    }
    if layout == CgroupLayout::V2 {
        // As the kubelet since 1.28, with a limit of its own or without (the pod's may be
        // hit): one process over the limit takes the whole container with it, so that none
        // is left half alive.
        let group = HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
        built = built.unified(group);
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
