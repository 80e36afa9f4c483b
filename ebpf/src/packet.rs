//! Headers of a packet, read with bounds that do not depend on the packet.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use orlop_ebpf_abi::{Addr, DropReason};

pub const ETH_HEADER_LEN: u32 = 14;
pub const ETH_P_IP: u16 = 0x0800_u16.to_be();
pub const ETH_P_ARP: u16 = 0x0806_u16.to_be();
pub const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
pub const TCP_FIN: u8 = 1;
pub const TCP_SYN: u8 = 2;
pub const TCP_RST: u8 = 4;
pub const TCP_ACK: u8 = 16;
/// More IPv6 extension headers than this are not followed.
const EXTENSION_HEADERS_MAX: u32 = 6;
/// `::ffff:0:0/96` as the lower half of an [`Ip`] without the IPv4 address.
const MAPPED: u64 = u64::from_be(0x0000_ffff_0000_0000);

/// An address as two words in network byte order, IPv4 mapped into IPv6.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ip(pub u64, pub u64);

impl Ip {
    /// From an IPv4 address as it stands in memory.
    #[inline(always)]
    pub fn v4(raw: u32) -> Self {
        Self(0, MAPPED | (u64::from(raw) << 32))
    }

    /// From the four words of an IPv6 address as they stand in memory.
    #[inline(always)]
    pub fn v6(words: [u32; 4]) -> Self {
        Self(u64::from(words[0]) | u64::from(words[1]) << 32, u64::from(words[2]) | u64::from(words[3]) << 32)
    }

    #[inline(always)]
    pub fn from_bytes(addr: &Addr) -> Self {
        let p = addr.as_ptr().cast::<u64>();
        // SAFETY: sixteen bytes are there; unaligned on purpose.
        unsafe { Self(p.read_unaligned(), p.add(1).read_unaligned()) }
    }

    #[inline(always)]
    pub fn bytes(self) -> Addr {
        // SAFETY: two u64 are sixteen bytes, and every pattern is an address.
        unsafe { core::mem::transmute([self.0, self.1]) }
    }

    #[inline(always)]
    pub fn is_v4(self) -> bool {
        self.0 == 0 && self.1 as u32 == MAPPED as u32
    }

    /// The IPv4 address as it stands in memory.
    #[inline(always)]
    pub fn raw_v4(self) -> u32 {
        (self.1 >> 32) as u32
    }

    /// The four words of the IPv6 address as they stand in memory.
    #[inline(always)]
    pub fn words(self) -> [u32; 4] {
        [self.0 as u32, (self.0 >> 32) as u32, self.1 as u32, (self.1 >> 32) as u32]
    }

    /// The all-zero address of the same family.
    #[inline(always)]
    pub fn unspecified(self) -> Self {
        if self.is_v4() { Self(0, MAPPED) } else { Self(0, 0) }
    }

    /// `::`, from which a host asks whether an address is free.
    #[inline(always)]
    pub fn is_zero(self) -> bool {
        self.0 == 0 && self.1 == 0
    }

    /// `fe80::/10`.
    #[inline(always)]
    pub fn is_link_local_v6(self) -> bool {
        u64::from_be(self.0) >> 54 == 0xfe80 >> 6
    }
}

/// What was read.
#[derive(Clone, Copy)]
pub struct Packet {
    pub src: Ip,
    pub dst: Ip,
    /// As it stands in memory (network order); 0 without ports.
    pub src_port: u16,
    /// As it stands in memory (network order); 0 without ports.
    pub dst_port: u16,
    pub proto: u8,
    /// Of SCTP its first chunk's part in a connection, in TCP's words.
    pub tcp_flags: u8,
    /// TCP, UDP and SCTP whose header is in this packet.
    pub has_ports: bool,
    /// ICMP echo: the identifier is the port of the end that asks, the other end's is 0.
    pub is_echo: bool,
    /// Part of a fragmented packet.
    pub fragment: bool,
    pub icmp_error: bool,
    /// TCP's sequence number, the tag in an SCTP INIT.
    pub seq: u32,
    pub l3: u32,
    pub l4: u32,
}

impl Packet {
    /// TCP or SCTP: its first packet says so, and its last.
    #[inline(always)]
    pub fn is_connected(&self) -> bool {
        self.proto == TCP || self.proto == SCTP
    }

    /// The first packet of a TCP connection or SCTP association.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.is_connected() && self.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    }

    /// May this packet be the first of a flow?
    #[inline(always)]
    pub fn may_open(&self) -> bool {
        if self.is_echo { self.src_port != 0 } else { !self.is_connected() || self.is_syn() }
    }

    /// Has it what tells one flow from another?
    #[inline(always)]
    pub fn is_of_a_flow(&self) -> bool {
        self.has_ports || self.is_echo
    }

    #[inline(always)]
    pub fn ends(&self) -> Ends {
        Ends { src: self.src, dst: self.dst, src_port: self.src_port, dst_port: self.dst_port }
    }
}

/// Who sends to whom; ports as in [`Packet`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub src: Ip,
    pub dst: Ip,
    pub src_port: u16,
    pub dst_port: u16,
}

#[repr(C, align(8))]
pub struct Buffer<const N: usize>(pub [u8; N]);

#[inline(always)]
pub fn load<C: EbpfContext, const N: usize>(ctx: &C, offset: u32) -> Result<Buffer<N>, DropReason> {
    let mut buffer = Buffer([0; N]);
    load_into(ctx, offset, &mut buffer)?;
    Ok(buffer)
}

#[inline(always)]
fn load_into<C: EbpfContext, const N: usize>(ctx: &C, offset: u32, buffer: &mut Buffer<N>) -> Result<(), DropReason> {
    // SAFETY: the helper writes N bytes into N bytes or fails.
    let err = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), offset, buffer.0.as_mut_ptr().cast(), N as u32) };
    if err == 0 { Ok(()) } else { Err(DropReason::Malformed) }
}

#[inline(always)]
pub fn word<const N: usize>(buffer: &Buffer<N>, at: usize) -> u32 {
    let bytes = &buffer.0[at..at + 4];
    // SAFETY: four bytes are there. One read, where four of a byte each would cost four words of stack.
    unsafe { bytes.as_ptr().cast::<u32>().read_unaligned() }
}

#[inline(always)]
pub fn skb<C: EbpfContext>(ctx: &C) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}

/// The same value, of which the verifier no longer knows anything: it goes on from
/// all paths that lead here as from one. Without it the ways through a chain of
/// headers multiply with all that follows.
#[inline(always)]
pub fn opaque<C: EbpfContext>(ctx: &C, value: u32) -> u32 {
    // SAFETY: the context is the kernel's own, and the field stays the same. Volatile,
    // so that the compiler does not see that.
    unsafe {
        let ifindex = &raw const (*skb(ctx)).ifindex;
        value ^ ifindex.read_volatile() ^ ifindex.read_volatile()
    }
}

/// Length, interface index and ethertype (network order) of the packet.
#[inline(always)]
pub fn facts<C: EbpfContext>(ctx: &C) -> (u32, u32, u16) {
    let skb = skb(ctx);
    // SAFETY: the kernel hands a valid context and checks each access.
    unsafe { ((*skb).len, (*skb).ifindex, (*skb).protocol as u16) }
}

/// The sender's protocol address of an ARP packet over Ethernet.
#[inline(always)]
pub fn arp_sender<C: EbpfContext>(ctx: &C) -> Result<Ip, DropReason> {
    let arp = load::<C, 28>(ctx, ETH_HEADER_LEN)?;
    Ok(Ip::v4(word(&arp, 14)))
}

/// Reads the packet whose network header starts at `l3`.
#[inline(always)]
pub fn parse<C: EbpfContext>(ctx: &C, l3: u32, ethertype: u16) -> Result<Packet, DropReason> {
    let mut packet = if ethertype == ETH_P_IP { parse_v4(ctx, l3)? } else { parse_v6(ctx, l3)? };
    parse_transport(ctx, &mut packet)?;
    Ok(packet)
}

/// Reads what follows the network header.
#[inline(always)]
pub fn parse_transport<C: EbpfContext>(ctx: &C, packet: &mut Packet) -> Result<(), DropReason> {
    if packet.has_ports {
        return parse_ports(ctx, packet);
    }
    if packet.l4 != 0 && (packet.proto == ICMP || packet.proto == ICMPV6) {
        return parse_icmp(ctx, packet);
    }
    Ok(())
}

#[inline(always)]
fn parse_icmp<C: EbpfContext>(ctx: &C, packet: &mut Packet) -> Result<(), DropReason> {
    let icmp = load::<C, 8>(ctx, packet.l4)?;
    let kind = icmp.0[0];
    let (ask, answer) = if packet.proto == ICMP {
        packet.icmp_error = matches!(kind, 3 | 4 | 5 | 11 | 12);
        (8, 0)
    } else {
        packet.icmp_error = kind < 128;
        (128, 129)
    };
    let id = u16::from_ne_bytes([icmp.0[4], icmp.0[5]]);
    // Identifier 0 is left alone: it looks like the end without one.
    if id != 0 && kind == ask {
        (packet.is_echo, packet.src_port) = (true, id);
    } else if id != 0 && kind == answer {
        (packet.is_echo, packet.dst_port) = (true, id);
    }
    Ok(())
}

#[inline(always)]
pub fn parse_v4<C: EbpfContext>(ctx: &C, l3: u32) -> Result<Packet, DropReason> {
    let ip = load::<C, 20>(ctx, l3)?;
    let header_len = u32::from(ip.0[0] & 15) * 4;
    if ip.0[0] >> 4 != 4 || header_len < 20 {
        return Err(DropReason::Malformed);
    }
    let fragment = u16::from_be_bytes([ip.0[6], ip.0[7]]);
    let proto = ip.0[9];
    let first = fragment & 0x1fff == 0;
    Ok(Packet {
        src: Ip::v4(word(&ip, 12)),
        dst: Ip::v4(word(&ip, 16)),
        src_port: 0,
        dst_port: 0,
        proto,
        tcp_flags: 0,
        has_ports: first && (proto == TCP || proto == UDP || proto == SCTP),
        is_echo: false,
        fragment: fragment & 0x3fff != 0,
        icmp_error: false,
        seq: 0,
        l3,
        l4: if first { l3 + header_len } else { 0 },
    })
}

#[inline(always)]
pub fn parse_v6<C: EbpfContext>(ctx: &C, l3: u32) -> Result<Packet, DropReason> {
    let ip = load::<C, 40>(ctx, l3)?;
    if ip.0[0] >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    let (mut proto, mut l4, mut fragment, mut first) = (ip.0[6], l3 + 40, false, true);
    let mut followed = 0;
    // One for all turns of the loop: the stack is small.
    let mut header = Buffer([0; 4]);
    // Hop-by-hop, routing, fragment, authentication, destination options (RFC 8200 4.1).
    while matches!(proto, 0 | 43 | 44 | 51 | 60) {
        if followed == EXTENSION_HEADERS_MAX {
            return Err(DropReason::ExtensionHeaders);
        }
        followed += 1;
        load_into(ctx, l4, &mut header)?;
        let len = match proto {
            44 => {
                fragment = true;
                first = u16::from_be_bytes([header.0[2], header.0[3]]) & 0xfff8 == 0;
                8
            }
            51 => (u32::from(header.0[1]) + 2) * 4,
            _ => (u32::from(header.0[1]) + 1) * 8,
        };
        proto = header.0[0];
        l4 = opaque(ctx, l4 + len);
        if !first {
            break;
        }
    }
    Ok(Packet {
        src: Ip::v6([word(&ip, 8), word(&ip, 12), word(&ip, 16), word(&ip, 20)]),
        dst: Ip::v6([word(&ip, 24), word(&ip, 28), word(&ip, 32), word(&ip, 36)]),
        src_port: 0,
        dst_port: 0,
        proto,
        tcp_flags: 0,
        has_ports: first && (proto == TCP || proto == UDP || proto == SCTP),
        is_echo: false,
        fragment,
        icmp_error: false,
        seq: 0,
        l3,
        l4: if first { l4 } else { 0 },
    })
}

#[inline(always)]
fn parse_ports<C: EbpfContext>(ctx: &C, packet: &mut Packet) -> Result<(), DropReason> {
    let ports = load::<C, 8>(ctx, packet.l4)?;
    packet.src_port = u16::from_ne_bytes([ports.0[0], ports.0[1]]);
    packet.dst_port = u16::from_ne_bytes([ports.0[2], ports.0[3]]);
    if packet.proto == TCP {
        packet.seq = word(&ports, 4);
        packet.tcp_flags = load::<C, 1>(ctx, packet.l4 + 13)?.0[0];
    } else if packet.proto == SCTP {
        parse_chunk(ctx, packet);
    }
    Ok(())
}

/// The first chunk (RFC 9260 3.2): those that open and close stand alone or first. A packet
/// that ends before it is the receiver's to judge.
#[inline(always)]
fn parse_chunk<C: EbpfContext>(ctx: &C, packet: &mut Packet) {
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    const ABORT: u8 = 6;
    const SHUTDOWN: u8 = 7;
    const SHUTDOWN_ACK: u8 = 8;
    let chunk = load::<C, 1>(ctx, packet.l4 + 12).map_or(0, |chunk| chunk.0[0]);
    packet.tcp_flags = match chunk {
        INIT => TCP_SYN,
        INIT_ACK => TCP_SYN | TCP_ACK,
        ABORT => TCP_RST | TCP_ACK,
        SHUTDOWN | SHUTDOWN_ACK => TCP_FIN | TCP_ACK,
        _ => TCP_ACK,
    };
    if chunk == INIT {
        packet.seq = load::<C, 4>(ctx, packet.l4 + 16).map_or(0, |tag| word(&tag, 0));
    }
}
