//! The flow table.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use orlop_ebpf_abi::{End, Fault, Flow, FlowFlags, FlowKey, Timeouts};

use crate::counter;
use crate::maps::FLOWS;
use crate::packet::{Ip, Packet, TCP, TCP_FIN, TCP_RST, UDP};

const NO_END: End = End { addr: [0; 16], port: [0; 2], pad: [0; 2] };
const NANOSECONDS: u64 = 1_000_000_000;

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
        flow.service == service && flow.backend == backend && now_s().wrapping_sub(flow.seen_s) <= Timeouts::UDP_STREAM_S
    })
}

/// A socket's flow to the backend of a service, from its first packet.
#[inline(always)]
pub fn learn(key: &Key, src_hi: bool, service: u32, backend: u32) {
    let flow = plain(service, backend, initiator_bit(src_hi) | FlowFlags::FRESH, 0);
    counter::expect(FLOWS.insert(&key.0, &flow, u64::from(BPF_ANY)), Fault::FlowInsert);
}

/// Which ends have closed the connection, after this packet.
#[inline(always)]
fn closing(flags: u32, packet: &Packet, src_hi: bool) -> u32 {
    if packet.proto != TCP {
        return flags;
    }
    let fin = if src_hi { FlowFlags::FIN_HI } else { FlowFlags::FIN_LO };
    let mut flags = flags;
    if packet.tcp_flags & TCP_FIN != 0 {
        flags |= fin;
    }
    if packet.tcp_flags & TCP_RST != 0 {
        flags |= FlowFlags::RST;
    }
    flags
}

/// Notes that a packet of a NodePort flow went by.
#[inline(always)]
pub fn touch(flow: &mut Flow, packet: &Packet, src_hi: bool) {
    let now = now_s();
    if flow.seen_s != now {
        flow.seen_s = now;
    }
    let flags = closing(flow.flags, packet, src_hi);
    if flags != flow.flags {
        flow.flags = flags;
    }
}

/// What a packet program learns about the flow of its packet.
pub struct Tracked {
    /// The first packet of a connection, not counted before under this bit.
    pub new: bool,
    /// The end that opened the flow sent this packet.
    pub from_initiator: bool,
    /// 0: no service, or counted elsewhere.
    pub service: u32,
    pub backend: u32,
}

/// Finds the packet's flow, makes it when the packet opens one, and says whether
/// it is a new connection for the pod that `bit` stands for.
#[inline(always)]
pub fn track(packet: &Packet, bit: u32) -> Option<Tracked> {
    if !packet.has_ports {
        return None;
    }
    let (key, src_hi) = key(packet.src, packet.src_port, packet.dst, packet.dst_port, packet.proto);
    let Some(flow) = find(&key) else {
        if packet.proto == TCP && !packet.is_syn() {
            return None;
        }
        let flow = plain(0, 0, initiator_bit(src_hi) | bit, packet.seq);
        let _ = FLOWS.insert(&key.0, &flow, u64::from(BPF_NOEXIST));
        return Some(Tracked { new: true, from_initiator: true, service: 0, backend: 0 });
    };
    let mut flags = flow.flags;
    let restart = if packet.proto == TCP {
        packet.is_syn() && flow.isn != packet.seq
    } else {
        let now = now_s();
        let idle = now.wrapping_sub(flow.seen_s) > Timeouts::UDP_STREAM_S;
        if flow.seen_s != now {
            flow.seen_s = now;
        }
        idle
    };
    if restart {
        flow.isn = packet.seq;
        if flags & (FlowFlags::FRESH | FlowFlags::REVERSE) == 0 {
            flow.service = 0;
            flow.backend = 0;
        }
        let keep = flags & (FlowFlags::FRESH | FlowFlags::REVERSE | FlowFlags::DNAT);
        flags = keep | initiator_bit(src_hi);
    }
    let from_initiator = (flags & FlowFlags::INITIATOR_HI != 0) == src_hi;
    let opens = from_initiator && (packet.proto == UDP || packet.is_syn());
    let new = opens && flags & bit == 0;
    if opens {
        flags = (flags | bit) & !FlowFlags::FRESH;
    }
    flags = closing(flags, packet, src_hi);
    if flags != flow.flags {
        flow.flags = flags;
    }
    let counted_elsewhere = flags & (FlowFlags::REVERSE | FlowFlags::DNAT) != 0;
    let service = if counted_elsewhere { 0 } else { flow.service };
    Some(Tracked { new, from_initiator, service, backend: flow.backend })
}
