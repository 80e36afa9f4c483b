//! Flags of `orlop agent` and `orlop reset`.

use super::service_args::ServiceArgs;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use orlop_config::NodeRouting;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// How the agent writes its own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of the kubelet that are given to it more often than written into a file.
#[derive(Debug, Clone, Default, Args)]
pub struct KubeletArgs {
    /// Labels of a new Node.
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub node_labels: Option<String>,
    /// Taints of a new Node.
    #[arg(long, value_name = "KEY=VALUE:EFFECT,…")]
    pub register_with_taints: Option<String>,
    /// `external`: a cloud controller outside gives the Node its addresses.
    #[arg(long, value_name = "NAME")]
    pub cloud_provider: Option<String>,
    /// The machine's name at the cloud, for a new Node.
    #[arg(long, value_name = "ID")]
    pub provider_id: Option<String>,
    /// How many pods the node takes [default: 110]
    #[arg(long, value_name = "COUNT")]
    pub max_pods: Option<String>,
    /// Name servers of pods with dnsPolicy ClusterFirst.
    #[arg(long, value_name = "ADDRESS,…")]
    pub cluster_dns: Option<String>,
    /// Domain of the cluster [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Any other flag of the kubelet that is a field of KubeletConfiguration; may be repeated.
    #[arg(long, value_name = "FLAG=VALUE", allow_hyphen_values = true)]
    pub kubelet_arg: Vec<String>,
}

impl KubeletArgs {
    /// The flags that were given, by the kubelet's names.
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("node-labels", &self.node_labels),
            ("register-with-taints", &self.register_with_taints),
            ("cloud-provider", &self.cloud_provider),
            ("provider-id", &self.provider_id),
            ("max-pods", &self.max_pods),
            ("cluster-dns", &self.cluster_dns),
            ("cluster-domain", &self.cluster_domain),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

/// `orlop agent`: what a flag leaves `None` (or empty) the configuration file may
/// say, and after it the default named in the help.
#[derive(Debug, Clone, Default, Args)]
pub struct AgentArgs {
    /// Folder of Pods, Services, ConfigMaps and Secrets in YAML; watched.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// How to reach the API server whose pods to run; with it, pods of --manifests are static pods.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// What to ask for the node's certificate with, while --kubeconfig is not there; it is written then.
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Keys and certificates of the node [default: pki below --root-dir]
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// File with OrlopConfiguration, KubeletConfiguration or KubeProxyConfiguration documents; a later one wins.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Folder of drop-ins: KubeletConfiguration documents in files NAME.conf, over those of --config.
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    #[command(flatten)]
    pub kubelet_flags: KubeletArgs,
    /// Name of the node [default: the host's name]
    #[arg(long, value_name = "NAME", alias = "hostname-override")]
    pub node_name: Option<String>,
    /// Address of the node; again for the other family [default: that of the interface with the default route]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Range that pods get addresses from; again for the other family [default: 10.244.0.0/24]
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Vec<IpNet>,
    /// Range that Services get addresses from [default: 10.96.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<IpNet>,
    #[command(flatten)]
    pub services: ServiceArgs,
    /// How pods of other nodes are reached: auto, direct, vxlan or none [default: auto]
    #[arg(long, value_name = "MODE")]
    pub node_routing: Option<NodeRouting>,
    /// VXLAN network identifier of the tunnel to nodes on other links [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub vxlan_vni: Option<u32>,
    /// UDP port of that tunnel; the same on all nodes [default: 8472]
    #[arg(long, value_name = "PORT")]
    pub vxlan_port: Option<u16>,
    /// Pods' volumes and plugins [default: /var/lib/kubelet]
    #[arg(long, value_name = "DIR")]
    pub root_dir: Option<PathBuf>,
    /// Images, addresses and records that outlive a reboot [default: /var/lib/orlop]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Sockets and what need not outlive a reboot [default: /run/orlop]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Containers' logs [default: /var/log/pods]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Cgroup under which all pods' are made [default: /]
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_root: Option<PathBuf>,
    /// Folder on a bpffs for pinned maps and links [default: /sys/fs/bpf/orlop]
    #[arg(long, value_name = "DIR")]
    pub bpf_dir: Option<PathBuf>,
    /// Folder of OCI layouts and archives to load.
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// The pod monitor's program [default: orlop-monitor beside this program]
    #[arg(long, value_name = "PATH")]
    pub monitor: Option<PathBuf>,
    /// How much to log: error, warn, info, debug, trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How to log: text or json [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
}
