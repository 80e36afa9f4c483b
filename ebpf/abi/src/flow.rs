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

/// An address and a port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct End {
    /// The address; zero when there is none.
    pub addr: Addr,
    /// The port.
    pub port: Port,
    /// Zero.
    pub pad: [u8; 2],
}

/// Bits of [`Flow::flags`].
///
/// A translated flow has two entries. The original one has the ends as the initiator
/// knows them (client, service): its packets get [`Flow::nat`] as their destination
/// ([`Self::DNAT`]) and [`Flow::snat`] as their source ([`Self::SNAT`]). The other
/// ([`Self::REVERSE`]) has the ends as the responder knows them: its packets get
/// [`Flow::nat`], the service, as their source ([`Self::DNAT`]) and [`Flow::snat`], the client, as
/// their destination ([`Self::SNAT`]). Both entries have the same of the two bits, and both ends
/// written: an end that is not replaced is as in the key.
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
    /// One end is the service's, the other entry's a backend's.
    pub const DNAT: u32 = 1 << 4;
    /// The entry of the responder's side.
    pub const REVERSE: u32 = 1 << 5;
    /// The lower end sent FIN (SCTP: SHUTDOWN).
    pub const FIN_LO: u32 = 1 << 6;
    /// The higher end sent FIN (SCTP: SHUTDOWN).
    pub const FIN_HI: u32 = 1 << 7;
    /// Either end sent RST (SCTP: ABORT).
    pub const RST: u32 = 1 << 8;
    /// The client's end is replaced, too.
    pub const SNAT: u32 = 1 << 9;
    /// The responder has answered.
    pub const REPLIED: u32 = 1 << 10;
    /// Forwarded as it is to the backend's node, which answers the client itself; [`Flow::nat`] is the backend.
    pub const DSR: u32 = 1 << 11;
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
    /// The other side of the service: see [`FlowFlags`].
    pub nat: End,
    /// The other side of the client: see [`FlowFlags`].
    pub snat: End,
}

/// How long a flow may be silent before it is forgotten, in seconds: the kernel's
/// `nf_conntrack_*_timeout` (net/netfilter/nf_conntrack_proto_*.c), but an established TCP connection a day, as
/// kube-proxy sets it (`conntrack.tcpEstablishedTimeout`), not five.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts;

impl Timeouts {
    /// TCP, both ends have spoken.
    pub const TCP_ESTABLISHED_S: u32 = 86_400;
    /// TCP, only the SYN was seen.
    pub const TCP_SYN_S: u32 = 120;
    /// TCP, one end has closed (kube-proxy's `tcpCloseWaitTimeout`).
    pub const TCP_CLOSE_WAIT_S: u32 = 3_600;
    /// TCP, both ends have closed.
    pub const TCP_TIME_WAIT_S: u32 = 120;
    /// TCP, reset.
    pub const TCP_CLOSE_S: u32 = 10;
    /// UDP, only one end has spoken.
    pub const UDP_S: u32 = 30;
    /// UDP, both ends have spoken; after this a packet counts as a new connection.
    pub const UDP_STREAM_S: u32 = 120;
    /// SCTP, both ends have spoken.
    pub const SCTP_ESTABLISHED_S: u32 = 210;
    /// SCTP otherwise.
    pub const SCTP_S: u32 = 10;
    /// ICMP echo, and anything else.
    pub const OTHER_S: u32 = 30;
}

impl Flow {
    /// How long this flow may be silent, in seconds: [`Timeouts`].
    #[must_use]
    #[inline(always)]
    pub const fn timeout_s(&self, proto: u8) -> u32 {
        const CLOSED: u32 = FlowFlags::FIN_LO | FlowFlags::FIN_HI;
        let (replied, closed) = (self.flags & FlowFlags::REPLIED != 0, self.flags & CLOSED);
        match proto {
            6 if self.flags & FlowFlags::RST != 0 => Timeouts::TCP_CLOSE_S,
            6 if closed == CLOSED => Timeouts::TCP_TIME_WAIT_S,
            6 if closed != 0 => Timeouts::TCP_CLOSE_WAIT_S,
            6 if replied => Timeouts::TCP_ESTABLISHED_S,
            6 => Timeouts::TCP_SYN_S,
            17 if replied => Timeouts::UDP_STREAM_S,
            17 => Timeouts::UDP_S,
            132 if replied && closed == 0 && self.flags & FlowFlags::RST == 0 => Timeouts::SCTP_ESTABLISHED_S,
            132 => Timeouts::SCTP_S,
            _ => Timeouts::OTHER_S,
        }
    }
}

/// Key of `FRAGMENTS`: a fragmented datagram.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FragmentKey {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// The header's identification, as it stands there.
    pub id: u32,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Value of `FRAGMENTS`: what the first fragment said.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentPorts {
    /// Source port.
    pub src: Port,
    /// Destination port.
    pub dst: Port,
}

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
    /// The service's [`Frontend::epoch`](crate::Frontend::epoch) by which the backend is one of its.
    pub epoch: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 40 && size_of::<Flow>() == 60 && size_of::<End>() == 20);
const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentPorts>() == 4);
const _: () = assert!(size_of::<SocketService>() == 48);
const _: () = assert!(size_of::<UdpPeerKey>() == 32 && size_of::<UdpPeer>() == 32);
