//! The rules that kube-proxy writes, for as many Services as a bench wants.
//!
//! Both generators follow kube-proxy v1.36 (`syncProxyRules` in `pkg/proxy/iptables/proxier.go` and
//! `pkg/proxy/nftables/proxier.go`) with its defaults, as kubeadm runs it: pods are told by the cluster's
//! CIDR, NodePorts are served on all addresses (iptables) or the node's own (nftables), loopback NodePorts are on.
//! kube-proxy walks its Services in the order of a Go map, which is random: a Service is in the middle on average.

pub mod iptables;
pub mod nftables;

use std::net::{Ipv4Addr, SocketAddrV4};

/// The bit by which kube-proxy marks packets for masquerade.
const MASQUERADE_MARK: &str = "0x4000";

/// One TCP port of a Service.
#[derive(Debug, Clone)]
pub struct ServicePort {
    pub namespace: String,
    pub name: String,
    /// The port's name; may be empty.
    pub port_name: String,
    pub cluster_ip: Ipv4Addr,
    pub port: u16,
    pub node_port: Option<u16>,
    /// All on this node; none makes the Service refuse.
    pub endpoints: Vec<SocketAddrV4>,
}

impl ServicePort {
    /// kube-proxy's name of it: `namespace/name:port`.
    fn full_name(&self) -> String {
        let colon = if self.port_name.is_empty() { "" } else { ":" };
        format!("{}/{}{colon}{}", self.namespace, self.name, self.port_name)
    }
}

/// What is the same for all Services.
#[derive(Debug, Clone)]
pub struct ClusterNet {
    pub pod_cidr: String,
    pub service_cidr: String,
    pub node_ip: Ipv4Addr,
}

/// The first `length` characters of the SHA-256 in base32: how kube-proxy names chains.
fn hash(text: &str, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let bit = |at: usize| usize::from(digest.as_ref()[at / 8] >> (7 - at % 8) & 1);
    let letter = |at: usize| ALPHABET[(0..5).fold(0, |value, of| value << 1 | bit(at * 5 + of))] as char;
    (0..length).map(letter).collect()
}

#[cfg(test)]
mod tests;
