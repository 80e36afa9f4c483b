//! What must hold between the fields, and the ranges of single ones: the kubelet's checks.

use crate::taint::check_taint;
use crate::{ConfigError, KubeletConfiguration};
use jiff::SignedDuration;
use std::path::Path;

const ENFORCEMENTS: [&str; 6] =
    ["none", "pods", "system-reserved", "system-reserved-compressible", "kube-reserved", "kube-reserved-compressible"];

/// Checks the whole.
///
/// # Errors
/// The first field that cannot be.
pub(crate) fn kubelet(config: &KubeletConfiguration, origin: &Path) -> Result<(), ConfigError> {
    let problem = ranges(config).or_else(|| relations(config)).or_else(|| lists(config));
    match problem {
        None => Ok(()),
        Some((field, problem)) => Err(ConfigError::Field {
            origin: origin.to_owned(),
            kind: "KubeletConfiguration",
            field: field.to_owned(),
            problem,
        }),
    }
}

type Problem = Option<(&'static str, String)>;

/// The first rule that does not hold.
fn first(rules: &[(bool, &'static str, &str)]) -> Problem {
    rules.iter().find(|(holds, ..)| !holds).map(|(_, field, rule)| (*field, (*rule).to_owned()))
}

fn ranges(config: &KubeletConfiguration) -> Problem {
    let second = SignedDuration::from_secs(1);
    let restart = config.crash_loop_back_off.max_container_restart_period;
    let shutdown = |time: SignedDuration| time.is_zero() || time >= second;
    first(&[
        (config.node_lease_duration_seconds > 0, "nodeLeaseDurationSeconds", "must be greater than 0"),
        (!config.node_status_update_frequency.is_negative(), "nodeStatusUpdateFrequency", "must not be negative"),
        (!config.node_status_report_frequency.is_negative(), "nodeStatusReportFrequency", "must not be negative"),
        (config.image_gc_high_threshold_percent <= 100, "imageGCHighThresholdPercent", "must be between 0 and 100"),
        (config.image_gc_low_threshold_percent <= 100, "imageGCLowThresholdPercent", "must be between 0 and 100"),
        (!config.image_minimum_gc_age.is_negative(), "imageMinimumGCAge", "must not be negative"),
        (!config.image_maximum_gc_age.is_negative(), "imageMaximumGCAge", "must not be negative"),
        ((-1000..=1000).contains(&config.oom_score_adj), "oomScoreAdj", "must be between -1000 and 1000"),
        (config.max_parallel_image_pulls != Some(0), "maxParallelImagePulls", "must be a positive number"),
        (config.container_log_max_files > 1, "containerLogMaxFiles", "must be greater than 1"),
        (config.container_log_max_size >= 4096, "containerLogMaxSize", "must be at least 4096 bytes"),
        (config.pod_logs_dir.is_absolute(), "podLogsDir", "must be an absolute path"),
        (
            restart >= second && restart <= second * 300,
            "crashLoopBackOff.maxContainerRestartPeriod",
            "must be between 1s and 300s",
        ),
        (shutdown(config.shutdown_grace_period), "shutdownGracePeriod", "must be zero or at least 1s"),
        (
            shutdown(config.shutdown_grace_period_critical_pods),
            "shutdownGracePeriodCriticalPods",
            "must be zero or at least 1s",
        ),
        (
            matches!(config.cgroup_driver.as_str(), "cgroupfs" | "systemd"),
            "cgroupDriver",
            "must be cgroupfs or systemd",
        ),
        (
            matches!(
                config.tls_min_version.as_deref(),
                None | Some("VersionTLS10" | "VersionTLS11" | "VersionTLS12" | "VersionTLS13")
            ),
            "tlsMinVersion",
            "must be VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13",
        ),
    ])
}

fn relations(config: &KubeletConfiguration) -> Problem {
    let (young, old) = (config.image_minimum_gc_age, config.image_maximum_gc_age);
    first(&[
        (
            config.image_gc_low_threshold_percent < config.image_gc_high_threshold_percent,
            "imageGCLowThresholdPercent",
            "must be less than imageGCHighThresholdPercent",
        ),
        (old.is_zero() || old > young, "imageMaximumGCAge", "must be greater than imageMinimumGCAge"),
        (
            !config.serialize_image_pulls || config.max_parallel_image_pulls.is_none_or(|most| most <= 1),
            "maxParallelImagePulls",
            "must not be larger than 1 unless serializeImagePulls is false",
        ),
        (
            config.shutdown_grace_period_critical_pods <= config.shutdown_grace_period,
            "shutdownGracePeriodCriticalPods",
            "must be at most shutdownGracePeriod",
        ),
        (
            config.tls_cert_file.is_some() == config.tls_private_key_file.is_some(),
            "tlsCertFile",
            "must be given together with tlsPrivateKeyFile",
        ),
        (
            config.eviction_soft.keys().all(|signal| config.eviction_soft_grace_period.contains_key(signal)),
            "evictionSoft",
            "each threshold needs its evictionSoftGracePeriod",
        ),
    ])
}

fn lists(config: &KubeletConfiguration) -> Problem {
    let taint = config.register_with_taints.iter().find_map(|taint| check_taint(taint).err());
    if let Some(problem) = taint {
        return Some(("registerWithTaints", problem));
    }
    let enforced = &config.enforce_node_allocatable;
    let wrong = enforced.iter().find(|one| !ENFORCEMENTS.contains(&one.as_str()));
    if let Some(wrong) = wrong {
        return Some(("enforceNodeAllocatable", format!("{wrong:?} must be one of {}", ENFORCEMENTS.join(", "))));
    }
    let none = enforced.iter().any(|one| one == "none");
    (none && enforced.len() > 1).then(|| ("enforceNodeAllocatable", "nothing may stand beside none".to_owned()))
}
