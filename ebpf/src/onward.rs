//! Where a translated packet goes from here.

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{DropReason, LocalPod};

use crate::nat::Side;
use crate::packet::SCTP;
use crate::pod::{self, NEXT, SHOT};
use crate::work::{self, Hook, Known, Work};
use crate::{dsr, forward, nat, open, sctp};

/// Not a verdict: the packet is to be sent with the ends of `Work::to`.
pub const GO: i32 = 0x100;
/// Not a verdict: the packet is to be sent as it is to the node of the backend that is
/// `Work::to`'s destination.
pub const TO_PEER: i32 = 0x101;

/// Does what remains to be done. The verdict.
#[inline(always)]
pub fn finish(skb: *mut __sk_buff, code: i32) -> i32 {
    match code {
        GO => packet_go(skb),
        TO_PEER => dsr::packet_to_peer(skb),
        verdict => verdict,
    }
}

/// Sends the packet with the ends of `Work::to`. The verdict.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_go(skb: *mut __sk_buff) -> i32 {
    let Some(work) = work::here() else { return SHOT };
    let (from, to) = (work.packet.ends(), work.to);
    if work.hook == Hook::UPLINK_OUT && to.dst == from.dst {
        // It is on its way already.
        return rewritten(skb, work, NEXT);
    }
    if let Some(pod) = pod::local(to.dst) {
        return deliver(skb, work, pod);
    }
    if open::is_own(to.dst) {
        // The stack takes it from here; what it sent itself it has seen.
        let out = work.hook == Hook::UPLINK_OUT;
        return if out { work.drop(skb, DropReason::NoRoute) } else { rewritten(skb, work, NEXT) };
    }
    if work.hook == Hook::FROM_POD && to.src == from.src {
        return rewritten(skb, work, NEXT);
    }
    let reason = forward::packet_route(skb, to.dst.0, to.dst.1);
    if reason == 0 { forward::packet_send(skb) } else { work::drop(skb, work.hook, reason) }
}

/// Puts the ends of `Work::to` into the packet. 0, or the drop reason's number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_rewrite(skb: *mut __sk_buff) -> u32 {
    let Some(mut work) = work::here() else { return DropReason::NatFailed as u32 };
    let Known { packet, to, .. } = &mut *work;
    if packet.proto == SCTP { packet_rewrite_sctp(skb) } else { nat::rewrite(skb, packet, to) }
}

/// The same for SCTP, one end after the other.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_rewrite_sctp(skb: *mut __sk_buff) -> u32 {
    let Some(mut work) = work::here() else { return DropReason::NatFailed as u32 };
    let ctx = TcContext::new(skb);
    let Known { packet, to, .. } = &mut *work;
    let mut written = Ok(());
    if (packet.src, packet.src_port) != (to.src, to.src_port) {
        written = sctp::rewrite(&ctx, packet, Side::Source, to.src, to.src_port);
    }
    if written.is_ok() && (packet.dst, packet.dst_port) != (to.dst, to.dst_port) {
        written = sctp::rewrite(&ctx, packet, Side::Destination, to.dst, to.dst_port);
    }
    if written.is_ok() { 0 } else { DropReason::NatFailed as u32 }
}

#[inline(always)]
fn rewritten(skb: *mut __sk_buff, work: Work, verdict: i32) -> i32 {
    let reason = packet_rewrite(skb);
    if reason == 0 { verdict } else { work::drop(skb, work.hook, reason) }
}

/// Hands the packet to a local pod, which it did not name before.
#[inline(always)]
fn deliver(skb: *mut __sk_buff, work: Work, pod: &LocalPod) -> i32 {
    if rewritten(skb, work, 0) != 0 {
        return SHOT;
    }
    if work.hook == Hook::UPLINK_OUT {
        // Delivery past the host's side is for arriving packets only; `pod_to` counts.
        return if pod::address(skb, pod) { redirect(pod.ifindex, 0) } else { work.drop(skb, DropReason::Malformed) };
    }
    pod::deliver(skb, pod, &work)
}

#[inline(always)]
fn redirect(ifindex: u32, flags: u64) -> i32 {
    // SAFETY: takes an interface index.
    unsafe { bpf_redirect(ifindex, flags) as i32 }
}

/// Turns an answer that was to leave by the device into one that arrives there: the
/// sender is a process of this node.
#[inline(always)]
pub fn inwards(skb: *mut __sk_buff, verdict: i32) -> i32 {
    // SAFETY: the kernel's context.
    if verdict == SHOT { verdict } else { redirect(unsafe { (*skb).ifindex }, u64::from(BPF_F_INGRESS)) }
}
