//! Routes that say whose they are and how large a packet may be.

use crate::route::{family, unicast_of};
use crate::{KernelError, Netlink, Request, Route};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route with the mark of who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteEntry {
    /// Where to, and by which way.
    pub route: Route,
    /// `rtm_protocol`: who made it. The kernel gives it no meaning; 4 is `static`.
    pub protocol: u8,
    /// Largest packet in bytes, where it is not the link's own.
    pub mtu: Option<u32>,
}

/// A route of the main table as it was found, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRoute {
    /// Destination and prefix length.
    pub destination: (IpAddr, u8),
    /// `rtm_protocol`.
    pub protocol: u8,
    /// What it does; `None` for anything but a unicast route with one next hop.
    pub entry: Option<RouteEntry>,
}

impl fmt::Display for SeenRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => f.write_str(&entry.route.text())?,
            None => write!(f, "route {}/{}", self.destination.0, self.destination.1)?,
        }
        write!(f, " (protocol {})", self.protocol)
    }
}

impl RouteEntry {
    fn message(self) -> RouteMessage {
        let mut message = self.route.message();
        message.header.protocol = RouteProtocol::from(self.protocol);
        if let Some(mtu) = self.mtu {
            message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        }
        message
    }
}

impl Request {
    /// Adds a route; another one to the same destination, whoever made it, is a refusal (`EEXIST`). The link must be up.
    #[must_use]
    pub fn create_route_entry(entry: RouteEntry) -> Self {
        let message = RouteNetlinkMessage::NewRoute(entry.message());
        Self::create(format!("add {}", entry.route.text()), message)
    }

    /// Adds a route, in the place of the one to the same destination. The kernel does not ask whose that one is.
    #[must_use]
    pub fn put_route_entry(entry: RouteEntry) -> Self {
        Self::put(format!("put {}", entry.route.text()), RouteNetlinkMessage::NewRoute(entry.message()))
    }

    /// Removes the route to this destination that bears the mark `protocol`; one that is gone is fine.
    #[must_use]
    pub fn delete_route_of(destination: (IpAddr, u8), protocol: u8) -> Self {
        let (ip, prefix) = destination;
        let mut message = RouteMessage::default();
        message.header.address_family = family(ip);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(protocol);
        message.header.destination_prefix_length = prefix;
        // Of whatever scope and kind: RT_SCOPE_NOWHERE and RTN_UNSPEC.
        message.header.scope = netlink_packet_route::route::RouteScope::NoWhere;
        message.attributes.push(RouteAttribute::Destination(match ip {
            IpAddr::V4(ip) => RouteAddress::Inet(ip),
            IpAddr::V6(ip) => RouteAddress::Inet6(ip),
        }));
        Self::delete(
            format!("remove route {ip}/{prefix} of protocol {protocol}"),
            RouteNetlinkMessage::DelRoute(message),
        )
    }
}

impl Netlink {
    /// All routes of the main table, both families, with who made them.
    ///
    /// # Errors
    /// The socket's.
    pub fn route_entries(&mut self) -> Result<Vec<SeenRoute>, KernelError> {
        let mut routes = Vec::new();
        for of in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = RouteMessage::default();
            ask.header.address_family = of;
            let found = self.dump("list routes", &RouteNetlinkMessage::GetRoute(ask))?;
            routes.extend(found.iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => seen(message),
                _ => None,
            }));
        }
        Ok(routes)
    }
}

/// `None` for routes of other tables and for what is no route of the Internet.
pub(crate) fn seen(message: &RouteMessage) -> Option<SeenRoute> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut ip = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut mtu, mut several) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(to)) => ip = IpAddr::V4(*to),
            RouteAttribute::Destination(RouteAddress::Inet6(to)) => ip = IpAddr::V6(*to),
            RouteAttribute::MultiPath(_) => several = true,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let protocol = u8::from(message.header.protocol);
    let route = unicast_of(message).filter(|_| !several);
    Some(SeenRoute {
        destination: (ip, message.header.destination_prefix_length),
        protocol,
        entry: route.map(|route| RouteEntry { route, protocol, mtu }),
    })
}
