//! ICMP errors about translated flows: each side hears of the packet that it knows.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{DropReason, End, Flow, FlowFlags};

use crate::icmp;
use crate::nat::Side;
use crate::onward::{self, GO, TO_PEER};
use crate::packet::{Ends, Ip};
use crate::pod::{self, NEXT};
use crate::work::{self, Hook, Work};
use crate::{flow, open};

/// Translates the error at hand, if the packet that it quotes belongs to a flow that
/// is translated at this hook, and sends it on. The verdict; [`NEXT`]: as it is.
#[inline(always)]
pub fn pass(skb: *mut __sk_buff) -> i32 {
    let code = packet_error(skb);
    if code != GO {
        return onward::finish(skb, code);
    }
    let reason = packet_rewrite_quoted(skb);
    if reason == 0 {
        return onward::packet_go(skb);
    }
    work::here().map_or(pod::SHOT, |work| work::drop(skb, work.hook, reason))
}

/// What the quoted packet was at its sender goes into `Work::quoted`, what the error's
/// ends become into `Work::to`: [`GO`], or another verdict.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_error(skb: *mut __sk_buff) -> i32 {
    let Some(mut work) = work::here() else { return NEXT };
    let Ok(quoted) = icmp::quoted(&TcContext::new(skb), &work.packet) else { return NEXT };
    if quoted.l4 == 0 {
        return NEXT;
    }
    let ends = quoted.ends();
    let (key, src_hi) = flow::key_of(&ends, quoted.proto);
    let Some(flow) = flow::find(&key) else { return NEXT };
    let from_initiator = flow::from_initiator(flow, src_hi);
    if flow.flags & FlowFlags::DSR != 0 {
        // About an answer that the backend's node sent with this node's address.
        work.to = work.packet.ends();
        work.to.dst = Ip::from_bytes(&flow.nat.addr);
        return if from_initiator || work.hook != Hook::UPLINK_IN { NEXT } else { TO_PEER };
    }
    // A packet is quoted as it went out from here: as the flow's other entry has it.
    let back = flow.flags & FlowFlags::REVERSE != 0;
    if flow.flags & flow::TRANSLATED == 0 || back != from_initiator || ends.src != work.packet.dst {
        return NEXT;
    }
    work.quoted = before(flow, &ends);
    work.to = work.packet.ends();
    work.to.dst = work.quoted.src;
    if work.packet.src == ends.dst {
        work.to.src = work.quoted.dst;
    }
    goes(work)
}

/// The ends of a packet that were replaced by these.
#[inline(always)]
fn before(flow: &Flow, ends: &Ends) -> Ends {
    let mut before = *ends;
    let back = flow.flags & FlowFlags::REVERSE != 0;
    let read = |end: &End| (Ip::from_bytes(&end.addr), u16::from_ne_bytes(end.port));
    if flow.flags & FlowFlags::DNAT != 0 {
        let (addr, port) = read(&flow.nat);
        if back { (before.dst, before.dst_port) = (addr, port) } else { (before.src, before.src_port) = (addr, port) }
    }
    if flow.flags & FlowFlags::SNAT != 0 {
        let (addr, port) = read(&flow.snat);
        if back { (before.src, before.src_port) = (addr, port) } else { (before.dst, before.dst_port) = (addr, port) }
    }
    before
}

/// A pod's error about a client outside is for `uplink_out`: the stack takes no
/// packet from a pod that has an address of the node's.
#[inline(always)]
fn goes(work: Work) -> i32 {
    let here = work.hook != Hook::FROM_POD || pod::local(work.to.dst).is_some() || open::is_own(work.to.dst);
    if here { GO } else { NEXT }
}

/// Puts `Work::quoted` into the quoted packet. 0, or the drop reason's number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_rewrite_quoted(skb: *mut __sk_buff) -> u32 {
    let Some(work) = work::here() else { return DropReason::NatFailed as u32 };
    let ctx = TcContext::new(skb);
    let Ok(mut quoted) = icmp::quoted(&ctx, &work.packet) else { return DropReason::NatFailed as u32 };
    let to = work.quoted;
    let mut written = Ok(());
    if (quoted.src, quoted.src_port) != (to.src, to.src_port) {
        written = icmp::rewrite_quoted(&ctx, &work.packet, &mut quoted, Side::Source, (to.src, to.src_port));
    }
    if written.is_ok() && (quoted.dst, quoted.dst_port) != (to.dst, to.dst_port) {
        written = icmp::rewrite_quoted(&ctx, &work.packet, &mut quoted, Side::Destination, (to.dst, to.dst_port));
    }
    if written.is_ok() { 0 } else { DropReason::NatFailed as u32 }
}
