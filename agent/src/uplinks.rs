//! The devices by which packets come to the node and leave it: programs are attached to
//! them, and the programs know what there is to know of the node and of the others.
//!
//! ```text
//!   NodesView ─▶ wanted::Surroundings ─▶ NODE_ADDRS, DEVICES, NON_MASQUERADE, SETTINGS; uplink_in, uplink_out, uplink_xdp
//! ```

mod wanted;

use crate::events::NODE;
use crate::node::Node;
use crate::nodes::NodesView;
use anyhow::{Context, Result};
use orlop_config::{Acceleration as Said, SnatPorts};
use orlop_datapath::{Acceleration, Datapath};
use orlop_kernel::{Mac, Netlink, Netns, read_sysctl};
use orlop_model::{EventKind, Ifindex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wanted::Surroundings;

/// After something could not be written, it is tried again after so long.
const RETRY: Duration = Duration::from_secs(5);

/// Attaches to what there is now; what it gives keeps programs and tables as the
/// node's devices and the cluster's nodes are.
pub(crate) fn begin(node: &Node) -> Uplinks {
    warn_of_shared_ports(node.config.services.snat_ports);
    let mut uplinks = Uplinks { view: node.nodes.view(), done: Done::default() };
    uplinks.look(node);
    uplinks
}

/// A translated connection and a socket of the node with the same port may look the same to who answers.
fn warn_of_shared_ports(ports: SnatPorts) {
    // What `kube-apiserver --service-node-port-range` has where nobody says another.
    let mut others = vec![(30_000, 32_767, "node ports")];
    let own = Netns::current().and_then(|netns| read_sysctl(&netns, "net/ipv4/ip_local_port_range"));
    let own = own.unwrap_or_default();
    let mut numbers = own.split_whitespace().filter_map(|number| number.parse().ok());
    others
        .extend(numbers.next().zip(numbers.next()).map(|(first, last)| (first, last, "net.ipv4.ip_local_port_range")));
    for (first, last, whose) in others {
        if ports.first <= last && first <= ports.last {
            let shown = format!("{}-{}", ports.first, ports.last);
            tracing::warn!(snat_ports = shown, others = format!("{first}-{last}"), whose, "source ports are shared");
        }
    }
}

/// See [`begin`].
pub(crate) struct Uplinks {
    view: watch::Receiver<Arc<NodesView>>,
    done: Done,
}

impl Uplinks {
    /// Follows for ever.
    pub async fn follow(mut self, node: Arc<Node>) {
        let audit = node.config.services.audit_interval.unwrap_or(Duration::MAX);
        loop {
            let wait = if self.look(&node) { audit } else { RETRY };
            let changed = tokio::time::timeout(wait, self.view.changed()).await.unwrap_or(Ok(()));
            if changed.is_err() {
                return;
            }
            // Somebody else may have written there meanwhile.
            self.done.written = None;
        }
    }

    /// Whether everything could be done.
    fn look(&mut self, node: &Node) -> bool {
        let seen = Arc::clone(&self.view.borrow_and_update());
        let done = if seen.own.is_some() { self.done.apply(node, &seen) } else { Ok(()) };
        if let Err(error) = &done {
            node.events.record(NODE, EventKind::Warning, "UplinkNotAttached", format!("{error:#}"));
        }
        done.is_ok()
    }
}

/// What was done so far.
#[derive(Debug, Default)]
struct Done {
    attached: BTreeSet<Ifindex>,
    written: Option<Surroundings>,
    /// Node addresses that no interface has, as was told.
    missing: BTreeSet<std::net::IpAddr>,
}

impl Done {
    fn apply(&mut self, node: &Node, view: &NodesView) -> Result<()> {
        let macs = ethernet()?;
        let wanted = Surroundings::of(view, &node.config, &macs);
        self.tell_missing(node, &wanted);
        self.attach(node, &wanted)?;
        if self.written.as_ref() != Some(&wanted) {
            write(&node.datapath, &wanted).context("tell the eBPF programs of the node's addresses and devices")?;
            self.written = Some(wanted);
        }
        Ok(())
    }

    fn tell_missing(&mut self, node: &Node, wanted: &Surroundings) {
        for ip in wanted.missing.difference(&self.missing) {
            let message = format!("no interface has the node address {ip}: NodePorts do not work on it from outside");
            node.events.record(NODE, EventKind::Warning, "NodeAddressMissing", message);
        }
        self.missing.clone_from(&wanted.missing);
    }

    /// What cannot be attached to does not keep the others from it.
    fn attach(&mut self, node: &Node, wanted: &Surroundings) -> Result<()> {
        let devices: BTreeSet<Ifindex> = wanted.devices.iter().map(|device| device.device).collect();
        let mut failed = Ok(());
        for &device in devices.difference(&self.attached.clone()) {
            let tunnel = wanted.devices.iter().any(|one| one.device == device && one.is_tunnel);
            match attach(node, device, tunnel) {
                Ok(()) => drop(self.attached.insert(device)),
                Err(error) => failed = Err(error),
            }
        }
        for &device in self.attached.clone().difference(&devices) {
            match node.datapath.detach_uplink(device) {
                Ok(()) => drop(self.attached.remove(&device)),
                Err(error) => failed = Err(error.into()),
            }
        }
        failed
    }
}

fn attach(node: &Node, device: Ifindex, tunnel: bool) -> Result<()> {
    node.datapath.attach_uplink(device)?;
    let wanted = match node.config.services.acceleration {
        _ if tunnel => Acceleration::Disabled,
        Said::Disabled => Acceleration::Disabled,
        Said::Native => Acceleration::Native,
        Said::BestEffort => Acceleration::BestEffort,
        Said::Generic => Acceleration::Generic,
    };
    if let Err(error) = node.datapath.accelerate_uplink(device, wanted) {
        let message = format!("NodePorts work without XDP: {:#}", anyhow::Error::from(error));
        node.events.record(NODE, EventKind::Warning, "UplinkNotAccelerated", message);
    }
    Ok(())
}

/// Devices with an Ethernet address: the programs read Ethernet headers.
fn ethernet() -> Result<BTreeMap<Ifindex, Mac>> {
    let links = Netlink::open()?.links()?;
    Ok(links.into_iter().filter_map(|link| Some((link.index, link.mac?))).collect())
}

fn write(datapath: &Datapath, wanted: &Surroundings) -> Result<(), orlop_datapath::Error> {
    datapath.set_devices(&wanted.devices)?;
    // Until the Nodes were listed, what an earlier agent wrote of them serves; and nothing is
    // masqueraded that an earlier agent did not, because pods of other nodes are not told from outside.
    let Some(cluster) = &wanted.cluster else { return datapath.add_node_addrs(&wanted.own) };
    datapath.set_node_addrs(&wanted.own, &cluster.peers)?;
    datapath.set_non_masquerade(&cluster.non_masquerade)?;
    datapath.set_settings(&wanted.settings)
}
