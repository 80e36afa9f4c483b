//! OrlopConfiguration: what only Orlop has.

use crate::ServicesConfiguration;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// `orlop.dev/v1alpha1`: every key is optional, an unknown one is an error.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrlopConfiguration {
    /// Folder of manifests.
    pub manifests: Option<PathBuf>,
    /// How to reach the API server, if the node is part of a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// The node's name.
    pub node_name: Option<String>,
    /// The node's addresses, primary first.
    #[serde(default, rename = "nodeIPs")]
    pub node_ips: Vec<IpAddr>,
    /// Ranges of pod addresses, at most one a family.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// Range of service addresses.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: Option<IpNet>,
    /// The kubelet's root: pods' folders and volumes.
    pub root_dir: Option<PathBuf>,
    /// Images, leases.
    pub state_dir: Option<PathBuf>,
    /// Sockets, namespaces, bundles; gone after a boot.
    pub run_dir: Option<PathBuf>,
    /// Pods' logs.
    pub log_dir: Option<PathBuf>,
    /// Cgroup that holds `kubepods`, relative to each hierarchy's mount.
    pub cgroup_root: Option<PathBuf>,
    /// Pinned maps and links.
    pub bpf_dir: Option<PathBuf>,
    /// Folder of image layouts and archives to load at the start.
    pub images: Option<PathBuf>,
    /// The monitor's executable.
    pub monitor: Option<PathBuf>,
    /// Name servers for `dnsPolicy: ClusterFirst`.
    #[serde(default, rename = "clusterDNS")]
    pub cluster_dns: Vec<IpAddr>,
    /// Domain for it.
    pub cluster_domain: Option<String>,
    /// How pods of other nodes are reached.
    pub node_routing: Option<NodeRouting>,
    /// VXLAN network identifier of the tunnel to nodes on other links.
    #[serde(rename = "vxlanVNI")]
    pub vxlan_vni: Option<u32>,
    /// Its UDP port.
    pub vxlan_port: Option<u16>,
    /// Bytes a container's log file may reach.
    pub container_log_max_size: Option<u64>,
    /// Log files kept a container.
    pub container_log_max_files: Option<u32>,
    /// How Services are served.
    #[serde(default)]
    pub services: ServicesConfiguration,
    /// Connections that pods open to addresses outside the cluster get the node's address.
    pub masquerade: Option<bool>,
    /// What pods reach with their own address, besides all nodes' pods.
    #[serde(default, rename = "nonMasqueradeCIDRs")]
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// Entries of an eBPF map by its name, where the default does not fit.
    #[serde(default)]
    pub map_entries: BTreeMap<String, u32>,
}

/// How pods of other nodes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeRouting {
    /// Directly where both nodes are on one link, through VXLAN elsewhere.
    Auto,
    /// Directly on one link; elsewhere the routers between know the ranges.
    Direct,
    /// Always through VXLAN.
    Vxlan,
    /// Somebody else sees to it.
    None,
}

impl FromStr for NodeRouting {
    type Err = NodeRoutingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "direct" => Ok(Self::Direct),
            "vxlan" => Ok(Self::Vxlan),
            "none" => Ok(Self::None),
            _ => Err(NodeRoutingError),
        }
    }
}

/// A word that is no [`NodeRouting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("say auto, direct, vxlan or none")]
pub struct NodeRoutingError;
