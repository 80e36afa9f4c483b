//! ICMP errors: reading the packet that they quote, and translating it.
//!
//! An error about a translated flow goes to the flow's other side only when the
//! packet that it quotes is the one which that side knows: its ends are replaced as
//! the flow's replies and requests have theirs replaced, and the error's own header
//! where it names the same end. Each function replaces one end of one header and
//! leaves every checksum right.

use aya_ebpf::helpers::generated::bpf_skb_store_bytes;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::DropReason;

use crate::checksum;
use crate::nat::Side;
use crate::packet::{self, ICMP, ICMPV6, Ip, Packet, TCP, UDP};

/// Type, code, checksum, and four bytes by type (RFC 792, RFC 4443).
const HEADER_LEN: u32 = 8;
const SCTP: u8 = 132;
const ECHO_REQUEST: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];

/// Reads the packet that the ICMP error `packet` quotes: addresses, protocol, `l3`
/// and `l4` (0 in a later fragment), and the ports of TCP, UDP and SCTP. Of an echo
/// request the identifier is the source port, of a reply the destination port. TCP
/// flags and sequence number are not read.
#[inline(always)]
pub fn quoted(ctx: &TcContext, packet: &Packet) -> Result<Packet, DropReason> {
    let l3 = packet.l4 + HEADER_LEN;
    let mut inner = if packet.src.is_v4() { packet::parse_v4(ctx, l3)? } else { packet::parse_v6(ctx, l3)? };
    if inner.l4 == 0 {
        return Ok(inner);
    }
    let head = packet::load::<_, 8>(ctx, inner.l4)?;
    let half = |at: usize| u16::from_ne_bytes([head.0[at], head.0[at + 1]]);
    match inner.proto {
        TCP | UDP | SCTP => (inner.src_port, inner.dst_port) = (half(0), half(2)),
        ICMP | ICMPV6 if ECHO_REQUEST.contains(&head.0[0]) => inner.src_port = half(4),
        ICMP | ICMPV6 if ECHO_REPLY.contains(&head.0[0]) => inner.dst_port = half(4),
        _ => {}
    }
    Ok(inner)
}

/// Replaces one end of the quoted packet by `to`, in the packet and in what was
/// read of it. `packet` is the error.
#[inline(always)]
pub fn rewrite_quoted(
    ctx: &TcContext,
    packet: &Packet,
    quoted: &mut Packet,
    side: Side,
    to: (Ip, u16),
) -> Result<(), DropReason> {
    let (addr, port) = to;
    let destination = side == Side::Destination;
    let (old, old_port) = if destination { (quoted.dst, quoted.dst_port) } else { (quoted.src, quoted.src_port) };
    let moved = checksum::address_change(old, addr);
    let mut change = moved;
    if old.is_v4() {
        change += replace_sum(ctx, quoted.l3 + 10, moved, false)?;
    }
    store_addr(ctx, quoted.l3, destination, addr)?;
    if quoted.l4 != 0 {
        change += rewrite_transport(ctx, quoted, destination, moved, [old_port, port])?;
    }
    replace_sum(ctx, packet.l4 + 2, change, false)?;
    if destination {
        (quoted.dst, quoted.dst_port) = (addr, port);
    } else {
        (quoted.src, quoted.src_port) = (addr, port);
    }
    Ok(())
}

/// Replaces one address of the error's own header, in the packet and in what was
/// read of it.
#[inline(always)]
pub fn rewrite_outer(ctx: &TcContext, packet: &mut Packet, side: Side, addr: Ip) -> Result<(), DropReason> {
    let destination = side == Side::Destination;
    let old = if destination { &mut packet.dst } else { &mut packet.src };
    let change = checksum::address_change(*old, addr);
    // ICMP has no pseudo header, ICMPv6 has one.
    let sum_at = if old.is_v4() { packet.l3 + 10 } else { packet.l4 + 2 };
    *old = addr;
    replace_sum(ctx, sum_at, change, false)?;
    store_addr(ctx, packet.l3, destination, addr)
}

/// The quoted port and the checksum over it, as far as they were quoted. Gives what
/// changed in sum.
#[inline(always)]
fn rewrite_transport(
    ctx: &TcContext,
    quoted: &Packet,
    destination: bool,
    moved: u64,
    [old, new]: [u16; 2],
) -> Result<u64, DropReason> {
    let l4 = quoted.l4;
    let port_at = l4 + if destination { 2 } else { 0 };
    let (at, sum_at, pseudo) = match quoted.proto {
        TCP => (port_at, l4 + 16, moved),
        UDP => (port_at, l4 + 6, moved),
        // Its checksum is over more than is quoted; the kernel's SCTP looks at ports and tag only.
        SCTP => (port_at, 0, 0),
        ICMP | ICMPV6 => {
            let kind = packet::load::<_, 1>(ctx, l4)?.0[0];
            let has_id = if destination { ECHO_REPLY.contains(&kind) } else { ECHO_REQUEST.contains(&kind) };
            let pseudo = if quoted.proto == ICMP { 0 } else { moved };
            (if has_id { l4 + 4 } else { 0 }, l4 + 2, pseudo)
        }
        _ => return Ok(0),
    };
    let mut change = 0;
    if at != 0 {
        store_half(ctx, at, new)?;
        change = checksum::half_change(old, new);
    }
    if sum_at == 0 {
        return Ok(change);
    }
    // Beyond the quote is not an error; a quote needs to have eight bytes only.
    let replaced = replace_sum(ctx, sum_at, pseudo + change, quoted.proto == UDP).unwrap_or(0);
    Ok(change + replaced)
}

/// Puts a change into a checksum field; gives what this changed in sum. A UDP
/// checksum of 0 means none and stays.
#[inline(always)]
fn replace_sum(ctx: &TcContext, at: u32, change: u64, udp: bool) -> Result<u64, DropReason> {
    let old = u16::from_ne_bytes(packet::load::<_, 2>(ctx, at)?.0);
    if udp && old == 0 {
        return Ok(0);
    }
    let new = checksum::changed(old, change);
    let new = if udp && new == 0 { 0xffff } else { new };
    store_half(ctx, at, new)?;
    Ok(checksum::half_change(old, new))
}

// Each change is balanced by that of a checksum in the same packet, so that a
// device's sum over all of it stays true: nothing to tell the kernel.

#[inline(always)]
fn store_half(ctx: &TcContext, at: u32, half: u16) -> Result<(), DropReason> {
    // SAFETY: two bytes of a local value; the kernel bounds the offset.
    let err = unsafe { bpf_skb_store_bytes(packet::skb(ctx), at, (&raw const half).cast(), 2, 0) };
    if err == 0 { Ok(()) } else { Err(DropReason::NatFailed) }
}

#[inline(always)]
fn store_addr(ctx: &TcContext, l3: u32, destination: bool, addr: Ip) -> Result<(), DropReason> {
    let skb = packet::skb(ctx);
    // SAFETY: four or sixteen bytes of a local value; the kernel bounds the offset.
    let err = unsafe {
        if addr.is_v4() {
            let raw = addr.raw_v4();
            bpf_skb_store_bytes(skb, l3 + if destination { 16 } else { 12 }, (&raw const raw).cast(), 4, 0)
        } else {
            let words = addr.words();
            bpf_skb_store_bytes(skb, l3 + if destination { 24 } else { 8 }, words.as_ptr().cast(), 16, 0)
        }
    };
    if err == 0 { Ok(()) } else { Err(DropReason::NatFailed) }
}
