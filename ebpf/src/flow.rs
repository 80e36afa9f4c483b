//! The flow table.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use orlop_ebpf_abi::{End, Fault, Flow, FlowFlags, FlowKey, Timeouts};

use crate::counter;
use crate::maps::FLOWS;
use crate::packet::{Ends, Ip, Packet, TCP_FIN, TCP_RST};

pub const EEXIST: i32 = -17;
const NO_END: End = End { addr: [0; 16], port: [0; 2], pad: [0; 2] };
const NANOSECONDS: u64 = 1_000_000_000;
/// The packets of a flow with one of these are not (only) counted: see [`crate::translate`].
pub const TRANSLATED: u32 = FlowFlags::DNAT | FlowFlags::SNAT | FlowFlags::REVERSE | FlowFlags::DSR;
/// How far the connection is.
pub const STATE: u32 = FlowFlags::FIN_LO | FlowFlags::FIN_HI | FlowFlags::RST | FlowFlags::REPLIED;

/// A key aligned so that it is copied eight bytes at a time.
#[repr(C, align(8))]
pub struct Key(pub FlowKey);

/// The key of two ends, and whether the first is the higher one. The same
/// order as [`FlowKey::new`], by words.
#[inline(always)]
pub fn key(src: Ip, src_port: u16, dst: Ip, dst_port: u16, proto: u8) -> (Key, bool) {
    let src_hi = if src.0 != dst.0 {
        u64::from_be(src.0) > u64::from_be(dst.0)
    } else if src.1 != dst.1 {
        u64::from_be(src.1) > u64::from_be(dst.1)
    } else {
        u16::from_be(src_port) > u16::from_be(dst_port)
    };
    let (lo, lo_port, hi, hi_port) =
        if src_hi { (dst, dst_port, src, src_port) } else { (src, src_port, dst, dst_port) };
    let key = FlowKey {
        lo: lo.bytes(),
        hi: hi.bytes(),
        lo_port: lo_port.to_ne_bytes(),
        hi_port: hi_port.to_ne_bytes(),
        proto,
        pad: [0; 3],
    };
    (Key(key), src_hi)
}

#[inline(always)]
pub fn key_of(ends: &Ends, proto: u8) -> (Key, bool) {
    key(ends.src, ends.src_port, ends.dst, ends.dst_port, proto)
}

#[inline(always)]
pub fn end(addr: Ip, port: u16) -> End {
    End { addr: addr.bytes(), port: port.to_ne_bytes(), pad: [0; 2] }
}

/// Seconds of the monotonic clock, to the last tick: cheap enough for each packet.
#[inline(always)]
pub fn now_s() -> u32 {
    // SAFETY: takes and touches nothing.
    (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS) as u32
}

#[inline(always)]
pub fn initiator_bit(src_hi: bool) -> u32 {
    if src_hi { FlowFlags::INITIATOR_HI } else { 0 }
}

#[inline(always)]
pub fn find(key: &Key) -> Option<&'static mut Flow> {
    // SAFETY: a map value lives while the program runs. Other CPUs may write the
    // same flow; every field is read and written as one word.
    FLOWS.get_ptr_mut(&key.0).map(|flow| unsafe { &mut *flow })
}

#[inline(always)]
pub fn plain(service: u32, backend: u32, flags: u32, isn: u32) -> Flow {
    Flow { service, backend, flags, isn, seen_s: now_s(), nat: NO_END, snat: NO_END }
}

/// Is this flow the service's, and not idle?
#[inline(always)]
pub fn is_alive(key: &Key, service: u32, backend: u32) -> bool {
    find(key).is_some_and(|flow| {
        flow.service == service
            && flow.backend == backend
            && now_s().wrapping_sub(flow.seen_s) <= Timeouts::UDP_STREAM_S
    })
}

/// A socket's flow to the backend of a service, from its first packet.
#[inline(always)]
pub fn learn(key: &Key, src_hi: bool, service: u32, backend: u32) {
    let flow = plain(service, backend, initiator_bit(src_hi) | FlowFlags::FRESH, 0);
    counter::expect(FLOWS.insert(&key.0, &flow, u64::from(BPF_ANY)), Fault::FlowInsert);
}

/// Did the end that opened the flow send the packet?
#[inline(always)]
pub fn from_initiator(flow: &Flow, src_hi: bool) -> bool {
    (flow.flags & FlowFlags::INITIATOR_HI != 0) == src_hi
}

/// May another flow take over this entry's key?
#[inline(always)]
pub fn is_over(flow: &Flow, proto: u8) -> bool {
    let closed = FlowFlags::FIN_LO | FlowFlags::FIN_HI;
    let idle = now_s().wrapping_sub(flow.seen_s) > flow.timeout_s(proto);
    flow.flags & FlowFlags::RST != 0 || flow.flags & closed == closed || idle
}

/// How far the connection is, after this packet.
#[inline(always)]
pub fn advanced(flags: u32, packet: &Packet, src_hi: bool) -> u32 {
    let mut flags = flags;
    if (flags & FlowFlags::INITIATOR_HI != 0) != src_hi {
        flags |= FlowFlags::REPLIED;
    }
    if packet.is_connected() {
        if packet.tcp_flags & TCP_FIN != 0 {
            flags |= if src_hi { FlowFlags::FIN_HI } else { FlowFlags::FIN_LO };
        }
        if packet.tcp_flags & TCP_RST != 0 {
            flags |= FlowFlags::RST;
        }
    }
    flags
}

/// What a packet program learns about the flow of its packet.
#[derive(Clone, Copy)]
pub struct Tracked {
    /// The first packet of a connection, not counted before under this bit.
    pub new: bool,
    /// The end that opened the flow sent this packet.
    pub from_initiator: bool,
    /// 0: no service, or counted elsewhere.
    pub service: u32,
    pub backend: u32,
}

/// Enters a flow that is only counted.
#[inline(never)]
fn begin(key: &Key, flags: u32, isn: u32) -> u32 {
    let entered = FLOWS.insert(&key.0, plain(0, 0, flags, isn), u64::from(BPF_NOEXIST));
    // Another CPU may have been first.
    if entered.is_err_and(|err| err != EEXIST) {
        counter::fault(Fault::FlowInsert);
    }
    0
}

/// Says whether the packet is a new connection for the pod that `bit` stands for,
/// and how far its flow is. Makes the flow when the packet opens one.
#[inline(always)]
pub fn count(found: Option<&'static mut Flow>, key: &Key, src_hi: bool, packet: &Packet, bit: u32) -> Tracked {
    let Some(flow) = found else {
        if packet.is_connected() && !packet.is_syn() {
            return Tracked { new: false, from_initiator: true, service: 0, backend: 0 };
        }
        begin(key, initiator_bit(src_hi) | bit, packet.seq);
        return Tracked { new: true, from_initiator: true, service: 0, backend: 0 };
    };
    let mut flags = flow.flags;
    let now = now_s();
    let silent = now.wrapping_sub(flow.seen_s);
    let restart =
        if packet.is_connected() { packet.is_syn() && flow.isn != packet.seq } else { silent > Timeouts::UDP_STREAM_S };
    // Of a translated flow the program that translates it says how far it is.
    if silent != 0 && (flags & TRANSLATED == 0 || restart) {
        flow.seen_s = now;
    }
    if restart {
        flow.isn = packet.seq;
        if flags & (FlowFlags::FRESH | TRANSLATED) == 0 {
            flow.service = 0;
            flow.backend = 0;
            flags = initiator_bit(src_hi);
        } else {
            let initiator =
                if flags & TRANSLATED == 0 { initiator_bit(src_hi) } else { flags & FlowFlags::INITIATOR_HI };
            flags = flags & (FlowFlags::FRESH | TRANSLATED) | initiator;
        }
    }
    let from_initiator = (flags & FlowFlags::INITIATOR_HI != 0) == src_hi;
    let opens = from_initiator && (!packet.is_connected() || packet.is_syn());
    let new = opens && flags & bit == 0;
    if opens {
        flags = (flags | bit) & !FlowFlags::FRESH;
    }
    if flags & TRANSLATED == 0 {
        flags = advanced(flags, packet, src_hi);
    }
    if flags != flow.flags {
        flow.flags = flags;
    }
    // The hook that translates counts for the service; a flow that is only masqueraded
    // was translated by nobody on its way from the pod.
    let counted_elsewhere = flags & (TRANSLATED & !FlowFlags::SNAT) != 0;
    let service = if counted_elsewhere { 0 } else { flow.service };
    Tracked { new, from_initiator, service, backend: flow.backend }
}

/// [`count`] for a packet whose flow was not looked up yet. `None`: it is of none.
#[inline(always)]
pub fn track(packet: &Packet, bit: u32) -> Option<Tracked> {
    if !packet.has_ports {
        return None;
    }
    let (key, src_hi) = key_of(&packet.ends(), packet.proto);
    Some(count(find(&key), &key, src_hi, packet, bit))
}
