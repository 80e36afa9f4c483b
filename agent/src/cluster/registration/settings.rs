//! What the registration was told.

use crate::config::Config;
use jiff::SignedDuration;
use orlop_config::{At, EvictionSignal, KubeletConfiguration, ReservedResources};
use orlop_node::{Cloud, Reserved, RuntimeHandler, Settings, Signal, Threshold, ThresholdAt};
use std::time::Duration;

/// However little was asked for: looking at disks and images has its price.
const UPDATE_EVERY_MIN: Duration = Duration::from_secs(1);
/// What this node reports as `kubeletVersion`: the kubelet that it behaves as.
const KUBELET_VERSION: &str = "v1.36.0";

/// How the node shows itself to the cluster.
#[derive(Debug, Clone)]
pub(crate) struct NodeSettings {
    /// What the Node says.
    pub node: Settings,
    /// `registerNode`: without it, somebody else makes the Node.
    pub register: bool,
    /// `nodeStatusUpdateFrequency`: how often the node is measured.
    pub update_every: Duration,
    /// `nodeStatusReportFrequency`: how often an unchanged status is told.
    pub report_every: SignedDuration,
    /// `nodeLeaseDurationSeconds`.
    pub lease_seconds: i32,
    /// `evictionHard` and `evictionSoft`, always in this order.
    pub thresholds: Vec<Threshold>,
    /// `evictionPressureTransitionPeriod`.
    pub pressure_transition: SignedDuration,
    /// `enforceNodeAllocatable` has `pods`.
    pub enforce_pods: bool,
}

impl NodeSettings {
    /// From what the agent was told.
    pub fn of(config: &Config) -> Self {
        let kubelet = &config.kubelet;
        let thresholds = thresholds(kubelet);
        // Only what is hard is held back: soft thresholds leave time (pkg/kubelet/cm, hardEvictionReservation).
        let hard = |signal| kubelet.eviction_hard.get(&signal).copied().map(threshold_at);
        let node = Settings {
            name: config.node_name.clone(),
            hostname: config.hostname.clone(),
            labels: config.node_labels.clone(),
            taints: kubelet.register_with_taints.clone(),
            provider_id: kubelet.provider_id.clone().unwrap_or_default(),
            cloud: if config.cloud_external { Cloud::External } else { Cloud::None },
            node_ip_given: config.node_ip_given,
            controller_attach_detach: kubelet.enable_controller_attach_detach,
            max_pods: kubelet.max_pods,
            pods_per_core: kubelet.pods_per_core,
            system_reserved: reserved(&kubelet.system_reserved),
            kube_reserved: reserved(&kubelet.kube_reserved),
            evict_memory: hard(EvictionSignal::MemoryAvailable),
            evict_nodefs: hard(EvictionSignal::NodeFsAvailable),
            // Whether a server listens there or not: whoever asks the API server for logs is
            // told then that the connection was refused, which says more than a missing port.
            port: kubelet.port,
            max_images: kubelet.node_status_max_images.and_then(|max| usize::try_from(max).ok()),
            kubelet_version: KUBELET_VERSION.to_owned(),
            runtime_version: format!("orlop://{}", env!("CARGO_PKG_VERSION")),
            runtime_handlers: vec![RuntimeHandler {
                name: String::new(),
                recursive_read_only_mounts: false,
                user_namespaces: false,
            }],
            supplemental_groups_policy: Some(true),
            declared_features: Vec::new(),
        };
        Self {
            node,
            register: kubelet.register_node,
            update_every: kubelet.node_status_update_frequency.unsigned_abs().max(UPDATE_EVERY_MIN),
            report_every: kubelet.node_status_report_frequency,
            lease_seconds: kubelet.node_lease_duration_seconds,
            thresholds,
            pressure_transition: kubelet.eviction_pressure_transition_period,
            enforce_pods: kubelet.enforce_node_allocatable.iter().any(|level| level == "pods"),
        }
    }
}

fn reserved(told: &ReservedResources) -> Reserved {
    Reserved {
        cpu_milli: told.cpu_milli,
        memory_bytes: told.memory_bytes,
        storage_bytes: told.storage_bytes,
        pids: told.pids,
        ..Reserved::default()
    }
}

/// A soft threshold counts at once, as in the kubelet: only its evictions wait.
fn thresholds(kubelet: &KubeletConfiguration) -> Vec<Threshold> {
    let all = kubelet.eviction_hard.iter().chain(&kubelet.eviction_soft);
    let known = all.filter_map(|(signal, at)| {
        let reclaim = kubelet.eviction_minimum_reclaim.get(signal).copied().map(threshold_at);
        Some(Threshold { signal: measured(*signal)?, at: threshold_at(*at), reclaim })
    });
    known.collect()
}

/// Containers' own file system is that of the images here, and so is its threshold.
fn measured(signal: EvictionSignal) -> Option<Signal> {
    match signal {
        EvictionSignal::MemoryAvailable => Some(Signal::MemoryAvailable),
        EvictionSignal::NodeFsAvailable => Some(Signal::NodeFsAvailable),
        EvictionSignal::NodeFsInodesFree => Some(Signal::NodeFsInodesFree),
        EvictionSignal::ImageFsAvailable => Some(Signal::ImageFsAvailable),
        EvictionSignal::ImageFsInodesFree => Some(Signal::ImageFsInodesFree),
        EvictionSignal::PidAvailable => Some(Signal::PidAvailable),
        EvictionSignal::ContainerFsAvailable
        | EvictionSignal::ContainerFsInodesFree
        | EvictionSignal::AllocatableMemoryAvailable => None,
    }
}

fn threshold_at(at: At) -> ThresholdAt {
    match at {
        At::Amount(amount) => ThresholdAt::Amount(amount),
        At::Percent(percent) => ThresholdAt::Percent(percent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::AgentArgs;

    #[track_caller]
    fn settings(document: &str) -> NodeSettings {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(&file, format!("{head}{document}")).unwrap();
        let args = AgentArgs {
            config: vec![file],
            node_name: Some("n1".into()),
            node_ip: vec!["192.0.2.1".parse().unwrap()],
            ..AgentArgs::default()
        };
        NodeSettings::of(&Config::read(args).unwrap())
    }

    #[test]
    fn without_a_word_all_is_as_with_the_kubelet() {
        let told = settings("");
        let want = Settings {
            name: "n1".into(),
            kubelet_version: KUBELET_VERSION.into(),
            node_ip_given: true,
            hostname: told.node.hostname.clone(),
            runtime_version: told.node.runtime_version.clone(),
            runtime_handlers: told.node.runtime_handlers.clone(),
            supplemental_groups_policy: Some(true),
            ..Settings::default()
        };
        assert_eq!(told.node, want);
        assert_eq!((told.register, told.enforce_pods, told.lease_seconds), (true, true, 40));
        assert_eq!((told.update_every.as_secs(), told.report_every.as_secs()), (10, 300));
        assert_eq!((told.thresholds.len(), told.pressure_transition.as_secs()), (5, 300));
    }

    #[test]
    fn what_is_reserved_and_where_pressure_begins() {
        let told = settings(
            "systemReserved: {cpu: 500m, memory: 1Gi, pid: \"1000\"}\nmaxPods: 20\nenforceNodeAllocatable: [none]\n\
             evictionHard: {memory.available: 5%, pid.available: \"100\"}\nevictionMinimumReclaim: {pid.available: \"7\"}\n",
        );
        let Reserved { cpu_milli, memory_bytes, pids, .. } = told.node.system_reserved;
        assert_eq!((cpu_milli, memory_bytes, pids, told.node.max_pods), (500, 1 << 30, 1000, 20));
        assert_eq!((told.node.evict_memory, told.node.evict_nodefs), (Some(ThresholdAt::Percent(5.0)), None));
        let pid = Threshold {
            signal: Signal::PidAvailable,
            at: ThresholdAt::Amount(100),
            reclaim: Some(ThresholdAt::Amount(7)),
        };
        assert_eq!(told.thresholds[1..], [pid]);
        assert!(!told.enforce_pods);
    }
}
