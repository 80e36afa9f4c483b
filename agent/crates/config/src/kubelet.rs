//! KubeletConfiguration as far as Orlop carries it.

use crate::eviction::{self, At, EvictionSignal};
use crate::{duration, reserved, text};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

pub use crate::reserved::ReservedResources;

/// `kubelet.config.k8s.io/v1beta1`, defaults filled in. Names are those of the type.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeletConfiguration {
    /// The HTTPS server is started.
    pub enable_server: bool,
    /// `None` when there is none.
    #[serde(deserialize_with = "text::path")]
    pub static_pod_path: Option<PathBuf>,
    /// Where pods' logs are.
    pub pod_logs_dir: PathBuf,
    /// Address of the HTTPS server.
    pub address: IpAddr,
    /// Port of the HTTPS server.
    pub port: u16,
    /// The server's certificate; `None` for one of the agent's own.
    #[serde(deserialize_with = "text::path")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    #[serde(deserialize_with = "text::path")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Names as Go has them; empty for the default ones.
    #[serde(deserialize_with = "text::list")]
    pub tls_cipher_suites: Vec<String>,
    /// `VersionTLS10` to `VersionTLS13`; older than 1.2 means 1.2. `None` for the default.
    #[serde(deserialize_with = "text::some")]
    pub tls_min_version: Option<String>,
    /// The client certificate is renewed before it ends.
    #[serde(deserialize_with = "text::flag")]
    pub rotate_certificates: bool,
    /// The serving certificate comes from the API server, by a CSR.
    #[serde(rename = "serverTLSBootstrap", deserialize_with = "text::flag")]
    pub server_tls_bootstrap: bool,
    /// Who a client of the server is.
    pub authentication: Authentication,
    /// What it may do.
    pub authorization: Authorization,
    /// Pulls a second; 0 for no limit.
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: u32,
    /// Pulls at once, beyond the rate.
    pub registry_burst: u32,
    /// Events a second; 0 for no limit.
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: u32,
    /// Events at once, beyond the rate.
    pub event_burst: u32,
    /// Logs, exec, attach and port forwarding are served.
    pub enable_debugging_handlers: bool,
    /// The machine's log folder is served.
    pub enable_system_log_handler: bool,
    /// 0 for none.
    pub healthz_port: u16,
    /// Address of the health check.
    pub healthz_bind_address: IpAddr,
    /// The agent's own.
    pub oom_score_adj: i32,
    /// `None` when there is none.
    #[serde(deserialize_with = "text::some")]
    pub cluster_domain: Option<String>,
    /// Name servers for `dnsPolicy: ClusterFirst`.
    #[serde(rename = "clusterDNS", deserialize_with = "text::list")]
    pub cluster_dns: Vec<IpAddr>,
    /// After it an idle exec, attach or port-forward ends; zero for never.
    #[serde(deserialize_with = "duration::read")]
    pub streaming_connection_idle_timeout: SignedDuration,
    /// How often the status is computed.
    #[serde(deserialize_with = "duration::read")]
    pub node_status_update_frequency: SignedDuration,
    /// How often an unchanged status is reported.
    #[serde(deserialize_with = "duration::read")]
    pub node_status_report_frequency: SignedDuration,
    /// Seconds after which a Lease that is not renewed means that the node is lost.
    pub node_lease_duration_seconds: i32,
    /// Age before which an unused image stays.
    #[serde(rename = "imageMinimumGCAge", deserialize_with = "duration::read")]
    pub image_minimum_gc_age: SignedDuration,
    /// Zero for never.
    #[serde(rename = "imageMaximumGCAge", deserialize_with = "duration::read")]
    pub image_maximum_gc_age: SignedDuration,
    /// Percent of the disk in use at which images are collected.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    /// Percent of the disk in use down to which they are.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    /// Cgroup that holds `kubepods`; `None` for the default.
    #[serde(deserialize_with = "text::path")]
    pub cgroup_root: Option<PathBuf>,
    /// A cgroup for each QoS class.
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Pods on the node.
    pub max_pods: u32,
    /// For a node without an API server; with one, the range comes from the Node.
    #[serde(rename = "podCIDR", deserialize_with = "text::some")]
    pub pod_cidr: Option<String>,
    /// Processes a pod; `None` for no limit of its own.
    #[serde(deserialize_with = "text::limit")]
    pub pod_pids_limit: Option<u64>,
    /// `None` for an empty one.
    #[serde(rename = "resolvConf", deserialize_with = "text::path")]
    pub resolv_conf: Option<PathBuf>,
    /// Images listed in the Node's status; `None` for all.
    #[serde(deserialize_with = "text::limit")]
    pub node_status_max_images: Option<u64>,
    /// One pull at a time.
    pub serialize_image_pulls: bool,
    /// `None` for no limit, when pulls are not one after another.
    pub max_parallel_image_pulls: Option<u32>,
    /// Less than this evicts at once; defaults filled in.
    #[serde(deserialize_with = "eviction::thresholds")]
    pub eviction_hard: BTreeMap<EvictionSignal, At>,
    /// Less than this evicts after a grace period.
    #[serde(deserialize_with = "eviction::thresholds")]
    pub eviction_soft: BTreeMap<EvictionSignal, At>,
    /// Those grace periods.
    #[serde(deserialize_with = "eviction::durations")]
    pub eviction_soft_grace_period: BTreeMap<EvictionSignal, SignedDuration>,
    /// So much more must be free before the pressure is over.
    #[serde(deserialize_with = "eviction::thresholds")]
    pub eviction_minimum_reclaim: BTreeMap<EvictionSignal, At>,
    /// So long a pressure is told after it was last met.
    #[serde(deserialize_with = "duration::read")]
    pub eviction_pressure_transition_period: SignedDuration,
    /// 0 for no such limit.
    pub pods_per_core: u32,
    /// Volumes are attached by the control plane.
    pub enable_controller_attach_detach: bool,
    /// Gates as set; those not named have their defaults.
    #[serde(deserialize_with = "text::map")]
    pub feature_gates: BTreeMap<String, bool>,
    /// The agent does not start while the machine swaps.
    pub fail_swap_on: bool,
    /// Whether containers may swap.
    pub memory_swap: MemorySwap,
    /// Bytes.
    #[serde(deserialize_with = "text::bytes")]
    pub container_log_max_size: u64,
    /// Log files kept a container, the one being written included.
    pub container_log_max_files: u32,
    /// Held back for the system.
    #[serde(deserialize_with = "reserved::read")]
    pub system_reserved: ReservedResources,
    /// Held back for Kubernetes.
    #[serde(deserialize_with = "reserved::read")]
    pub kube_reserved: ReservedResources,
    /// What limits are put on: `pods`, `none`, ….
    #[serde(deserialize_with = "text::list")]
    pub enforce_node_allocatable: Vec<String>,
    /// Names, or prefixes ending in `*`.
    #[serde(deserialize_with = "text::list")]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// `spec.providerID` of a new Node.
    #[serde(rename = "providerID", deserialize_with = "text::some")]
    pub provider_id: Option<String>,
    /// Time for all pods when the machine shuts down.
    #[serde(deserialize_with = "duration::read")]
    pub shutdown_grace_period: SignedDuration,
    /// The part of it for critical pods.
    #[serde(deserialize_with = "duration::read")]
    pub shutdown_grace_period_critical_pods: SignedDuration,
    /// Restarts of containers that fail.
    pub crash_loop_back_off: CrashLoopBackOff,
    /// What says nothing runs under `RuntimeDefault`.
    pub seccomp_default: bool,
    /// Taints of a new Node.
    #[serde(deserialize_with = "text::list")]
    pub register_with_taints: Vec<Taint>,
    /// The agent makes the Node where there is none.
    pub register_node: bool,
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Authentication {
    /// By certificate.
    pub x509: X509,
    /// By asking the API server.
    pub webhook: WebhookAuthentication,
    /// Clients that say nothing.
    pub anonymous: Anonymous,
}

/// Clients by certificate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct X509 {
    /// CA that signs clients' certificates; `None` takes none.
    #[serde(rename = "clientCAFile", deserialize_with = "text::path")]
    pub client_ca_file: Option<PathBuf>,
}

/// Clients by a token that the API server reviews.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct WebhookAuthentication {
    /// Whether it is done.
    pub enabled: bool,
    /// How long an answer holds.
    #[serde(rename = "cacheTTL", deserialize_with = "duration::read")]
    pub cache_ttl: SignedDuration,
}

/// Clients that say nothing of themselves.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Anonymous {
    /// Whether it is done.
    pub enabled: bool,
}

/// What a client may do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Authorization {
    /// Who decides.
    pub mode: AuthorizationMode,
    /// By asking the API server.
    pub webhook: WebhookAuthorization,
}

/// Who decides what a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AuthorizationMode {
    /// Nobody: everything is allowed.
    AlwaysAllow,
    /// The API server, by SubjectAccessReview.
    Webhook,
}

/// How long the API server's word holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct WebhookAuthorization {
    /// How long a yes holds.
    #[serde(rename = "cacheAuthorizedTTL", deserialize_with = "duration::read")]
    pub cache_authorized_ttl: SignedDuration,
    /// How long a no holds.
    #[serde(rename = "cacheUnauthorizedTTL", deserialize_with = "duration::read")]
    pub cache_unauthorized_ttl: SignedDuration,
}

/// Whether containers may swap.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemorySwap {
    /// `NoSwap` (also when nothing is said) or `LimitedSwap`.
    #[serde(deserialize_with = "text::swap")]
    pub swap_behavior: SwapBehavior,
}

/// `memorySwap.swapBehavior`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum SwapBehavior {
    /// Containers do not swap.
    #[default]
    NoSwap,
    /// Burstable containers may swap by their share of memory.
    LimitedSwap,
}

/// Restarts of containers that fail.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrashLoopBackOff {
    /// The longest pause before a restart.
    #[serde(deserialize_with = "duration::read")]
    pub max_container_restart_period: SignedDuration,
}
