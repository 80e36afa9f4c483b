//! What the registration was told, with the kubelet's defaults.

use crate::config::Config;
use jiff::SignedDuration;
use orlop_node::{RuntimeHandler, Settings, Signal, Threshold, ThresholdAt};
use std::time::Duration;

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
        let node = Settings {
            name: config.node_name.clone(),
            hostname: config.node_name.clone(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            runtime_version: format!("orlop://{}", env!("CARGO_PKG_VERSION")),
            // Whether a server listens there or not: `0` would be left out of the Node, and
            // whoever asks the API server for logs is told that the connection was refused.
            port: 10250,
            runtime_handlers: vec![RuntimeHandler {
                name: String::new(),
                recursive_read_only_mounts: false,
                user_namespaces: false,
            }],
            ..Settings::default()
        };
        Self {
            node,
            register: true,
            update_every: Duration::from_secs(10),
            report_every: SignedDuration::from_mins(5),
            lease_seconds: 40,
            thresholds: default_thresholds(),
            pressure_transition: SignedDuration::from_mins(5),
            enforce_pods: true,
        }
    }
}

/// The kubelet's `evictionHard` on Linux (pkg/kubelet/eviction/defaults_linux.go).
fn default_thresholds() -> Vec<Threshold> {
    [
        (Signal::MemoryAvailable, ThresholdAt::Amount(100 << 20)),
        (Signal::NodeFsAvailable, ThresholdAt::Percent(10.0)),
        (Signal::NodeFsInodesFree, ThresholdAt::Percent(5.0)),
        (Signal::ImageFsAvailable, ThresholdAt::Percent(15.0)),
        (Signal::ImageFsInodesFree, ThresholdAt::Percent(5.0)),
    ]
    .map(|(signal, at)| Threshold { signal, at, reclaim: None })
    .into()
}
