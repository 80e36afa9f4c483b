//! The flow table and what sockets remember about their service.

use crate::{Addr, Port};

/// Key of `FLOWS`: both ends of a flow, the lower (address, port) first, so that
/// either direction finds the same entry.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowKey {
    /// Address of the lower end.
    pub lo: Addr,
    /// Address of the higher end.
    pub hi: Addr,
    /// Port of the lower end.
    pub lo_port: Port,
    /// Port of the higher end.
    pub hi_port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl FlowKey {
    /// The key of a packet, and whether its source is the higher end.
    #[must_use]
    pub fn new(src: Addr, src_port: Port, dst: Addr, dst_port: Port, proto: u8) -> (Self, bool) {
        if (src, src_port) > (dst, dst_port) {
            (Self { lo: dst, hi: src, lo_port: dst_port, hi_port: src_port, proto, pad: [0; 3] }, true)
        } else {
            (Self { lo: src, hi: dst, lo_port: src_port, hi_port: dst_port, proto, pad: [0; 3] }, false)
        }
    }
}

/// Bits of [`Flow::flags`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowFlags;

impl FlowFlags {
    /// The end that opened the flow is the higher one.
    pub const INITIATOR_HI: u32 = 1;
    /// Counted as a connection of the pod that opened it.
    pub const COUNTED_FROM: u32 = 1 << 1;
    /// Counted as a connection of the pod that it was opened to.
    pub const COUNTED_TO: u32 = 1 << 2;
    /// Learned from a socket and not met by a packet program yet: the next
    /// new connection with this key belongs to the service.
    pub const FRESH: u32 = 1 << 3;
    /// Client to node port: rewrite the destination to [`Flow::nat_addr`].
    pub const DNAT: u32 = 1 << 4;
    /// Client to backend of a node port: rewrite the reply's source to [`Flow::nat_addr`].
    pub const REVERSE: u32 = 1 << 5;
    /// The lower end sent FIN.
    pub const FIN_LO: u32 = 1 << 6;
    /// The higher end sent FIN.
    pub const FIN_HI: u32 = 1 << 7;
    /// Either end sent RST.
    pub const RST: u32 = 1 << 8;
}

/// Value of `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Service number, 0 when the flow is not a service's.
    pub service: u32,
    /// Backend id, 0 when the flow is not a service's.
    pub backend: u32,
    /// [`FlowFlags`].
    pub flags: u32,
    /// TCP: sequence number of the SYN that was counted, which tells a
    /// retransmission from a new connection on the same ports.
    pub isn: u32,
    /// Seconds of the monotonic clock at the last packet that a program met.
    pub seen_s: u32,
    /// Address to put in, by [`FlowFlags::DNAT`] and [`FlowFlags::REVERSE`].
    pub nat_addr: Addr,
    /// Port to put in.
    pub nat_port: Port,
    /// Zero.
    pub pad: [u8; 2],
}

/// A UDP flow without packets for this long is over: the next packet counts as
/// a new connection. The kernel's own `nf_conntrack_udp_timeout_stream`.
pub const UDP_IDLE_S: u32 = 120;

/// An established TCP flow may be silent this long before its NAT entry may be
/// taken over by another. The kernel's `nf_conntrack_tcp_timeout_established`
/// is five days; LRU eviction comes first under load.
pub const TCP_IDLE_S: u32 = 432_000;

/// Values of [`SocketService::state`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketState;

impl SocketState {
    /// The socket's peer is no service.
    pub const NONE: u8 = 0;
    /// Translated; TCP: no packet left yet.
    pub const TRANSLATED: u8 = 1;
    /// Translated, and its TCP flow is in `FLOWS`.
    pub const LEARNED: u8 = 2;
}

/// Value of `SOCKETS`, by socket cookie: where a socket meant to go and where
/// it was sent.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketService {
    /// The address that the program asked for.
    pub service_addr: Addr,
    /// The address that it got.
    pub backend_addr: Addr,
    /// The port that the program asked for.
    pub service_port: Port,
    /// The port that it got.
    pub backend_port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// [`SocketState`].
    pub state: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Service number.
    pub service: u32,
    /// Backend id.
    pub backend: u32,
}

/// Key of `UDP_PEERS`: one end that an unconnected UDP socket talks to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UdpPeerKey {
    /// Socket cookie.
    pub cookie: u64,
    /// Address of the service ([`Self::SERVICE`]) or the backend ([`Self::BACKEND`]).
    pub addr: Addr,
    /// Its port.
    pub port: Port,
    /// Which of the two the address is.
    pub side: u8,
    /// Zero.
    pub pad: [u8; 5],
}

impl UdpPeerKey {
    /// The value is the backend that this socket's datagrams to the service go to.
    pub const SERVICE: u8 = 0;
    /// The value is the service that datagrams from the backend came for.
    pub const BACKEND: u8 = 1;
}

/// Value of `UDP_PEERS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpPeer {
    /// The other side's address.
    pub addr: Addr,
    /// The other side's port.
    pub port: Port,
    /// Zero.
    pub pad: [u8; 2],
    /// Service number.
    pub service: u32,
    /// Backend id.
    pub backend: u32,
    /// Zero.
    pub pad2: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 40 && size_of::<Flow>() == 40);
const _: () = assert!(size_of::<SocketService>() == 48);
const _: () = assert!(size_of::<UdpPeerKey>() == 32 && size_of::<UdpPeer>() == 32);
