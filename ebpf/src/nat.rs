//! Rewriting one end of a TCP or UDP packet. The helpers know partial checksums
//! (an offloading sender's) from whole ones, and GSO packets carry one header.

use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::DropReason;

use crate::packet::{self, Ip, Packet, TCP};

/// BPF_F_PSEUDO_HDR: the field is part of the pseudo header.
const PSEUDO_HEADER: u64 = 1 << 4;
/// BPF_F_MARK_MANGLED_0: a UDP checksum of 0 means none and stays.
const UDP_ZERO_MEANS_NONE: u64 = 1 << 5;
/// BPF_F_IPV6 (Linux 6.16): IPv6 has no header checksum that would balance the
/// change in a checksum that the device took over the whole packet.
const IPV6: u64 = 1 << 7;

/// Which end is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// Puts another address and port in, in the packet and in what was read of it.
#[inline(always)]
pub fn rewrite(ctx: &TcContext, packet: &mut Packet, side: Side, addr: Ip, port: u16) -> Result<(), DropReason> {
    let destination = side == Side::Destination;
    let (old, old_port) = if destination { (packet.dst, packet.dst_port) } else { (packet.src, packet.src_port) };
    let (checksum, zero) = if packet.proto == TCP { (packet.l4 + 16, 0) } else { (packet.l4 + 6, UDP_ZERO_MEANS_NONE) };
    let done = if old.is_v4() {
        rewrite_v4(ctx, packet.l3, checksum, zero, old.raw_v4(), addr.raw_v4(), if destination { 16 } else { 12 })
    } else {
        rewrite_v6(ctx, packet.l3, checksum, zero, old, addr, if destination { 24 } else { 8 })
    };
    let port_at = packet.l4 + if destination { 2 } else { 0 };
    let skb = packet::skb(ctx);
    // SAFETY: two bytes of a local value; the kernel bounds the offsets.
    let ported = done
        && unsafe {
            bpf_l4_csum_replace(skb, checksum, u64::from(old_port), u64::from(port), zero | 2) == 0
                && bpf_skb_store_bytes(skb, port_at, (&raw const port).cast(), 2, 0) == 0
        };
    if !ported {
        return Err(DropReason::NatFailed);
    }
    if destination {
        (packet.dst, packet.dst_port) = (addr, port);
    } else {
        (packet.src, packet.src_port) = (addr, port);
    }
    Ok(())
}

#[inline(always)]
fn rewrite_v4(ctx: &TcContext, l3: u32, checksum: u32, zero: u64, old: u32, new: u32, at: u32) -> bool {
    const HEADER_CHECKSUM: u32 = 10;
    let skb = packet::skb(ctx);
    let (from, to) = (u64::from(old), u64::from(new));
    // SAFETY: four bytes of a local value; the kernel bounds the offsets.
    unsafe {
        bpf_l4_csum_replace(skb, checksum, from, to, PSEUDO_HEADER | zero | 4) == 0
            && bpf_l3_csum_replace(skb, l3 + HEADER_CHECKSUM, from, to, 4) == 0
            && bpf_skb_store_bytes(skb, l3 + at, (&raw const new).cast(), 4, 0) == 0
    }
}

#[inline(always)]
fn rewrite_v6(ctx: &TcContext, l3: u32, checksum: u32, zero: u64, old: Ip, new: Ip, at: u32) -> bool {
    let skb = packet::skb(ctx);
    let (mut from, mut to) = ([old.0, old.1], [new.0, new.1]);
    // SAFETY: sixteen bytes of local values; the kernel bounds the offsets.
    unsafe {
        let diff = bpf_csum_diff(from.as_mut_ptr().cast(), 16, to.as_mut_ptr().cast(), 16, 0);
        if diff < 0 {
            return false;
        }
        let (diff, flags) = (diff as u64, PSEUDO_HEADER | zero);
        let replaced = bpf_l4_csum_replace(skb, checksum, 0, diff, flags | IPV6) == 0
            || bpf_l4_csum_replace(skb, checksum, 0, diff, flags) == 0;
        replaced && bpf_skb_store_bytes(skb, l3 + at, to.as_ptr().cast(), 16, 0) == 0
    }
}
