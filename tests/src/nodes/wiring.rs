//! The links between nodes: bridges in the router's namespace, veths into them.

use super::at::{v4, v6};
use super::{Families, NodeAt, Nodes, OUTSIDE};
use crate::namespaces::{Namespaces, ip};

impl Nodes {
    /// A bridge with the router's address on it.
    pub(super) fn make_segment(&mut self, segment: u8) {
        if !self.segments.insert(segment) {
            return;
        }
        self.router.run(|| {
            ip(&format!("link add seg{segment} type bridge forward_delay 0 mcast_snooping 0"));
            ip(&format!("addr add {}/24 dev seg{segment}", v4(segment, 254)));
            ip(&format!("addr add {}/64 dev seg{segment} nodad", v6(segment, 254)));
            ip(&format!("link set seg{segment} up"));
        });
    }

    pub(super) fn wire(&self, node: &NodeAt, inside: &Namespaces) {
        let (number, segment, mtu) = (node.number, node.segment, node.mtu);
        self.plug(inside, ("up0", &format!("p{number}")), segment, mtu);
        inside.run(|| {
            for address in node.ips() {
                ip(&if address.contains(':') {
                    format!("addr add {address}/64 dev up0 nodad")
                } else {
                    format!("addr add {address}/24 dev up0")
                });
            }
            default_routes(node.underlay, segment);
        });
    }

    /// A veth into the bridge of a segment, both ends up.
    fn plug(&self, inside: &Namespaces, (here, there): (&str, &str), segment: u8, mtu: u32) {
        inside.link_to(here, &self.router, there);
        self.router.run(|| {
            ip(&format!("link set {there} mtu {mtu} master seg{segment}"));
            ip(&format!("link set {there} up"));
        });
        inside.run(|| {
            ip(&format!("link set {here} mtu {mtu}"));
            ip(&format!("link set {here} up"));
        });
    }

    pub(super) fn connect_outside(&mut self) {
        self.make_segment(OUTSIDE);
        self.plug(&self.outside, ("out0", "pout"), OUTSIDE, 1500);
        self.outside.run(|| {
            ip(&format!("addr add {}/24 dev out0", v4(OUTSIDE, 1)));
            ip(&format!("addr add {}/64 dev out0 nodad", v6(OUTSIDE, 1)));
            default_routes(Families::Dual, OUTSIDE);
        });
    }
}

/// By way of the router, again after an address has changed.
pub(super) fn default_routes(families: Families, segment: u8) {
    if families != Families::V6 {
        ip(&format!("route replace default via {}", v4(segment, 254)));
    }
    if families != Families::V4 {
        ip(&format!("-6 route replace default via {}", v6(segment, 254)));
    }
}
