//! Connections that pods open to addresses outside the cluster get an address of
//! the node, because nobody out there has a route to a pod's.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::maps::lpm_trie::Key;
use orlop_ebpf_abi::{DeviceFlags, DropReason, FlowFlags};

use crate::maps::NON_MASQUERADE;
use crate::packet::Ip;
use crate::pair;
use crate::pod::{NEXT, SHOT};
use crate::work;
use crate::{flow, forward, onward, snat};

/// Is this a destination to which pods do not show their own address?
#[inline(always)]
pub fn wanted(dst: Ip) -> bool {
    let many = if dst.is_v4() { dst.raw_v4() as u8 >= 224 } else { dst.0 as u8 == 0xff || dst.is_link_local_v6() };
    !many && NON_MASQUERADE.get(Key::new(128, dst.bytes())).is_none()
}

/// Masquerades the first packet of a flow that a local pod opened, or one whose flow
/// was entered when it still went elsewhere. The verdict.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_masquerade(skb: *mut __sk_buff) -> i32 {
    let Some(mut work) = work::here() else { return SHOT };
    // SAFETY: the kernel's context.
    let ifindex = unsafe { (*skb).ifindex };
    let Some(device) = forward::uplink(ifindex) else { return NEXT };
    if device.flags & DeviceFlags::TUNNEL != 0 || !wanted(work.packet.dst) {
        return NEXT;
    }
    if !work.packet.is_of_a_flow() {
        return work.drop(skb, DropReason::FragmentUnknown);
    }
    work.to = work.packet.ends();
    (work.service, work.backend) = (0, 0);
    let (key, _) = flow::key_of(&work.to, work.packet.proto);
    let mut kept = 0;
    if let Some(flow) = flow::find(&key) {
        (work.service, work.backend) = (flow.service, flow.backend);
        kept = flow.flags & (FlowFlags::COUNTED_FROM | FlowFlags::COUNTED_TO | flow::STATE);
    }
    let reason = snat::packet_take_port(ifindex, 0);
    if reason != 0 {
        return work::drop(skb, work.hook, reason);
    }
    pair::packet_enter(FlowFlags::SNAT | kept);
    let err = onward::packet_rewrite(skb);
    if err == 0 { NEXT } else { work::drop(skb, work.hook, err) }
}
