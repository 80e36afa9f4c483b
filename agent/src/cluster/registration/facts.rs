//! What the Node is made from, measured.

use super::NODE_EVENTS;
use crate::node::Node;
use jiff::Timestamp;
use orlop_image::ImageRecord;
use orlop_kernel::{FsLevel, KernelError, Level};
use orlop_model::EventKind;
use orlop_node::{ImageOnNode, Machine, NodeFacts, PressureMemory, Seen, Signal};
use std::collections::{BTreeMap, BTreeSet};

/// One look at the machine.
pub(super) struct Measured {
    /// For the Node.
    pub facts: NodeFacts,
    /// For the next look.
    pub pressure: PressureMemory,
}

impl Node {
    /// What does not change from one look to the next.
    pub(crate) fn known_facts(&self) -> NodeFacts {
        let facts = &self.facts;
        let machine = Machine {
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            storage_bytes: Some(self.storage_bytes()).filter(|bytes| *bytes > 0),
            hugepages: facts.hugepages.clone(),
            swap_bytes: facts.swap_bytes,
            machine_id: facts.machine_id.clone(),
            system_uuid: facts.system_uuid.clone(),
            boot_id: facts.boot_id.clone(),
            kernel_version: facts.kernel_version.clone(),
            os_image: facts.os_image.clone(),
            architecture: facts.architecture.clone(),
        };
        let seen = Seen { addresses: self.config.node_ips.clone(), ..Seen::default() };
        NodeFacts { settings: self.settings.node.clone(), machine, seen }
    }
}

/// Looks at memory, disks, process ids and images. Blocks.
pub(super) fn measure(node: &Node, before: &PressureMemory) -> Measured {
    let mut facts = node.known_facts();
    let levels = levels(node);
    if levels.get(&Signal::ImageFsAvailable).is_some_and(|level| level.capacity == 0) {
        let message = "invalid capacity 0 on image filesystem";
        node.events.record(NODE_EVENTS, EventKind::Warning, "InvalidDiskCapacity", message);
    }
    let settings = &node.settings;
    let (pressures, pressure) =
        orlop_node::pressure(&settings.thresholds, &levels, before, settings.pressure_transition, Timestamp::now());
    facts.seen.pressures = pressures;
    facts.seen.not_ready = not_ready(!node.pod_ranges().is_empty());
    match node.images.list() {
        Ok(images) => facts.seen.images = images.iter().map(image).collect(),
        Err(error) => tracing::warn!(err = %crate::pod::chain(&error), "the node's images could not be listed"),
    }
    Measured { facts, pressure }
}

/// The kubelet's words around what its runtime would say.
fn not_ready(has_range: bool) -> Vec<String> {
    if has_range {
        return Vec::new();
    }
    let message = "the Node has no podCIDR yet: its control plane allocates one (kube-controller-manager \
                   --allocate-node-cidrs), or the node is given one with --pod-cidr";
    let network = format!("NetworkReady=false reason:NetworkPluginNotReady message:{message}");
    vec![format!("container runtime network not ready: {network}")]
}

/// What could be measured.
fn levels(node: &Node) -> BTreeMap<Signal, orlop_node::Level> {
    let mut levels = BTreeMap::new();
    let mut put = |signal, level: Level| {
        levels.insert(signal, orlop_node::Level { available: level.available, capacity: level.capacity });
    };
    let warn = |error: KernelError| tracing::warn!(err = %crate::pod::chain(&error), "the node could not be measured");
    match Level::of_memory() {
        Ok(level) => put(Signal::MemoryAvailable, level),
        Err(error) => warn(error),
    }
    match Level::of_pids() {
        Ok(level) => put(Signal::PidAvailable, level),
        Err(error) => warn(error),
    }
    let places = [
        (&node.config.root_dir, Signal::NodeFsAvailable, Signal::NodeFsInodesFree),
        (&node.config.state_dir, Signal::ImageFsAvailable, Signal::ImageFsInodesFree),
    ];
    for (dir, bytes, inodes) in places {
        match FsLevel::of(dir) {
            Ok(level) => {
                put(bytes, level.bytes);
                put(inodes, level.inodes);
            }
            Err(error) => warn(error),
        }
    }
    levels
}

/// A pulled image has the digest that its registry gave, which pods' `imageID` shows,
/// too; a loaded one that of its manifest.
fn image(record: &ImageRecord) -> ImageOnNode {
    let mut digests: BTreeSet<String> = record.repo_digests.iter().map(ToString::to_string).collect();
    let mut tags = Vec::new();
    for name in &record.names {
        let place = format!("{}/{}", name.registry(), name.repository());
        if record.repo_digests.is_empty() {
            digests.insert(format!("{place}@{}", name.digest().unwrap_or(record.digest)));
        }
        tags.extend(name.tag().map(|tag| format!("{place}:{tag}")));
    }
    ImageOnNode { digests: digests.into_iter().collect(), tags, size_bytes: record.size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_range_is_not_ready_in_the_kubelets_words() {
        assert!(not_ready(true).is_empty());
        let told = not_ready(false).join("\n");
        let prefix = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:";
        assert!(told.starts_with(prefix), "{told}");
    }
}
