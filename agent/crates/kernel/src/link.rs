//! Links: veth pairs, their settings and their counters.

use crate::{KernelError, Netlink, Netns, Request};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use orlop_model::Ifindex;
use std::fmt;
use std::os::fd::AsRawFd;

/// An Ethernet address, in the order of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What an interface has counted since it was made (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets received by the interface.
    pub rx_packets: u64,
    /// Bytes received, link header included.
    pub rx_bytes: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent, link header included.
    pub tx_bytes: u64,
    /// Packets dropped instead of being sent.
    pub tx_dropped: u64,
}

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub index: Ifindex,
    /// Name, at most 15 bytes.
    pub name: String,
    /// `IFLA_IFALIAS`, free text.
    pub alias: Option<String>,
    /// `veth`, `vxlan`, …; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Ethernet address; `None` where it has another length.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// Index of the veth's other end, in that end's namespace.
    pub peer: Option<u32>,
    /// Counters.
    pub stats: LinkStats,
}

/// A veth pair to be made: one end here, the other directly in its namespace.
#[derive(Debug, Clone)]
pub struct VethPair<'a> {
    /// Name of the end made in the socket's namespace.
    pub name: &'a str,
    /// Its address. Given at creation, so that udev's MACAddressPolicy leaves it alone.
    pub mac: Mac,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Its address.
    pub peer_mac: Mac,
    /// Where the other end is made.
    pub peer_netns: &'a Netns,
    /// Bytes, of both ends.
    pub mtu: u32,
}

fn message(index: Option<Ifindex>, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.map_or(0, Ifindex::get);
    message.attributes = attributes;
    message
}

impl Request {
    /// Makes a veth pair, both ends down: with IFF_UP in the same message the kernel
    /// brings the first end up before it has a peer, which is ENOTCONN.
    #[must_use]
    pub fn create_veth(pair: &VethPair<'_>) -> Self {
        let end = |name: &str, mac: Mac| {
            vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Address(mac.0.to_vec()),
                LinkAttribute::Mtu(pair.mtu),
            ]
        };
        let mut peer = end(pair.peer_name, pair.peer_mac);
        peer.push(LinkAttribute::NetNsFd(pair.peer_netns.as_raw_fd()));
        let mut own = end(pair.name, pair.mac);
        own.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(message(None, peer)))),
        ]));
        let what = format!("make veth {} with peer {} in {}", pair.name, pair.peer_name, pair.peer_netns.id().ino);
        Self::create(what, RouteNetlinkMessage::NewLink(message(None, own)))
    }

    /// Sets a link up or down, by name.
    #[must_use]
    pub fn set_link_up(name: &str, up: bool) -> Self {
        let mut set = message(None, vec![LinkAttribute::IfName(name.to_owned())]);
        set.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        set.header.change_mask = LinkFlags::Up;
        let what = format!("set link {name} {}", if up { "up" } else { "down" });
        Self::change(what, RouteNetlinkMessage::SetLink(set))
    }

    /// Sets a link's alias, by name: free text of at most 255 bytes.
    #[must_use]
    pub fn set_link_alias(name: &str, alias: &str) -> Self {
        let set = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::IfAlias(alias.to_owned())];
        let what = format!("set alias of link {name} to {alias}");
        Self::change(what, RouteNetlinkMessage::SetLink(message(None, set)))
    }

    /// Sets a link's Ethernet address, by name.
    #[must_use]
    pub fn set_link_mac(name: &str, mac: Mac) -> Self {
        let set = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Address(mac.0.to_vec())];
        Self::change(format!("set address of link {name} to {mac}"), RouteNetlinkMessage::SetLink(message(None, set)))
    }

    /// Sets a link's MTU in bytes, by name.
    #[must_use]
    pub fn set_link_mtu(name: &str, mtu: u32) -> Self {
        let set = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Mtu(mtu)];
        Self::change(format!("set MTU of link {name} to {mtu}"), RouteNetlinkMessage::SetLink(message(None, set)))
    }

    /// Deletes a link by index (and a veth's other end); one that is gone is fine. Takes about 30 ms.
    #[must_use]
    pub fn delete_link(index: Ifindex) -> Self {
        Self::delete(format!("delete link {index}"), RouteNetlinkMessage::DelLink(message(Some(index), Vec::new())))
    }

    fn get_link(name: &str) -> Self {
        let ask = message(None, vec![LinkAttribute::IfName(name.to_owned())]);
        Self { fine: &[libc::ENODEV], ..Self::change(format!("find link {name}"), RouteNetlinkMessage::GetLink(ask)) }
    }
}

impl Netlink {
    /// Carries out `requests` and then looks up a link by name, in one exchange.
    ///
    /// # Errors
    /// The first refusal; a link that is not there is `None`.
    pub fn apply_then_link(&mut self, mut requests: Vec<Request>, name: &str) -> Result<Option<Link>, KernelError> {
        requests.push(Request::get_link(name));
        Ok(self.exchange(requests)?.into_iter().find_map(Link::from_answer).filter(|link| link.name == name))
    }

    /// A link by name.
    ///
    /// # Errors
    /// The socket's.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, KernelError> {
        self.apply_then_link(Vec::new(), name)
    }

    /// All links of the namespace, with their counters.
    ///
    /// # Errors
    /// The socket's.
    pub fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        let found = self.dump("list links", &RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(found.into_iter().filter_map(Link::from_answer).collect())
    }
}

impl Link {
    fn from_answer(answer: RouteNetlinkMessage) -> Option<Self> {
        match answer {
            RouteNetlinkMessage::NewLink(message) => Self::from_message(&message),
            _ => None,
        }
    }

    pub(crate) fn from_message(message: &LinkMessage) -> Option<Self> {
        let mut link = Self {
            index: Ifindex::new(message.header.index)?,
            name: String::new(),
            alias: None,
            kind: None,
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            peer: None,
            stats: LinkStats::default(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::Stats64(s) => {
                    link.stats = LinkStats {
                        rx_packets: s.rx_packets,
                        rx_bytes: s.rx_bytes,
                        rx_dropped: s.rx_dropped,
                        tx_packets: s.tx_packets,
                        tx_bytes: s.tx_bytes,
                        tx_dropped: s.tx_dropped,
                    };
                }
                _ => {}
            }
        }
        Some(link)
    }
}
