//! Putting other ends into a packet. The helpers know partial checksums (an
//! offloading sender's) from whole ones, and GSO packets carry one header.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_store_bytes};
use orlop_ebpf_abi::DropReason;

use crate::packet::{Ends, ICMPV6, Packet, TCP, UDP};

/// BPF_F_PSEUDO_HDR: the field is part of the pseudo header.
const PSEUDO_HEADER: u64 = 1 << 4;
/// BPF_F_MARK_MANGLED_0: a UDP checksum of 0 means none and stays.
const UDP_ZERO_MEANS_NONE: u64 = 1 << 5;
/// BPF_F_IPV6 (Linux 6.16): IPv6 has no header checksum that would balance the
/// change in a checksum that the device took over the whole packet.
const IPV6: u64 = 1 << 7;
const V4_CHECKSUM: u32 = 10;
const V4_ENDS: u32 = 12;
const V6_ENDS: u32 = 8;
const ICMP_ID: u32 = 4;

/// Which end of a header is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// Where the checksum over addresses stands, and how 0 is read. 0: there is none.
#[inline(always)]
fn checksum_at(packet: &Packet) -> (u32, u64) {
    match packet.proto {
        TCP => (packet.l4 + 16, 0),
        UDP => (packet.l4 + 6, UDP_ZERO_MEANS_NONE),
        ICMPV6 => (packet.l4 + 2, 0),
        _ => (0, 0),
    }
}

/// Puts other addresses and ports in, in the packet and in what was read of it. A
/// later fragment has addresses only. 0, or the drop reason's number.
#[inline(always)]
pub fn rewrite(skb: *mut __sk_buff, packet: &mut Packet, to: &Ends) -> u32 {
    let (at, zero) = if packet.l4 == 0 { (0, 0) } else { checksum_at(packet) };
    let addressed = (packet.src == to.src && packet.dst == to.dst)
        || if packet.src.is_v4() {
            addresses_v4(skb, packet, to, at, zero)
        } else {
            addresses_v6(skb, packet, to, at, zero)
        };
    let numbered = addressed && (packet.l4 == 0 || ports(skb, packet, to, at, zero));
    if !numbered {
        return DropReason::NatFailed as u32;
    }
    (packet.src, packet.dst) = (to.src, to.dst);
    (packet.src_port, packet.dst_port) = (to.src_port, to.dst_port);
    0
}

#[inline(always)]
fn addresses_v4(skb: *mut __sk_buff, packet: &Packet, to: &Ends, at: u32, zero: u64) -> bool {
    let mut old = [packet.src.raw_v4(), packet.dst.raw_v4()];
    let mut new = [to.src.raw_v4(), to.dst.raw_v4()];
    // SAFETY: eight bytes of local values; the kernel bounds the offsets.
    unsafe {
        let diff = bpf_csum_diff(old.as_mut_ptr(), 8, new.as_mut_ptr(), 8, 0);
        diff >= 0
            && (at == 0 || bpf_l4_csum_replace(skb, at, 0, diff as u64, PSEUDO_HEADER | zero) == 0)
            && bpf_l3_csum_replace(skb, packet.l3 + V4_CHECKSUM, 0, diff as u64, 0) == 0
            && bpf_skb_store_bytes(skb, packet.l3 + V4_ENDS, new.as_ptr().cast(), 8, 0) == 0
    }
}

#[inline(always)]
fn addresses_v6(skb: *mut __sk_buff, packet: &Packet, to: &Ends, at: u32, zero: u64) -> bool {
    let mut old = [packet.src.0, packet.src.1, packet.dst.0, packet.dst.1];
    let mut new = [to.src.0, to.src.1, to.dst.0, to.dst.1];
    // SAFETY: 32 bytes of local values; the kernel bounds the offsets.
    unsafe {
        let diff = bpf_csum_diff(old.as_mut_ptr().cast(), 32, new.as_mut_ptr().cast(), 32, 0);
        if diff < 0 {
            return false;
        }
        let (diff, flags) = (diff as u64, PSEUDO_HEADER | zero);
        let summed = at == 0
            || bpf_l4_csum_replace(skb, at, 0, diff, flags | IPV6) == 0
            || bpf_l4_csum_replace(skb, at, 0, diff, flags) == 0;
        summed && bpf_skb_store_bytes(skb, packet.l3 + V6_ENDS, new.as_ptr().cast(), 32, 0) == 0
    }
}

#[inline(always)]
fn ports(skb: *mut __sk_buff, packet: &Packet, to: &Ends, at: u32, zero: u64) -> bool {
    if packet.is_echo {
        return identifier(skb, packet, to);
    }
    if packet.src_port == to.src_port && packet.dst_port == to.dst_port || !packet.has_ports {
        return true;
    }
    let old = u32::from(packet.src_port) | u32::from(packet.dst_port) << 16;
    let new = u32::from(to.src_port) | u32::from(to.dst_port) << 16;
    // SAFETY: four bytes of a local value; the kernel bounds the offsets.
    unsafe {
        let summed = bpf_l4_csum_replace(skb, at, u64::from(old), u64::from(new), zero | 4) == 0;
        summed && bpf_skb_store_bytes(skb, packet.l4, (&raw const new).cast(), 4, 0) == 0
    }
}

#[inline(always)]
fn identifier(skb: *mut __sk_buff, packet: &Packet, to: &Ends) -> bool {
    let asks = packet.src_port != 0;
    let (old, new) = if asks { (packet.src_port, to.src_port) } else { (packet.dst_port, to.dst_port) };
    let checksum = packet.l4 + 2;
    // SAFETY: two bytes of a local value; the kernel bounds the offsets.
    unsafe {
        bpf_l4_csum_replace(skb, checksum, u64::from(old), u64::from(new), 2) == 0
            && bpf_skb_store_bytes(skb, packet.l4 + ICMP_ID, (&raw const new).cast(), 2, 0) == 0
    }
}
