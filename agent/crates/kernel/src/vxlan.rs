//! VXLAN devices with a forwarding table that is written from here and never learned.

use crate::link::{Link, Mac};
use crate::{KernelError, Netlink, Request};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use std::net::IpAddr;

/// A VXLAN device to be made (RFC 7348).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanSpec<'a> {
    /// Name, at most 15 bytes.
    pub name: &'a str,
    /// Its Ethernet address. Given at creation, so that udev's MACAddressPolicy leaves it alone.
    pub mac: Mac,
    /// Bytes of the largest inner packet.
    pub mtu: u32,
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// UDP port, at both ends.
    pub port: u16,
    /// Source of the outer packets; the unspecified address leaves it to the routes and only says the family.
    pub local: IpAddr,
}

/// A VXLAN device as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The device.
    pub link: Link,
    /// Network identifier.
    pub vni: u32,
    /// UDP port it sends to and listens on.
    pub port: u16,
    /// Source of the outer packets, if it is fixed.
    pub local: Option<IpAddr>,
}

impl Request {
    /// Makes a VXLAN device, down, that learns nothing from what it receives. Outer UDP checksums are on.
    #[must_use]
    pub fn create_vxlan(spec: &VxlanSpec<'_>) -> Self {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(spec.name.to_owned()),
            LinkAttribute::Address(spec.mac.0.to_vec()),
            LinkAttribute::Mtu(spec.mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vec![
                    InfoVxlan::Id(spec.vni),
                    InfoVxlan::Port(spec.port),
                    InfoVxlan::Learning(false),
                    match spec.local {
                        IpAddr::V4(ip) => InfoVxlan::Local(ip),
                        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
                    },
                ])),
            ]),
        ];
        let VxlanSpec { name, vni, port, .. } = spec;
        Self::create(
            format!("make VXLAN device {name} with vni {vni} on UDP port {port}"),
            RouteNetlinkMessage::NewLink(message),
        )
    }
}

impl Netlink {
    /// The VXLAN devices of the namespace.
    ///
    /// # Errors
    /// The socket's.
    pub fn vxlans(&mut self) -> Result<Vec<Vxlan>, KernelError> {
        let found = self.dump("list VXLAN devices", &RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(found.iter().filter_map(vxlan_of).collect())
    }
}

fn vxlan_of(answer: &RouteNetlinkMessage) -> Option<Vxlan> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let infos = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(infos)) => Some(infos),
            _ => None,
        }),
        _ => None,
    })?;
    let mut device = Vxlan { link: Link::from_message(message)?, vni: 0, port: 0, local: None };
    for info in infos {
        match info {
            InfoVxlan::Id(vni) => device.vni = *vni,
            InfoVxlan::Port(port) => device.port = *port,
            InfoVxlan::Local(ip) => device.local = Some((*ip).into()),
            InfoVxlan::Local6(ip) => device.local = Some((*ip).into()),
            _ => {}
        }
    }
    Some(device)
}
