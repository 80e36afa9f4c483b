//! A node without Orlop: what other proxies are measured on.

use crate::namespaces::{Namespaces, ip};
use crate::world::Role;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

/// Next hop of the pods, as `orlop-cni` has it.
const GATEWAY: &str = "169.254.1.1";

/// A node, its pods and an outside client, each in a network namespace of its own. Wires,
/// addresses and neighbours are those of a [`crate::World`]; routing is the kernel's.
///
/// ```text
///   pod  eth0 ◀─veth─▶ pod0 ┐
///   pod  eth0 ◀─veth─▶ pod1 ┤ node, 10.99.0.1 up0 ◀─veth─▶ out0 10.99.0.2, outside
/// ```
#[derive(Debug)]
pub struct PlainNode {
    node: Namespaces,
    outside: Namespaces,
    pods: Vec<Namespaces>,
}

impl PlainNode {
    /// With one pod for each address; outside has a route to them.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn new(pod_cidr: &str, pods: &[&str]) -> Self {
        let (node, outside) = (Namespaces::network(), Namespaces::network());
        node.link_to("up0", &outside, "out0");
        for (role, namespaces, link) in [(Role::Node, &node, "up0"), (Role::Outside, &outside, "out0")] {
            namespaces.run(|| {
                ip(&format!("addr add {}/24 dev {link}", role.address()));
                ip(&format!("link set {link} up"));
            });
        }
        node.run(|| {
            forward();
            ip(&format!("route add default via {}", Role::Outside.address()));
        });
        outside.run(|| ip(&format!("route add {pod_cidr} via {}", Role::Node.address())));
        let pods = pods.iter().enumerate().map(|(number, address)| pod(&node, number, address)).collect();
        Self { node, outside, pods }
    }

    /// A command in a pod, by its place in the list that the node was made with.
    ///
    /// # Panics
    /// There is no such pod.
    #[must_use]
    pub fn pod_command(&self, pod: usize, program: impl AsRef<OsStr>) -> Command {
        self.pods[pod].command(program)
    }

    /// A command on the node.
    #[must_use]
    pub fn node_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.node.command(program)
    }

    /// A command outside.
    #[must_use]
    pub fn outside_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.outside.command(program)
    }
}

/// As every node does.
pub(crate) fn forward() {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forward packets");
}

/// Neighbours are permanent on both sides, so no ARP is sent while something is measured.
pub(crate) fn pod(node: &Namespaces, number: usize, address: &str) -> Namespaces {
    let pod = Namespaces::network();
    let (host, host_mac, pod_mac) = (format!("pod{number}"), mac(0, number), mac(1, number));
    node.link_to(&host, &pod, "eth0");
    pod.run(|| {
        ip(&format!("link set eth0 address {pod_mac} up"));
        ip(&format!("addr add {address}/32 dev eth0"));
        ip(&format!("route add default via {GATEWAY} dev eth0 onlink"));
        ip(&format!("neigh replace {GATEWAY} lladdr {host_mac} dev eth0 nud permanent"));
    });
    node.run(|| {
        ip(&format!("link set {host} address {host_mac} up"));
        ip(&format!("route add {address}/32 dev {host}"));
        ip(&format!("neigh replace {address} lladdr {pod_mac} dev {host} nud permanent"));
        fs::write(format!("/proc/sys/net/ipv4/conf/{host}/rp_filter"), "0").expect("set rp_filter");
    });
    pod
}

/// Locally administered.
fn mac(side: usize, number: usize) -> String {
    format!("02:00:00:00:{side:02x}:{number:02x}")
}
