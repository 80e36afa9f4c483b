//! What a Node is made from, as plain values.

use crate::{Pressures, ThresholdAt};
use k8s_openapi::api::core::v1::Taint;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Everything that the Node says, by who knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// What the agent was told; the same for its whole life.
    pub settings: Settings,
    /// The machine; changes when memory or CPUs are plugged.
    pub machine: Machine,
    /// What was seen last; changes all the time.
    pub seen: Seen,
}

/// Who attaches cloud routes and addresses to the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cloud {
    /// Nobody.
    #[default]
    None,
    /// `--cloud-provider=external`: a controller takes the `uninitialized` taint away and sets addresses.
    External,
}

/// What is held back from pods, as `systemReserved` or `kubeReserved` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of the file system below the kubelet's root.
    pub storage_bytes: u64,
    /// Process ids.
    pub pids: u64,
    /// Bytes by page size in bytes.
    pub hugepages: BTreeMap<u64, u64>,
}

/// A runtime handler of the node, for RuntimeClasses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeHandler {
    /// Empty for the default one.
    pub name: String,
    /// `recursiveReadOnly` mounts work.
    pub recursive_read_only_mounts: bool,
    /// `hostUsers: false` works.
    pub user_namespaces: bool,
}

/// What the agent was told by flags and configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The Node's name: the host name in lower case, or `--hostname-override`.
    pub name: String,
    /// The label `kubernetes.io/hostname` and the address of type Hostname.
    pub hostname: String,
    /// `--node-labels`, checked by [`crate::check_labels`].
    pub labels: BTreeMap<String, String>,
    /// `--register-with-taints`: put on a Node that is new, never on one that is there.
    pub taints: Vec<Taint>,
    /// `providerID`; empty for none.
    pub provider_id: String,
    /// `--cloud-provider`.
    pub cloud: Cloud,
    /// `--node-ip` was given: [`Seen::addresses`] are those and not what was found.
    pub node_ip_given: bool,
    /// `enableControllerAttachDetach`: the annotation for the attach-detach controller.
    pub controller_attach_detach: bool,
    /// `maxPods`.
    pub max_pods: u32,
    /// `podsPerCore`; 0 for no such limit.
    pub pods_per_core: u32,
    /// `systemReserved`.
    pub system_reserved: Reserved,
    /// `kubeReserved`.
    pub kube_reserved: Reserved,
    /// `evictionHard` of `memory.available`, which is held back from allocatable memory.
    pub evict_memory: Option<ThresholdAt>,
    /// `evictionHard` of `nodefs.available`, which is held back from allocatable storage.
    pub evict_nodefs: Option<ThresholdAt>,
    /// Port of the agent's HTTPS server.
    pub port: u16,
    /// `nodeStatusMaxImages`; `None` for all.
    pub max_images: Option<usize>,
    /// `v1.36.x`.
    pub kubelet_version: String,
    /// `orlop://VERSION`.
    pub runtime_version: String,
    /// Runtime handlers, the default one with an empty name among them.
    pub runtime_handlers: Vec<RuntimeHandler>,
    /// `supplementalGroupsPolicy` of pods is acted on; `None` leaves `status.features` alone.
    pub supplemental_groups_policy: Option<bool>,
    /// Feature gates declared to the scheduler, sorted; empty leaves `status.declaredFeatures` alone.
    pub declared_features: Vec<String>,
}

impl Default for Settings {
    /// The kubelet's defaults; name, host name and versions are empty.
    fn default() -> Self {
        Self {
            name: String::new(),
            hostname: String::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            provider_id: String::new(),
            cloud: Cloud::None,
            node_ip_given: false,
            controller_attach_detach: true,
            max_pods: 110,
            pods_per_core: 0,
            system_reserved: Reserved::default(),
            kube_reserved: Reserved::default(),
            evict_memory: Some(ThresholdAt::Amount(100 << 20)),
            evict_nodefs: Some(ThresholdAt::Percent(10.0)),
            port: 10250,
            max_images: Some(50),
            kubelet_version: String::new(),
            runtime_version: String::new(),
            runtime_handlers: Vec::new(),
            supplemental_groups_policy: None,
            declared_features: Vec::new(),
        }
    }
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that are online.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the file system below the kubelet's root; `None` when it could not be asked,
    /// which makes the node not ready.
    pub storage_bytes: Option<u64>,
    /// Bytes set aside, by page size in bytes; a size the kernel knows is there with 0.
    pub hugepages: BTreeMap<u64, u64>,
    /// Bytes of swap.
    pub swap_bytes: u64,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's UUID of the machine.
    pub system_uuid: String,
    /// New at each boot.
    pub boot_id: String,
    /// As `uname -r`.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// In Kubernetes' words: `amd64`, `arm64`, …
    pub architecture: String,
}

/// An image that is unpacked on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOnNode {
    /// `registry/name@sha256:…`.
    pub digests: Vec<String>,
    /// `registry/name:tag`.
    pub tags: Vec<String>,
    /// Bytes.
    pub size_bytes: u64,
}

/// What was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The node's addresses, primary first: at most one a family is used.
    pub addresses: Vec<IpAddr>,
    /// Images on the node, in any order.
    pub images: Vec<ImageOnNode>,
    /// Pressures, from [`crate::pressure`].
    pub pressures: Pressures,
    /// Why the node is not ready, in the kubelet's words; empty when it is ready.
    pub not_ready: Vec<String>,
}
