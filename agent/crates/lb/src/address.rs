//! Addresses and ports between `std` and the tables' bytes.

use orlop_ebpf_abi::{Addr, FrontendFlags, FrontendKey, Port, SourceRangeKey};
use orlop_model::Protocol;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family. A Service port has one set of slots for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IpFamily {
    /// Version 4.
    IPv4,
    /// Version 6.
    IPv6,
}

impl IpFamily {
    /// The family of an address. An IPv4-mapped IPv6 address is IPv4, because the
    /// tables cannot tell the two apart.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.to_canonical().is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }

    /// The all-zero address of the family, which stands for every node address.
    #[must_use]
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::IPv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::IPv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        })
    }
}

/// An address as the tables hold it: 16 bytes, network order, IPv4 mapped.
#[must_use]
pub fn addr_bytes(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that those bytes stand for; a mapped one comes back as IPv4.
#[must_use]
pub fn addr_ip(addr: Addr) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(addr)).to_canonical()
}

/// A port as the tables hold it: two bytes, network order.
#[must_use]
pub fn port_bytes(port: u16) -> Port {
    port.to_be_bytes()
}

/// The port that those bytes stand for.
#[must_use]
pub fn port_number(port: Port) -> u16 {
    u16::from_be_bytes(port)
}

/// The frontend key of a service address and port (host order).
#[must_use]
pub fn frontend_key(ip: IpAddr, port: u16, protocol: Protocol) -> FrontendKey {
    FrontendKey { addr: addr_bytes(ip), port: port_bytes(port), proto: protocol.number(), pad: 0 }
}

/// The protocol with this IP protocol number, if it is one of Kubernetes'.
#[must_use]
pub fn protocol_of(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.number() == number)
}

/// `10.0.0.1:80/TCP`, `[fd00::1]:80/UDP`; an unknown protocol as its number.
pub(crate) fn socket_text(addr: Addr, port: Port, proto: u8) -> String {
    let socket = std::net::SocketAddr::new(addr_ip(addr), port_number(port));
    match protocol_of(proto) {
        Some(protocol) => format!("{socket}/{protocol}"),
        None => format!("{socket}/{proto}"),
    }
}

/// `7 10.0.0.0/8`: the service's number and the network.
pub(crate) fn range_text(key: &SourceRangeKey) -> String {
    let (service, ip) = (u32::from_be_bytes(key.service), addr_ip(key.addr));
    let before = SourceRangeKey::SERVICE_BITS + if ip.is_ipv4() { 96 } else { 0 };
    format!("{service} {ip}/{}", key.bits.saturating_sub(before))
}

/// Whether these flags are a NodePort's.
pub(crate) fn is_node_port(flags: u32) -> bool {
    flags & FrontendFlags::NODE_PORT != 0
}

/// The names of flags, in the order of their bits.
pub(crate) fn flag_names(flags: u32) -> impl Iterator<Item = &'static str> {
    let names = [
        (FrontendFlags::NODE_PORT, "nodeport"),
        (FrontendFlags::EXTERNAL, "external"),
        (FrontendFlags::INTERNAL_LOCAL, "internal-local"),
        (FrontendFlags::EXTERNAL_LOCAL, "external-local"),
        (FrontendFlags::SOURCE_RANGES, "source-ranges"),
        (FrontendFlags::DSR, "dsr"),
        (FrontendFlags::HOST_PORT, "hostport"),
    ];
    names.into_iter().filter(move |(bit, _)| flags & bit != 0).map(|(_, name)| name)
}
