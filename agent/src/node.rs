//! The node: what its pods share.

mod image;
mod objects;
mod wanted;

use crate::api::{ImageView, NodeView};
use crate::cluster::{Cluster, NodeSettings};
use crate::config::Config;
use crate::events::{About, EventLog};
use crate::manifest::ManifestSet;
use crate::nodes::Nodes;
use crate::pod::{PodSnapshot, PodSource, Pods};
use crate::services::Services;
use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use orlop_cni::{Ipam, PodNetwork};
use orlop_datapath::Datapath;
use orlop_image::{ImageRecord, ImageStore, Puller};
use orlop_kernel::{CgroupRoot, NodeFacts};
use orlop_lb::{HostPort, HostPorts, NamedPort, PodEndpoint, ServiceCidr};
use orlop_model::{ContainerName, ContainerPort, Event, EventKind, ImageRef, NodeAllocatable, PodDesired};
use orlop_pod::{AdmitContext, Lifecycle, PodObserved, PodPlan, SandboxState, Step};
use orlop_runtime::HostCapabilities;
use orlop_volume::{NodeFiles, node_searches};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

pub(crate) use objects::PodObjects;

/// See the module's text.
pub(crate) struct Node {
    /// What the agent was told.
    pub config: Config,
    /// How it shows itself to the cluster.
    pub settings: NodeSettings,
    /// Since when it runs.
    pub started: Timestamp,
    /// The machine.
    pub facts: NodeFacts,
    /// Events of everything.
    pub events: Arc<EventLog>,
    /// Images.
    pub images: ImageStore,
    /// Capabilities this node can give at all.
    pub capabilities: HostCapabilities,
    /// Cgroups.
    pub cgroups: CgroupRoot,
    /// `cgroup.procs` of the monitors' own leaf.
    pub monitor_procs: Vec<PathBuf>,
    /// Addresses.
    pub ipam: Mutex<Ipam>,
    /// Veth pairs.
    pub network: PodNetwork,
    /// The ways to other nodes' pods.
    pub nodes: Nodes,
    /// eBPF.
    pub datapath: Arc<Datapath>,
    /// Range of service addresses.
    pub service_cidr: ServiceCidr,
    /// Services.
    pub services: Services,
    /// Pods.
    pub pods: Pods,
    /// Manifests as they are now.
    pub manifests: watch::Sender<Arc<ManifestSet>>,
    /// Manifests' pods as static pods, by `namespace/name`; empty without a cluster.
    pub static_pods: watch::Sender<BTreeMap<String, Arc<PodSource>>>,
    /// The cluster, if the node is part of one.
    pub cluster: Option<Arc<Cluster>>,
    /// Images from registries.
    pub puller: Puller,
    /// Files of the node that pods' files are made from.
    pub files: NodeFiles,
}

/// The name under which a pod's events are kept.
pub(crate) fn pod_object(pod: &PodDesired) -> String {
    format!("Pod {}", pod.key)
}

impl Node {
    /// What admission has to know.
    pub fn admit_context(&self) -> AdmitContext {
        AdmitContext {
            node_name: self.config.node_name.clone(),
            node_hostname: self.config.hostname.clone(),
            cluster_dns: self.config.cluster_dns.clone(),
            cluster_domain: self.config.cluster_domain.clone(),
            node_searches: node_searches(&std::fs::read_to_string(&self.files.resolv_conf).unwrap_or_default()),
            seccomp_default: self.config.kubelet.seccomp_default,
            allowed_sysctls: self.config.kubelet.allowed_unsafe_sysctls.clone(),
        }
    }

    /// Records an event of a pod.
    pub fn pod_event(&self, pod: &PodDesired, kind: EventKind, reason: &str, message: impl Into<String>) {
        self.events.tell(&About::pod(pod), kind, reason, message);
    }

    /// Records an event that only concerns who looks after this node: it stays here.
    pub fn own_event(&self, pod: &PodDesired, kind: EventKind, reason: &str, message: impl Into<String>) {
        self.events.record(&pod_object(pod), kind, reason, message);
    }

    /// Records an event of a container.
    pub fn container_event(
        &self,
        pod: &PodDesired,
        container: &ContainerName,
        kind: EventKind,
        reason: &str,
        message: impl Into<String>,
    ) {
        match pod.container(container) {
            Some(container) => self.events.tell(&About::container(pod, container), kind, reason, message),
            None => self.pod_event(pod, kind, reason, message),
        }
    }

    /// Events of a pod, oldest first.
    pub fn pod_events(&self, pod: &PodDesired) -> Vec<Event> {
        self.events.of(&pod_object(pod))
    }

    /// An image that is on the node.
    pub fn image(&self, image: &ImageRef) -> Result<ImageRecord, orlop_image::ImageError> {
        self.images.require(image)
    }

    /// What pods may ask for, which also stands for limits that containers do not give.
    pub fn allocatable(&self) -> NodeAllocatable {
        let left = orlop_node::allocatable(&self.known_facts());
        NodeAllocatable {
            cpu_milli: left.cpu_milli,
            memory: left.memory_bytes,
            ephemeral_storage: left.storage_bytes.unwrap_or(0),
            pods: left.pods,
        }
    }

    /// The pod's status as the API would show it.
    pub fn status(
        &self,
        want: &PodDesired,
        seen: &PodObserved,
        plan: &PodPlan,
        before: &PodStatus,
        now: Timestamp,
    ) -> PodStatus {
        let api = self.cluster.as_ref().and_then(|cluster| cluster.pods.object(&want.uid));
        let host_ips = &self.config.node_ips;
        let cx = orlop_pod::StatusContext { host_ips, previous: Some(before), api: api.as_deref() };
        orlop_pod::status(want, seen, plan, &cx, now)
    }

    /// Tells the Services where the pod stands.
    pub fn show_endpoint(&self, want: &PodDesired, seen: &PodObserved) {
        self.services.set_host_ports(&want.uid, host_ports(want, seen), &self.events);
        let SandboxState::Ready { ips, .. } = &seen.sandbox else {
            return self.services.set_pod(&want.uid, None, &self.events);
        };
        let running = |name| seen.containers.get(name).is_some_and(|c| matches!(c.life, Lifecycle::Running { .. }));
        if !want.main_containers().any(|c| running(&c.name)) {
            return self.services.set_pod(&want.uid, None, &self.events);
        }
        let ports = want.main_containers().flat_map(|c| &c.ports);
        let serving = orlop_pod::pod_serving(want, seen);
        let endpoint = PodEndpoint {
            key: want.key.clone(),
            ips: ips.clone(),
            labels: want.labels.clone(),
            // Not only Ready: from the moment that a container is told to end there is
            // nothing new for it, and nothing either when nobody else is left.
            ready: serving,
            serving,
            terminating: want.deletion.is_some(),
            ports: ports
                .filter_map(|p| Some(NamedPort { name: p.name.clone()?, port: p.container_port, protocol: p.protocol }))
                .collect(),
        };
        self.services.set_pod(&want.uid, Some(endpoint), &self.events);
    }

    /// A pod is gone: its events and its endpoint with it.
    pub fn forget_pod(&self, pod: &PodDesired) {
        self.services.set_pod(&pod.uid, None, &self.events);
        self.services.set_host_ports(&pod.uid, None, &self.events);
        self.events.forget(&pod_object(pod));
    }

    /// The folder of a pod's logs, as the kubelet names it.
    pub fn log_dir(&self, pod: &PodDesired) -> PathBuf {
        let (namespace, name) = (pod.key.namespace(), pod.key.name());
        self.config.log_dir.join(format!("{namespace}_{name}_{}", pod.uid))
    }

    /// The pod's cgroup, below every hierarchy's mount.
    pub fn cgroup_of(&self, pod: &PodDesired) -> String {
        self.cgroups.pod(&pod.uid, pod.qos).path().display().to_string()
    }

    /// Bytes of the filesystem that holds pods; 0 when it cannot be asked.
    pub fn storage_bytes(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.config.root_dir);
        stat.map_or(0, |stat| stat.blocks() * stat.fragment_size())
    }

    /// Manifests as they are now.
    pub fn manifests(&self) -> Arc<ManifestSet> {
        self.manifests.borrow().clone()
    }

    /// The node as the command line shows it.
    pub fn view(&self) -> NodeView {
        let manifests = self.manifests();
        let problems = manifests.problems.iter().map(|problem| {
            let object = problem.object.as_ref().map(|o| format!("{o}: ")).unwrap_or_default();
            Event {
                kind: EventKind::Warning,
                reason: "InvalidManifest".to_owned(),
                message: format!("{}: {object}{}", problem.file.display(), problem.message),
                count: 1,
                first: self.started,
                last: Timestamp::now(),
            }
        });
        let mut problems: Vec<Event> = problems.collect();
        let (normal, warnings): (Vec<Event>, Vec<Event>) =
            self.events.of("Node").into_iter().partition(|event| event.kind == EventKind::Normal);
        problems.extend(warnings);
        let mut events = self.events.starting_with("Service ");
        if !normal.is_empty() {
            events.insert("Node".to_owned(), normal);
        }
        NodeView {
            name: self.config.node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            addresses: self.config.node_ips.clone(),
            pod_cidrs: self.pod_ranges().iter().map(ToString::to_string).collect(),
            service_cidr: Some(self.config.service_cidr.to_string()),
            manifests: self.config.manifests.clone(),
            cluster: self.cluster.as_ref().map(|cluster| cluster.view(self.events.counters())),
            problems,
            events,
        }
    }

    /// Images as the command line shows them.
    pub fn image_views(&self) -> Vec<ImageView> {
        let pods = self.pods.snapshots();
        let uses = |pod: &PodSnapshot, image: &ImageRecord| {
            let mut ids = pod.seen.containers.values().filter_map(|container| container.image_id.as_deref());
            ids.any(|id| image.is_image_id(id))
        };
        let images = self.images.list().unwrap_or_default();
        images.iter().map(|image| image_view(image, pods.iter().filter(|pod| uses(pod, image)).count())).collect()
    }

    /// Images came or went: the API server hears of it now.
    pub fn show_images(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.registration.wake();
        }
    }

    /// Loads images from a layout or an archive.
    ///
    /// # Errors
    /// Names the path and what is wrong with it.
    pub fn load_images(&self, path: &Path, name: Option<&str>) -> Result<Vec<ImageView>> {
        let loaded = self.images.load(path, name).with_context(|| format!("load {}", path.display()))?;
        self.show_images();
        Ok(loaded.iter().map(|image| image_view(image, 0)).collect())
    }
}

/// Ports of the node that lead to the pod, from when it has its addresses until they are taken down. On the host network its
/// ports are the node's own.
fn host_ports(want: &PodDesired, seen: &PodObserved) -> Option<HostPorts> {
    let (SandboxState::Ready { ips, .. }, Step::Absent) = (&seen.sandbox, &seen.teardown) else { return None };
    let of_containers = want.containers.iter().flat_map(|container| &container.ports);
    let port = |port: &ContainerPort| {
        let (host_ip, protocol, target) = (port.host_ip, port.protocol, port.container_port);
        Some(HostPort { host_ip, port: port.host_port?, protocol, target })
    };
    let ports: Vec<HostPort> = of_containers.filter_map(port).collect();
    let has_some = !want.host_network && !ports.is_empty();
    has_some.then(|| HostPorts {
        uid: want.uid.clone(),
        pod: want.key.clone(),
        created: Some(seen.accepted),
        ips: ips.clone(),
        ports,
    })
}

/// Loads what is new in the folder of images; what cannot be loaded becomes an event.
pub(crate) fn import_images(images: &ImageStore, folder: &Path, events: &EventLog) {
    let warn = |message| events.record("Node", EventKind::Warning, "ImageNotLoaded", message);
    match images.import_folder(folder) {
        Ok(imported) => {
            for (path, error) in imported.failed {
                warn(format!("{}: {}", path.display(), crate::pod::chain(&error)));
            }
        }
        Err(error) => warn(format!("images folder {}: {}", folder.display(), crate::pod::chain(&error))),
    }
}

fn image_view(image: &ImageRecord, used_by: usize) -> ImageView {
    ImageView {
        names: image.names.iter().map(orlop_image::Reference::familiar).collect(),
        id: image.id.to_string(),
        size: image.unpacked_size,
        layers: image.layers.len(),
        created: image.created.map(|at| at.to_string()),
        used_by,
    }
}
