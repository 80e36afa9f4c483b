//! Fragments: only the first one of a datagram names its ports, the later ones are
//! found by the datagram's identification. One that overtakes the first is not
//! found: there are no ports to translate it by.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{Fault, FragmentKey, FragmentPorts};

use crate::counter;
use crate::maps::FRAGMENTS;
use crate::packet::{self, Packet};

/// More IPv6 headers than this before the fragment header are not followed.
const HEADERS_MAX: u32 = 6;
const FRAGMENT_HEADER: u8 = 44;

/// A key aligned so that it is copied eight bytes at a time.
#[repr(C, align(8))]
struct Key(FragmentKey);

/// Remembers the ports of a datagram, of which `packet` is the first fragment as it
/// arrived. One that has no room is counted as [`Fault::FragmentInsert`].
#[inline(always)]
pub fn learn(ctx: &TcContext, packet: &Packet) {
    let Some(key) = key(ctx, packet) else { return };
    let ports = FragmentPorts { src: packet.src_port.to_ne_bytes(), dst: packet.dst_port.to_ne_bytes() };
    counter::expect(FRAGMENTS.insert(&key.0, ports, u64::from(BPF_ANY)), Fault::FragmentInsert);
}

/// Source and destination port of the datagram that the later fragment `packet`
/// belongs to, as they stand in memory.
#[inline(always)]
pub fn ports_of(ctx: &TcContext, packet: &Packet) -> Option<(u16, u16)> {
    let key = key(ctx, packet)?;
    // SAFETY: a copy of four bytes that are written as one.
    let ports = unsafe { FRAGMENTS.get(&key.0) }?;
    Some((u16::from_ne_bytes(ports.src), u16::from_ne_bytes(ports.dst)))
}

/// What all fragments of a datagram have in common.
#[inline(always)]
fn key(ctx: &TcContext, packet: &Packet) -> Option<Key> {
    if !packet.fragment {
        return None;
    }
    let (id, proto) = if packet.src.is_v4() {
        let id = packet::load::<_, 2>(ctx, packet.l3 + 4).ok()?;
        (u32::from(u16::from_ne_bytes(id.0)), packet.proto)
    } else {
        id_v6(ctx, packet.l3)?
    };
    Some(Key(FragmentKey { src: packet.src.bytes(), dst: packet.dst.bytes(), id, proto, pad: [0; 3] }))
}

/// Identification and next header of the fragment header. The next header is not
/// always the transport's: options may follow, in the first fragment only.
#[inline(always)]
fn id_v6(ctx: &TcContext, l3: u32) -> Option<(u32, u8)> {
    let mut next = packet::load::<_, 1>(ctx, l3 + 6).ok()?.0[0];
    let mut at = l3 + 40;
    let mut followed = 0;
    while followed <= HEADERS_MAX {
        followed += 1;
        let header = packet::load::<_, 8>(ctx, at).ok()?;
        match next {
            FRAGMENT_HEADER => return Some((packet::word(&header, 4), header.0[0])),
            // Hop-by-hop, routing and destination options stand before it (RFC 8200 4.1).
            0 | 43 | 60 => at = packet::opaque(ctx, at + (u32::from(header.0[1]) + 1) * 8),
            _ => return None,
        }
        next = header.0[0];
    }
    None
}
