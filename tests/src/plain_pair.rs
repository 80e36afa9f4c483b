//! Two nodes without Orlop, a router and a client: NodePorts whose backend is on another node.

use crate::namespaces::{Namespaces, ip};
use crate::plain_node::{forward, pod};
use std::ffi::OsStr;
use std::process::Command;

/// The wires and addresses of [`crate::Nodes`] with two nodes on one segment; the second has a pod.
///
/// ```text
///   first  up0 10.99.0.1 ─┐
///   second up0 10.99.0.2 ─┴─ seg0 10.99.0.254 router seg9 10.99.9.254 ── out0 10.99.9.1 outside
///     └─ pod 10.244.2.2
/// ```
///
/// The first node and the router know the way to the pod, so that it can be reached directly, too.
#[derive(Debug)]
pub struct PlainPair {
    first: Namespaces,
    outside: Namespaces,
    pod: Namespaces,
    /// Packets go through them.
    _between: [Namespaces; 2],
}

impl PlainPair {
    /// The first node's address.
    pub const FIRST: &str = "10.99.0.1";
    /// The pod's address.
    pub const POD: &str = "10.244.2.2";

    /// See the type's text.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn new() -> Self {
        let [first, second, router, outside] = std::array::from_fn(|_| Namespaces::network());
        router.run(|| {
            forward();
            for segment in [0, 9] {
                ip(&format!("link add seg{segment} type bridge forward_delay 0 mcast_snooping 0"));
                ip(&format!("addr add 10.99.{segment}.254/24 dev seg{segment}"));
                ip(&format!("link set seg{segment} up"));
            }
        });
        for (here, link, segment, number) in [(&first, "up0", 0, 1), (&second, "up0", 0, 2), (&outside, "out0", 9, 1)] {
            let there = format!("p{segment}{number}");
            here.link_to(link, &router, &there);
            router.run(|| ip(&format!("link set {there} master seg{segment} up")));
            here.run(|| {
                ip(&format!("addr add 10.99.{segment}.{number}/24 dev {link}"));
                ip(&format!("link set {link} up"));
                ip(&format!("route add default via 10.99.{segment}.254"));
            });
        }
        for node in [&first, &second] {
            node.run(forward);
        }
        for knows in [&first, &router] {
            knows.run(|| ip("route add 10.244.2.0/24 via 10.99.0.2"));
        }
        let pod = pod(&second, 0, Self::POD);
        Self { first, outside, pod, _between: [second, router] }
    }

    /// A command on the first node.
    #[must_use]
    pub fn first_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.first.command(program)
    }

    /// A command in the second node's pod.
    #[must_use]
    pub fn pod_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.pod.command(program)
    }

    /// A command outside.
    #[must_use]
    pub fn outside_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.outside.command(program)
    }
}

impl Default for PlainPair {
    fn default() -> Self {
        Self::new()
    }
}
