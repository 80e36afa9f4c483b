//! Addresses, routes and neighbours, IPv4 and IPv6 alike.

use crate::link::Mac;
use crate::{KernelError, Link, Netlink, Request};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use orlop_model::Ifindex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The link.
    pub link: Ifindex,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length in bits; 32 or 128 adds no connected route to a network.
    pub prefix: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Destination and prefix length; prefix 0 is the default route.
    pub destination: (IpAddr, u8),
    /// Next hop, taken to be on the link whatever the addresses say (`onlink`);
    /// `None` is a route of scope link.
    pub gateway: Option<IpAddr>,
    /// Outgoing link.
    pub link: Ifindex,
    /// Preferred source address.
    pub source: Option<IpAddr>,
}

/// A permanent neighbour entry (NUD_PERMANENT): no ARP and no neighbour discovery for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbour {
    /// The link.
    pub link: Ifindex,
    /// Who.
    pub ip: IpAddr,
    /// Where.
    pub mac: Mac,
}

pub(crate) const fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

const fn route_address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

impl Address {
    fn message(self) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(self.ip);
        message.header.prefix_len = self.prefix;
        message.header.index = self.link.get();
        message.header.scope = AddressScope::Universe;
        message.attributes.push(AddressAttribute::Address(self.ip));
        message.attributes.push(AddressAttribute::Local(self.ip));
        if self.ip.is_ipv6() {
            // Orlop gives addresses out itself: detecting duplicates would only keep one tentative for a second.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        message
    }
}

impl Route {
    pub(crate) fn message(self) -> RouteMessage {
        let (destination, prefix) = self.destination;
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = prefix;
        message.header.scope = RouteScope::Link;
        if prefix > 0 {
            message.attributes.push(RouteAttribute::Destination(route_address(destination)));
        }
        if let Some(gateway) = self.gateway {
            message.header.scope = RouteScope::Universe;
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(route_address(gateway)));
        }
        if let Some(source) = self.source {
            message.attributes.push(RouteAttribute::PrefSource(route_address(source)));
        }
        message.attributes.push(RouteAttribute::Oif(self.link.get()));
        message
    }

    pub(crate) fn text(self) -> String {
        let (ip, prefix) = self.destination;
        match self.gateway {
            Some(gateway) => format!("route {ip}/{prefix} via {gateway} on {}", self.link),
            None => format!("route {ip}/{prefix} on {}", self.link),
        }
    }
}

impl Neighbour {
    fn message(self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(self.ip);
        message.header.ifindex = self.link.get();
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(match self.ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()));
        message
    }
}

impl Request {
    /// Adds or replaces an address, without duplicate detection.
    #[must_use]
    pub fn put_address(address: Address) -> Self {
        let what = format!("add address {}/{} to {}", address.ip, address.prefix, address.link);
        Self::put(what, RouteNetlinkMessage::NewAddress(address.message()))
    }

    /// Removes an address; one that is gone is fine.
    #[must_use]
    pub fn delete_address(address: Address) -> Self {
        let what = format!("remove address {}/{} from {}", address.ip, address.prefix, address.link);
        Self::delete(what, RouteNetlinkMessage::DelAddress(address.message()))
    }

    /// Adds or replaces a route. The link must be up.
    #[must_use]
    pub fn put_route(route: Route) -> Self {
        Self::put(format!("add {}", route.text()), RouteNetlinkMessage::NewRoute(route.message()))
    }

    /// Removes a route; one that is gone is fine.
    #[must_use]
    pub fn delete_route(route: Route) -> Self {
        Self::delete(format!("remove {}", route.text()), RouteNetlinkMessage::DelRoute(route.message()))
    }

    /// Adds or replaces a permanent neighbour entry.
    #[must_use]
    pub fn put_neighbour(neighbour: Neighbour) -> Self {
        let what = format!("add neighbour {} at {} on {}", neighbour.ip, neighbour.mac, neighbour.link);
        Self::put(what, RouteNetlinkMessage::NewNeighbour(neighbour.message()))
    }

    /// Removes a neighbour entry; one that is gone is fine.
    #[must_use]
    pub fn delete_neighbour(neighbour: Neighbour) -> Self {
        let what = format!("remove neighbour {} on {}", neighbour.ip, neighbour.link);
        Self::delete(what, RouteNetlinkMessage::DelNeighbour(neighbour.message()))
    }
}

impl Netlink {
    /// All addresses of the namespace.
    ///
    /// # Errors
    /// The socket's.
    pub fn addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        let found = self.dump("list addresses", &RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(found.into_iter().filter_map(address_of).collect())
    }

    /// The link that carries `ip`.
    ///
    /// # Errors
    /// The socket's.
    pub fn link_with_address(&mut self, ip: IpAddr) -> Result<Option<Link>, KernelError> {
        let Some(address) = self.addresses()?.into_iter().find(|address| address.ip == ip) else { return Ok(None) };
        Ok(self.links()?.into_iter().find(|link| link.index == address.link))
    }

    /// The unicast routes of the main table, both families.
    ///
    /// # Errors
    /// The socket's.
    pub fn routes(&mut self) -> Result<Vec<Route>, KernelError> {
        let mut routes = Vec::new();
        for of in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = RouteMessage::default();
            ask.header.address_family = of;
            let found = self.dump("list routes", &RouteNetlinkMessage::GetRoute(ask))?;
            routes.extend(found.into_iter().filter_map(route_of));
        }
        Ok(routes)
    }

    /// The permanent neighbour entries, both families.
    ///
    /// # Errors
    /// The socket's.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError> {
        let found = self.dump("list neighbours", &RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        Ok(found.into_iter().filter_map(neighbour_of).collect())
    }
}

fn address_of(answer: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is ours.
    let ip = find(true).or_else(|| find(false))?;
    Some(Address { link: Ifindex::new(message.header.index)?, ip, prefix: message.header.prefix_len })
}

fn route_of(answer: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    unicast_of(&message)
}

/// The unicast route with one next hop that the message shows; `None` for any other.
pub(crate) fn unicast_of(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN || message.header.kind != RouteType::Unicast {
        return None;
    }
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let ip_of = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let (mut destination, mut gateway, mut source, mut link) = (any, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = ip_of(to)?,
            RouteAttribute::Gateway(via) => gateway = ip_of(via),
            RouteAttribute::PrefSource(from) => source = ip_of(from),
            RouteAttribute::Oif(index) => link = Ifindex::new(*index),
            _ => {}
        }
    }
    let destination = (destination, message.header.destination_prefix_length);
    Some(Route { destination, gateway, link: link?, source })
}

fn neighbour_of(answer: RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour { link: Ifindex::new(message.header.ifindex)?, ip: ip?, mac: mac? })
}
