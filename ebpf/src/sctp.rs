//! SCTP (RFC 9260): rewriting an end, and what the first chunk is for.
//!
//! The checksum is a CRC32c over ports and chunks, without a pseudo header. The
//! kernel has no helper for it, so it is brought up to date by arithmetic, and only
//! when the port changes.

use aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM;
use aya_ebpf::helpers::generated::{bpf_l3_csum_replace, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::DropReason;

use crate::crc32c;
use crate::nat::Side;
use crate::packet::{self, Ip, Packet};
use crate::reply;

/// Chunk types that a connection table looks at.
pub const INIT: u8 = 1;
pub const ABORT: u8 = 6;
pub const SHUTDOWN: u8 = 7;
pub const SHUTDOWN_ACK: u8 = 8;
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// Ports, verification tag, checksum.
const HEADER: usize = 12;
const HEADER_LEN: u32 = HEADER as u32;
const CHECKSUM_AT: u32 = 8;

/// Type of the first chunk. INIT, ABORT and SHUTDOWN_COMPLETE never stand behind another.
#[inline(always)]
pub fn first_chunk(ctx: &TcContext, packet: &Packet) -> Option<u8> {
    if packet.l4 == 0 {
        return None;
    }
    packet::load::<_, 1>(ctx, packet.l4 + HEADER_LEN).ok().map(|kind| kind.0[0])
}

/// Puts another address and port in, in the packet and in what was read of it. In a
/// later fragment only the address; in a first one the port must stay, because the
/// checksum is over more than is here.
#[inline(always)]
pub fn rewrite(ctx: &TcContext, packet: &mut Packet, side: Side, addr: Ip, port: u16) -> Result<(), DropReason> {
    let destination = side == Side::Destination;
    let done = rewrite_addr(ctx, packet, destination, addr)
        && (packet.l4 == 0 || rewrite_port(ctx, packet, destination, port) == Some(true));
    if !done {
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
fn rewrite_addr(ctx: &TcContext, packet: &Packet, destination: bool, addr: Ip) -> bool {
    const V4_CHECKSUM_AT: u32 = 10;
    let skb = packet::skb(ctx);
    let old = if destination { packet.dst } else { packet.src };
    // SAFETY: four or sixteen bytes of a local value; the kernel bounds the offsets.
    unsafe {
        if old.is_v4() {
            let (from, to) = (old.raw_v4(), addr.raw_v4());
            let at = packet.l3 + if destination { 16 } else { 12 };
            return bpf_l3_csum_replace(skb, packet.l3 + V4_CHECKSUM_AT, from.into(), to.into(), 4) == 0
                && bpf_skb_store_bytes(skb, at, (&raw const to).cast(), 4, 0) == 0;
        }
        let words = addr.words();
        let at = packet.l3 + if destination { 24 } else { 8 };
        bpf_skb_store_bytes(skb, at, words.as_ptr().cast(), 16, u64::from(BPF_F_RECOMPUTE_CSUM)) == 0
    }
}

#[inline(always)]
fn rewrite_port(ctx: &TcContext, packet: &Packet, destination: bool, port: u16) -> Option<bool> {
    let header = packet::load::<_, HEADER>(ctx, packet.l4).ok()?;
    let old = packet::word(&header, 0);
    let new = if destination { old & 0xffff | u32::from(port) << 16 } else { old & 0xffff_0000 | u32::from(port) };
    if new == old {
        return Some(true);
    }
    if packet.fragment {
        return Some(false);
    }
    let checksum = packet::word(&header, CHECKSUM_AT as usize);
    // Zero: the sender left the checksum to the device, which wants to find it so.
    let checksum = if checksum == 0 {
        0
    } else {
        let len = reply::ip_len(ctx, packet).wrapping_sub(packet.l4 - packet.l3);
        checksum ^ sctp_checksum_change(old ^ new, len)
    };
    Some(reply::store(ctx, packet.l4, &[new]) && reply::store(ctx, packet.l4 + CHECKSUM_AT, &[checksum]))
}

/// [`crc32c::change`] as a function of its own with a public name: the verifier walks
/// such a function once, for any arguments, not again on each path that calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sctp_checksum_change(difference: u32, len: u32) -> u32 {
    crc32c::change(difference, len)
}
