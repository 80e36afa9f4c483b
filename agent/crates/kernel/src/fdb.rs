//! The forwarding table of a VXLAN device: which node an Ethernet address is behind.

use crate::link::Mac;
use crate::{KernelError, Netlink, Request};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use orlop_model::Ifindex;
use std::net::IpAddr;

/// `NUD_PERMANENT | NUD_NOARP`: never aged and never asked for, as `bridge fdb … permanent` writes it.
const PERMANENT: u16 = 0x80 | 0x40;

/// A permanent entry of a VXLAN device's own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The VXLAN device.
    pub link: Ifindex,
    /// Destination of the inner frame.
    pub mac: Mac,
    /// Where the outer packet goes.
    pub remote: IpAddr,
}

impl FdbEntry {
    fn message(self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.link.get();
        message.header.state = NeighbourState::from(PERMANENT);
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()));
        message.attributes.push(NeighbourAttribute::Destination(self.remote.into()));
        message
    }
}

impl Request {
    /// Adds an entry, in the place of one for the same Ethernet address.
    #[must_use]
    pub fn put_fdb(entry: FdbEntry) -> Self {
        let what = format!("add forwarding entry {} to {} on {}", entry.mac, entry.remote, entry.link);
        Self::put(what, RouteNetlinkMessage::NewNeighbour(entry.message()))
    }

    /// Removes an entry; one that is gone is fine.
    #[must_use]
    pub fn delete_fdb(entry: FdbEntry) -> Self {
        let what = format!("remove forwarding entry {} on {}", entry.mac, entry.link);
        Self::delete(what, RouteNetlinkMessage::DelNeighbour(entry.message()))
    }
}

impl Netlink {
    /// The entries of one VXLAN device that lead to another node.
    ///
    /// # Errors
    /// The socket's.
    pub fn fdb(&mut self, link: Ifindex) -> Result<Vec<FdbEntry>, KernelError> {
        let mut ask = NeighbourMessage::default();
        ask.header.family = AddressFamily::Bridge;
        let found = self.dump("list forwarding entries", &RouteNetlinkMessage::GetNeighbour(ask))?;
        Ok(found.into_iter().filter_map(entry_of).filter(|entry| entry.link == link).collect())
    }
}

fn entry_of(answer: RouteNetlinkMessage) -> Option<FdbEntry> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    let (mut mac, mut remote) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => remote = ip_of(bytes),
            _ => {}
        }
    }
    Some(FdbEntry { link: Ifindex::new(message.header.ifindex)?, mac: mac?, remote: remote? })
}

/// In the bridge's family the length alone says which kind of address it is.
fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
