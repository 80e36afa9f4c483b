//! From Kubernetes' milli-CPUs to the kernel's shares, weights and quotas.

/// A CPU bandwidth limit, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax {
    /// Run time in each period.
    pub quota_us: u64,
    /// Period.
    pub period_us: u64,
}

/// cgroup v1 `cpu.shares`, as kubelet's `MilliCPUToShares`
/// (pkg/kubelet/cm/helpers_linux.go): 1024 a CPU, from 2 to 262144.
#[must_use]
pub fn cpu_shares(milli_cpu: u64) -> u64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// cgroup v2 `cpu.weight` for v1 `shares`, as opencontainers/cgroups since v0.0.3
/// (`ConvertCPUSharesToCgroupV2Value`; runc 1.3.2, crun 1.23): a quadratic in log2 through (2, 1), (1024, 100) and (262144, 10000), so that one
/// CPU is systemd's default weight of 100. The linear formula of KEP-2254 gave it 39.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1 to 10,000
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// CPU limit as kubelet's `MilliCPUToQuota`: period 100 ms, quota at least 1 ms.
/// `None` for a limit of 0, which is no limit.
#[must_use]
pub fn cpu_quota(limit_milli: u64) -> Option<CpuMax> {
    const PERIOD_US: u64 = 100_000;
    const QUOTA_US_MIN: u64 = 1_000;
    let quota_us = (limit_milli.saturating_mul(PERIOD_US) / 1000).max(QUOTA_US_MIN);
    (limit_milli > 0).then_some(CpuMax { quota_us, period_us: PERIOD_US })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas() {
        for (milli, shares) in [(0, 2), (1, 2), (100, 102), (1000, 1024), (2500, 2560), (u64::MAX, 262_144)] {
            assert_eq!(cpu_shares(milli), shares, "{milli}m");
        }
        for (shares, weight) in
            [(0, 1), (2, 1), (3, 2), (102, 17), (1024, 100), (2000, 170), (22_000, 1204), (262_144, 10_000)]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares} shares");
        }
        for (milli, quota) in [(0, None), (1, Some(1000)), (10, Some(1000)), (500, Some(50_000)), (4000, Some(400_000))]
        {
            assert_eq!(cpu_quota(milli).map(|max| max.quota_us), quota, "{milli}m");
        }
    }
}
