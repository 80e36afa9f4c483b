//! Turns the packet at hand into an answer to its sender.
//!
//! kube-proxy refuses with `icmp-port-unreachable` whatever the protocol. TCP gets
//! a reset here: every TCP fails its connect() with `ECONNREFUSED` at once for it,
//! while ICMP errors are filtered on many ways.
//!
//! The answer leaves by the device that the packet came in by, whose egress
//! programs see and count it as any other packet.

use aya_ebpf::bindings::{BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;

use crate::bandwidth;
use crate::checksum;
use crate::packet::{self, ETH_HEADER_LEN, ICMP, ICMPV6, Ip, Packet, TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

/// BPF_ADJ_ROOM_MAC: room right behind the Ethernet header.
const BEHIND_ETHERNET: u32 = 1;
const TTL: u32 = 64;
/// Precedence "internetwork control", as the kernel sends its ICMP errors (RFC 1812 4.3.2.5).
const ICMP_TOS: u32 = 0xc0;
const DONT_FRAGMENT: u32 = 0x4000;
const V4_LEN: u32 = 20;
const V6_LEN: u32 = 40;
const TCP_LEN: u32 = 20;
const ICMP_LEN: u32 = 8;
/// The whole error is at most 576 bytes long (RFC 1812 4.3.2.3).
const QUOTE_V4_MAX: u32 = 576 - V4_LEN - ICMP_LEN;
/// The whole error fits the smallest IPv6 link (RFC 4443 2.4 c).
const QUOTE_V6_MAX: u32 = 1280 - V6_LEN - ICMP_LEN;
/// ICMP errors of all devices together: 1,000 a second as the kernel's `icmp_msgs_per_sec`
/// (RFC 4443 2.4 f wants some limit), and this many at once. Resets are not limited, as the kernel's are not.
const ERROR_NS: u64 = 1_000_000;
const ERRORS_AT_ONCE: u64 = 200;
/// When the errors so far would have been sent at that rate, by the monotonic clock.
static mut ERRORS_UNTIL_NS: u64 = 0;
const CHUNK: u32 = 16;
const CHUNKS_MAX: u32 = QUOTE_V6_MAX.div_ceil(CHUNK);

/// Refuses the packet: a reset for TCP, else "port unreachable". The verdict is a
/// redirect, or a drop when nobody may be answered (RFC 1122 3.2.2, RFC 4443 2.4 e) or
/// too many have been.
#[inline(always)]
pub fn refuse(ctx: &TcContext, packet: &Packet) -> i32 {
    if packet.proto == TCP {
        return reset(ctx, packet);
    }
    error(ctx, packet, if packet.src.is_v4() { [3, 3] } else { [1, 4] }, 0)
}

/// Tells the sender that the packet does not fit a link of `mtu` bytes. The verdict
/// is as with [`refuse`].
#[inline(always)]
pub fn too_big(ctx: &TcContext, packet: &Packet, mtu: u32) -> i32 {
    error(ctx, packet, if packet.src.is_v4() { [3, 4] } else { [2, 0] }, mtu)
}

/// One sender, one receiver, and a transport header to speak of.
#[inline(always)]
fn may_answer(ctx: &TcContext, packet: &Packet) -> bool {
    // SAFETY: the context is the kernel's own.
    let for_us = unsafe { (*packet::skb(ctx)).pkt_type } == 0;
    for_us && packet.l3 == ETH_HEADER_LEN && packet.l4 != 0 && is_one_host(packet.src) && is_one_host(packet.dst)
}

#[inline(always)]
fn is_one_host(addr: Ip) -> bool {
    if addr.is_v4() {
        // "This network", loopback, multicast, reserved and broadcast (RFC 6890).
        let first = addr.raw_v4() as u8;
        return first != 0 && first != 127 && first < 224;
    }
    addr.0 as u8 != 0xff && !addr.is_zero()
}

/// Makes the packet an Ethernet header and `len` bytes to be written. What an
/// offloading sender left to do about the old checksum is forgotten with the old
/// transport header: the kernel drops that note when the header is pulled.
#[inline(always)]
fn hollow(ctx: &TcContext, gone: u32, len: u32) -> bool {
    let skb = packet::skb(ctx);
    // SAFETY: the kernel bounds what it is told.
    unsafe {
        bpf_skb_change_tail(skb, ETH_HEADER_LEN + gone + len, 0) == 0
            && bpf_skb_adjust_room(skb, -(gone as i32), BEHIND_ETHERNET, 0) == 0
    }
}

#[inline(always)]
pub fn store<const N: usize>(ctx: &TcContext, offset: u32, words: &[u32; N]) -> bool {
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    // SAFETY: the bytes of a local value; the kernel bounds the offset.
    unsafe { bpf_skb_store_bytes(packet::skb(ctx), offset, words.as_ptr().cast(), 4 * N as u32, flags) == 0 }
}

/// A hardware address as it stands in memory: a word of four bytes and one of two.
pub type Mac = [u32; 2];

#[inline(always)]
pub fn mac(mac: [u8; 6]) -> Mac {
    let first = u32::from_ne_bytes([mac[0], mac[1], mac[2], mac[3]]);
    [first, u32::from(mac[4]) | u32::from(mac[5]) << 8]
}

/// Addresses the frame, when it is `ready`, and sends it out of the device that it
/// came in by. The verdict.
#[inline(always)]
pub fn sent(ctx: &TcContext, ready: bool, to: Mac, from: Mac) -> i32 {
    let macs = [to[0], to[1] | from[0] << 16, from[0] >> 16 | from[1] << 16];
    // SAFETY: twelve bytes of a local value; the context is the kernel's own.
    unsafe {
        if !ready || bpf_skb_store_bytes(packet::skb(ctx), 0, macs.as_ptr().cast(), 12, 0) != 0 {
            return TC_ACT_SHOT;
        }
        bpf_redirect((*packet::skb(ctx)).ifindex, 0) as i32
    }
}

#[inline(always)]
fn sent_back(ctx: &TcContext, ready: bool) -> i32 {
    let Ok(macs) = packet::load::<_, 12>(ctx, 0) else { return TC_ACT_SHOT };
    let [a, b, c] = [packet::word(&macs, 0), packet::word(&macs, 4), packet::word(&macs, 8)];
    sent(ctx, ready, [b >> 16 | c << 16, c >> 16], [a, b & 0xffff])
}

/// Writes the IP header of an answer, from the packet's destination to its source.
/// In parts, because the stack is shared with those who call.
#[inline(always)]
fn store_header(ctx: &TcContext, packet: &Packet, proto: u8, tos: u32, payload: u32) -> bool {
    if packet.src.is_v4() {
        let (from, to) = (packet.dst.raw_v4(), packet.src.raw_v4());
        let first = (0x4500_0000 | tos << 16 | (V4_LEN + payload)).to_be();
        let third = (TTL << 24 | u32::from(proto) << 16).to_be();
        let sum = checksum::fold(checksum::sum(&[first, DONT_FRAGMENT.to_be(), third, from, to]));
        let third = third | u32::from(sum) << 16;
        return store(ctx, ETH_HEADER_LEN, &[first, DONT_FRAGMENT.to_be(), third, from])
            && store(ctx, ETH_HEADER_LEN + 16, &[to]);
    }
    let second = (payload << 16 | u32::from(proto) << 8 | TTL).to_be();
    store(ctx, ETH_HEADER_LEN, &[0x6000_0000_u32.to_be(), second])
        && store(ctx, ETH_HEADER_LEN + 8, &packet.dst.words())
        && store(ctx, ETH_HEADER_LEN + 24, &packet.src.words())
}

/// The sum of the pseudo header, which is the same for both directions.
#[inline(always)]
fn pseudo(packet: &Packet, proto: u8, len: u32) -> u64 {
    let rest = u64::from(len.to_be()) + u64::from(u32::from(proto).to_be());
    if packet.src.is_v4() {
        return rest + checksum::sum(&[packet.src.raw_v4(), packet.dst.raw_v4()]);
    }
    rest + checksum::sum(&packet.src.words()) + checksum::sum(&packet.dst.words())
}

/// Bytes of the IP packet, by its own account unless that is not possible (a
/// packet of several segments).
#[inline(always)]
pub fn ip_len(ctx: &TcContext, packet: &Packet) -> u32 {
    let (len, _, _) = packet::facts(ctx);
    let there = len.wrapping_sub(packet.l3);
    let (offset, more) = if packet.src.is_v4() { (2, 0) } else { (4, V6_LEN) };
    let Ok(field) = packet::load::<_, 2>(ctx, packet.l3 + offset) else { return 0 };
    let told = u32::from(u16::from_be_bytes(field.0));
    packet::opaque(ctx, if told == 0 || told + more > there { there } else { told + more })
}

/// RFC 9293 3.10.7.1: what a host without such a connection answers.
#[inline(always)]
fn reset(ctx: &TcContext, packet: &Packet) -> i32 {
    if packet.tcp_flags & TCP_RST != 0 || !may_answer(ctx, packet) {
        return TC_ACT_SHOT;
    }
    let (seq, ack, flags) = if packet.tcp_flags & TCP_ACK != 0 {
        let Ok(ack) = packet::load::<_, 4>(ctx, packet.l4 + 8) else { return TC_ACT_SHOT };
        (packet::word(&ack, 0), 0, TCP_RST)
    } else {
        let Ok(words) = packet::load::<_, 1>(ctx, packet.l4 + 12) else { return TC_ACT_SHOT };
        let headers = packet.l4 - packet.l3 + u32::from(words.0[0] >> 4) * 4;
        let bits = u32::from(packet.tcp_flags & TCP_SYN != 0) + u32::from(packet.tcp_flags & TCP_FIN != 0);
        let len = ip_len(ctx, packet).wrapping_sub(headers).wrapping_add(bits);
        (0, u32::from_be(packet.seq).wrapping_add(len).to_be(), TCP_RST | TCP_ACK)
    };
    let header_len = if packet.src.is_v4() { V4_LEN } else { V6_LEN };
    if !hollow(ctx, packet.l4, header_len + TCP_LEN) || !store_header(ctx, packet, TCP, 0, TCP_LEN) {
        return TC_ACT_SHOT;
    }
    let ports = u32::from(packet.dst_port) | u32::from(packet.src_port) << 16;
    let fourth = ((TCP_LEN / 4) << 28 | u32::from(flags) << 16).to_be();
    let rest = pseudo(packet, TCP, TCP_LEN) + checksum::sum(&[ports, seq, ack, fourth]);
    let sum = u32::from(checksum::fold(rest));
    let at = ETH_HEADER_LEN + header_len;
    sent_back(ctx, store(ctx, at, &[ports, seq, ack, fourth]) && store(ctx, at + 16, &[sum]))
}

/// Sends an ICMP or ICMPv6 error of this type and code.
#[inline(always)]
fn error(ctx: &TcContext, packet: &Packet, [kind, code]: [u32; 2], more: u32) -> i32 {
    // A redirect is not an error by its number, and gets no answer either (RFC 4443 2.4 e.2).
    const REDIRECT: u8 = 137;
    let redirect =
        packet.proto == ICMPV6 && packet::load::<_, 1>(ctx, packet.l4).is_ok_and(|kind| kind.0[0] == REDIRECT);
    if redirect || packet.icmp_error || !may_answer(ctx, packet) {
        return TC_ACT_SHOT;
    }
    // SAFETY: a global, written here only.
    if !unsafe { bandwidth::take(&raw mut ERRORS_UNTIL_NS, ERRORS_AT_ONCE * ERROR_NS, ERROR_NS) } {
        return TC_ACT_SHOT;
    }
    let v4 = packet.src.is_v4();
    let (header_len, max) = if v4 { (V4_LEN, QUOTE_V4_MAX) } else { (V6_LEN, QUOTE_V6_MAX) };
    let Some((quote, quoted)) = quote(ctx, packet, header_len + ICMP_LEN, max) else { return TC_ACT_SHOT };
    let len = ICMP_LEN + quote;
    let (proto, tos, pseudo) = if v4 { (ICMP, ICMP_TOS, 0) } else { (ICMPV6, 0, pseudo(packet, ICMPV6, len)) };
    let headed = store_header(ctx, packet, proto, tos, len);
    let icmp = icmp_header(kind, code, more, quoted + pseudo);
    sent_back(ctx, headed && store(ctx, ETH_HEADER_LEN + header_len, &icmp))
}

#[inline(always)]
fn icmp_header(kind: u32, code: u32, more: u32, rest: u64) -> [u32; 2] {
    let first = (kind << 24 | code << 16).to_be();
    let sum = checksum::fold(rest + checksum::sum(&[first, more.to_be()]));
    [first | u32::from(sum) << 16, more.to_be()]
}

/// Moves the head of the IP packet, at most `max` bytes, behind `headers` bytes to
/// be written; gives its length and its sum.
#[inline(always)]
fn quote(ctx: &TcContext, packet: &Packet, headers: u32, max: u32) -> Option<(u32, u64)> {
    let skb = packet::skb(ctx);
    let quote = packet::opaque(ctx, ip_len(ctx, packet).min(max));
    // The transport header is in the quote, as RFC 792 and the kernels that read it want.
    if packet.l4 > ETH_HEADER_LEN + quote {
        return None;
    }
    // Zeroes behind the quote up to a whole chunk, then room for a copy that does not
    // overlap it, from which everything before the headers goes again.
    let gone = quote + CHUNK;
    let target = ETH_HEADER_LEN + gone + headers;
    // SAFETY: the kernel bounds what it is told.
    let room = unsafe {
        bpf_skb_change_tail(skb, ETH_HEADER_LEN + quote, 0) == 0 && bpf_skb_change_tail(skb, target + gone, 0) == 0
    };
    if !room {
        return None;
    }
    let mut sum = 0;
    let mut chunk = 0;
    while chunk < CHUNKS_MAX {
        let at = chunk * CHUNK;
        if at >= quote {
            break;
        }
        let mut words = [0_u32; CHUNK as usize / 4];
        // SAFETY: the bytes of a local value; the kernel bounds the offsets.
        let copied = unsafe {
            bpf_skb_load_bytes(skb.cast(), ETH_HEADER_LEN + at, words.as_mut_ptr().cast(), CHUNK) == 0
                && store(ctx, target + at, &words)
        };
        if !copied {
            return None;
        }
        sum += checksum::sum(&words);
        chunk += 1;
    }
    let sum = packet::opaque(ctx, u32::from(!checksum::fold(sum)));
    let quote = packet::opaque(ctx, quote);
    let gone = quote + CHUNK;
    // SAFETY: the kernel bounds what it is told.
    let cut = unsafe {
        bpf_skb_adjust_room(skb, -(gone as i32), BEHIND_ETHERNET, 0) == 0
            && bpf_skb_change_tail(skb, ETH_HEADER_LEN + headers + quote, 0) == 0
    };
    cut.then_some((quote, sum.into()))
}
