//! The two entries of a translated flow: the client's view and the backend's.
//!
//! Each holds the other's ends: with `Work::packet` as the client sent it and
//! `Work::to` as the backend gets it, the original entry's key is the first and its
//! ends are the second's; the reverse entry is the other way round.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use orlop_ebpf_abi::{End, Fault, Flow, FlowFlags};

use crate::counter;
use crate::flow::{self, STATE};
use crate::maps::FLOWS;
use crate::packet::{Ends, Ip, Packet};
use crate::work::{self, Known, Work};

const BITS: u32 = FlowFlags::DNAT | FlowFlags::SNAT;

/// What became of [`claim`].
pub const CLAIMED: u32 = 0;
pub const TAKEN: u32 = 1;
pub const FAILED: u32 = 2;

#[inline(always)]
pub fn is(end: &End, addr: Ip, port: u16) -> bool {
    Ip::from_bytes(&end.addr) == addr && u16::from_ne_bytes(end.port) == port
}

/// Puts what the packet of a translated flow becomes into [`Known::to`]; false: nothing else.
#[inline(always)]
pub fn ends(flow: &Flow, src_hi: bool, mut work: Work) -> bool {
    let Known { packet, to, .. } = &mut *work;
    let back = flow.flags & FlowFlags::REVERSE != 0;
    if back == flow::from_initiator(flow, src_hi) || flow.flags & BITS == 0 {
        return false;
    }
    *to = packet.ends();
    if flow.flags & FlowFlags::DNAT != 0 {
        let (addr, port) = (Ip::from_bytes(&flow.nat.addr), u16::from_ne_bytes(flow.nat.port));
        if back { (to.src, to.src_port) = (addr, port) } else { (to.dst, to.dst_port) = (addr, port) }
    }
    if flow.flags & FlowFlags::SNAT != 0 {
        let (addr, port) = (Ip::from_bytes(&flow.snat.addr), u16::from_ne_bytes(flow.snat.port));
        if back { (to.dst, to.dst_port) = (addr, port) } else { (to.src, to.src_port) = (addr, port) }
    }
    true
}

/// Takes the backend's side for the flow of the packet at hand: no two flows look the same there.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_claim(bits: u32) -> u32 {
    let Some(mut work) = work::here() else { return FAILED };
    let Known { packet, to, flow: entry, service, backend, .. } = &mut *work;
    let (key, src_hi) = flow::key_of(to, packet.proto);
    let mut how = BPF_NOEXIST;
    if let Some(other) = flow::find(&key) {
        let same = other.flags & FlowFlags::REVERSE != 0
            && is(&other.nat, packet.dst, packet.dst_port)
            && is(&other.snat, packet.src, packet.src_port);
        if !same && !flow::is_over(other, packet.proto) {
            return TAKEN;
        }
        how = BPF_ANY;
    }
    *entry = flow::plain(*service, *backend, FlowFlags::REVERSE | bits | flow::initiator_bit(src_hi), packet.seq);
    entry.nat = flow::end(packet.dst, packet.dst_port);
    entry.snat = flow::end(packet.src, packet.src_port);
    match FLOWS.insert(&key.0, &*entry, u64::from(how)) {
        Ok(()) => CLAIMED,
        Err(flow::EEXIST) => TAKEN,
        Err(_) => {
            counter::fault(Fault::FlowInsert);
            FAILED
        }
    }
}

/// Enters the client's side, after [`packet_claim`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_enter(bits: u32) -> u32 {
    let Some(mut work) = work::here() else { return FAILED };
    let Known { packet, to, flow: entry, service, backend, .. } = &mut *work;
    let (key, src_hi) = flow::key_of(&packet.ends(), packet.proto);
    *entry = flow::plain(*service, *backend, bits | flow::initiator_bit(src_hi), packet.seq);
    entry.nat = flow::end(to.dst, to.dst_port);
    entry.snat = flow::end(to.src, to.src_port);
    counter::expect(FLOWS.insert(&key.0, &*entry, u64::from(BPF_ANY)), Fault::FlowInsert);
    CLAIMED
}

/// The client's SYN begins a flow anew; one that is sent again changes nothing.
#[inline(always)]
fn begins_anew(flow: &Flow, packet: &Packet, src_hi: bool) -> bool {
    packet.is_syn() && flow::from_initiator(flow, src_hi)
}

#[inline(always)]
fn advanced(flow: &Flow, packet: &Packet, src_hi: bool) -> u32 {
    let (old, anew) = (flow.flags, begins_anew(flow, packet, src_hi));
    let flags = flow::advanced(if anew { old & !STATE } else { old }, packet, src_hi);
    // Nothing is seen of the answers that pass this node by but what the client makes of them.
    let answered = old & FlowFlags::DSR != 0 && packet.is_connected() && !anew;
    if answered { flags | FlowFlags::REPLIED } else { flags }
}

/// Is there nothing to note of this packet? It is not the flow's first in this
/// second, and the flow is no further than before.
#[inline(always)]
pub fn is_noted(flow: &Flow, packet: &Packet, src_hi: bool) -> bool {
    flow.seen_s == flow::now_s() && advanced(flow, packet, src_hi) == flow.flags
}

/// A packet of a translated flow goes by where it is translated: how far the flow
/// is, here and, when that changed and once a second, in the other entry.
#[inline(always)]
pub fn touch(flow: &mut Flow, packet: &Packet, src_hi: bool) {
    let now = flow::now_s();
    let tick = flow.seen_s != now;
    if tick {
        flow.seen_s = now;
    }
    let (old, anew) = (flow.flags, begins_anew(flow, packet, src_hi));
    let flags = advanced(flow, packet, src_hi);
    if flags != old {
        flow.flags = flags;
    }
    if (tick || flags != old) && flags & BITS != 0 {
        mirror(flow, packet, src_hi, anew);
    }
}

/// Brings the other entry up to date, or makes it again: the table forgets what was
/// silent longest, and one of two directions may be.
#[inline(never)]
fn mirror(flow: &Flow, packet: &Packet, src_hi: bool, anew: bool) -> u32 {
    let Ends { src, dst, src_port, dst_port } = packet.ends();
    let ((client, client_port), (server, server_port)) = if flow::from_initiator(flow, src_hi) {
        ((src, src_port), (dst, dst_port))
    } else {
        ((dst, dst_port), (src, src_port))
    };
    let mut there = Ends { src: client, dst: server, src_port: client_port, dst_port: server_port };
    if flow.flags & FlowFlags::SNAT != 0 {
        (there.src, there.src_port) = (Ip::from_bytes(&flow.snat.addr), u16::from_ne_bytes(flow.snat.port));
    }
    if flow.flags & FlowFlags::DNAT != 0 {
        (there.dst, there.dst_port) = (Ip::from_bytes(&flow.nat.addr), u16::from_ne_bytes(flow.nat.port));
    }
    let (key, client_hi) = flow::key_of(&there, packet.proto);
    let mut state = flow.flags & (FlowFlags::RST | FlowFlags::REPLIED);
    let turned = (flow.flags & FlowFlags::INITIATOR_HI != 0) != client_hi;
    for (bit, other) in [(FlowFlags::FIN_LO, FlowFlags::FIN_HI), (FlowFlags::FIN_HI, FlowFlags::FIN_LO)] {
        if flow.flags & bit != 0 {
            state |= if turned { other } else { bit };
        }
    }
    if let Some(partner) = flow::find(&key) {
        let ours = (partner.flags ^ flow.flags) & FlowFlags::REVERSE != 0
            && is(&partner.nat, server, server_port)
            && is(&partner.snat, client, client_port);
        if ours {
            let old = partner.flags;
            partner.flags = if anew { old & !STATE } else { old } | state;
            partner.seen_s = flow.seen_s;
            return 0;
        }
        if !flow::is_over(partner, packet.proto) {
            return 0;
        }
    }
    let counted = FlowFlags::COUNTED_FROM | FlowFlags::COUNTED_TO;
    let side = !flow.flags & FlowFlags::REVERSE;
    let flags = flow.flags & BITS | side | counted | state | flow::initiator_bit(client_hi);
    let Some(mut work) = work::here() else { return FAILED };
    let entry = &mut work.flow;
    *entry = flow::plain(flow.service, flow.backend, flags, flow.isn);
    entry.nat = flow::end(server, server_port);
    entry.snat = flow::end(client, client_port);
    counter::expect(FLOWS.insert(&key.0, &*entry, u64::from(BPF_ANY)), Fault::FlowInsert);
    0
}
