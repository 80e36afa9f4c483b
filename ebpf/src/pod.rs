//! tcx on the host side of each pod's veth.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{bpf_redirect_peer, bpf_skb_store_bytes};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{BandwidthKey, DropReason, Flow, FlowFlags, LocalPod};

use crate::counter::{self, Device};
use crate::flow::{self, Key};
use crate::maps::PODS;
use crate::packet::{self, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ICMPV6, Ip, Packet};
use crate::work::{self, Hook, Known, Work};
use crate::{bandwidth, error, onward, open, pair, uplink};

/// TCX_NEXT: the next program of the hook decides, then the stack.
pub const NEXT: i32 = -1;
pub const SHOT: i32 = TC_ACT_SHOT;

#[inline(always)]
pub fn local(addr: Ip) -> Option<&'static LocalPod> {
    // SAFETY: the value is replaced whole; user space removes it only once the
    // pod's device is gone.
    unsafe { PODS.get(addr.bytes()) }
}

/// ingress = from the pod.
#[classifier]
pub fn pod_from(ctx: TcContext) -> i32 {
    let (len, ifindex, ethertype) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    counter::add(device.from(), len);
    match from_pod(&ctx, device, len, ifindex, ethertype) {
        Ok(verdict) => verdict,
        Err(reason) => {
            device.drop_from(reason as u32);
            SHOT
        }
    }
}

#[inline(always)]
fn from_pod(ctx: &TcContext, device: Device, len: u32, ifindex: u32, ethertype: u16) -> Result<i32, DropReason> {
    if !bandwidth::admits(ifindex, BandwidthKey::FROM, len) {
        return Err(DropReason::Bandwidth);
    }
    if ethertype == ETH_P_ARP {
        let sender = packet::arp_sender(ctx)?;
        // RFC 5227: a probe asks from 0.0.0.0.
        return if sender.raw_v4() == 0 || owns(ifindex, sender) { Ok(NEXT) } else { Err(DropReason::SourceSpoofed) };
    }
    if ethertype != ETH_P_IP && ethertype != ETH_P_IPV6 {
        return Err(DropReason::UnknownEthertype);
    }
    let skb = packet::skb(ctx);
    let unread = work::read(skb, ethertype, Hook::FROM_POD);
    if unread != 0 {
        return Ok(work::drop(skb, Hook::FROM_POD, unread));
    }
    let Some(work) = work::here() else { return Err(DropReason::Malformed) };
    if !owns(ifindex, work.packet.src) && !is_neighbour_talk(&work.packet) {
        return Err(DropReason::SourceSpoofed);
    }
    if work.packet.icmp_error {
        device.icmp_error_from();
        let verdict = error::pass(skb);
        if verdict != NEXT {
            return Ok(verdict);
        }
    }
    // SAFETY: the context is the kernel's own.
    let to_one = unsafe { (*skb).pkt_type } == 0;
    if work.packet.has_ports {
        let (key, src_hi) = flow::key_of(&work.packet.ends(), work.packet.proto);
        let mut found = flow::find(&key);
        if to_one && let Some(verdict) = translated(skb, &mut found, src_hi, work) {
            return Ok(verdict);
        }
        let tracked = flow::count(found, &key, src_hi, &work.packet, FlowFlags::COUNTED_FROM);
        if tracked.new {
            device.from().connections += 1;
        }
        if tracked.service != 0 {
            counter::service_packet(tracked.service, tracked.backend, len, tracked.from_initiator);
        }
    }
    match local(work.packet.dst) {
        Some(pod) if to_one => Ok(deliver(skb, pod, &work)),
        _ => Ok(NEXT),
    }
}

/// The verdict on a packet of a client here whose service no socket hook
/// translated, or of such a client's backend.
#[inline(always)]
fn translated(skb: *mut __sk_buff, found: &mut Option<&'static mut Flow>, src_hi: bool, work: Work) -> Option<i32> {
    let packet = &work.packet;
    let Some(flow) = found else {
        return if packet.may_open() { begins(skb) } else { None };
    };
    let from_initiator = flow::from_initiator(flow, src_hi);
    let back = flow.flags & FlowFlags::REVERSE != 0;
    if flow.flags & flow::TRANSLATED == 0 {
        // A datagram may have been on its way before there was a service at its address.
        let again = !packet.is_connected() && flow.service == 0 && flow.seen_s != flow::now_s();
        return if again && from_initiator { begins(skb) } else { None };
    }
    if back == from_initiator || flow.flags & FlowFlags::DNAT == 0 {
        return None;
    }
    if !back && !uplink::holds(flow, packet) {
        return begins(skb);
    }
    pair::ends(flow, src_hi, work);
    if back && local(work.to.dst).is_none() && !open::is_own(work.to.dst) {
        // The client is outside: `uplink_out` shows it the service.
        return None;
    }
    known(skb, flow, src_hi, work);
    Some(onward::packet_go(skb))
}

#[inline(always)]
fn begins(skb: *mut __sk_buff) -> Option<i32> {
    if open::packet_service() == 0 {
        return None;
    }
    let verdict = onward::finish(skb, open::packet_open(skb));
    (verdict != NEXT).then_some(verdict)
}

/// A packet of a flow goes by that is translated here.
#[inline(always)]
fn known(skb: *mut __sk_buff, flow: &mut Flow, src_hi: bool, work: Work) {
    pair::touch(flow, &work.packet, src_hi);
    let to_backend = flow.flags & FlowFlags::REVERSE == 0;
    // SAFETY: the context is the kernel's own.
    counter::service_packet(flow.service, flow.backend, unsafe { (*skb).len }, to_backend);
}

#[inline(always)]
fn owns(ifindex: u32, addr: Ip) -> bool {
    local(addr).is_some_and(|pod| pod.ifindex == ifindex)
}

/// IPv6 neighbour and multicast discovery speaks from link-local addresses, and
/// from `::` while an address is still tried (RFC 4862).
#[inline(always)]
fn is_neighbour_talk(packet: &Packet) -> bool {
    packet.proto == ICMPV6 && (packet.src.is_link_local_v6() || packet.src.is_zero())
}

#[repr(C, align(4))]
struct Macs {
    dst: [u8; 6],
    src: [u8; 6],
}

/// Writes the hardware addresses of a local pod's link.
#[inline(always)]
pub fn address(skb: *mut __sk_buff, pod: &LocalPod) -> bool {
    let macs = Macs { dst: pod.pod_mac, src: pod.host_mac };
    // SAFETY: twelve bytes of a local value.
    unsafe { bpf_skb_store_bytes(skb, 0, (&raw const macs).cast(), 12, 0) == 0 }
}

/// Hands the packet to a local pod's interface directly, without its host side,
/// and counts it for that pod. The TTL stays: pods of one node are one hop apart.
#[inline(never)]
pub fn deliver(skb: *mut __sk_buff, pod: &LocalPod, work: &Known) -> i32 {
    if !address(skb, pod) {
        return work::drop(skb, work.hook, DropReason::Malformed as u32);
    }
    let packet = &work.packet;
    if let Some(target) = Device::of(pod.ifindex) {
        // SAFETY: the kernel's context.
        let len = unsafe { (*skb).len };
        if !bandwidth::admits(pod.ifindex, BandwidthKey::TO, len) {
            target.drop_to(DropReason::Bandwidth as u32);
            return SHOT;
        }
        counter::add(target.to(), len);
        if packet.icmp_error {
            target.icmp_error_to();
        }
        if flow::track(packet, FlowFlags::COUNTED_TO).is_some_and(|tracked| tracked.new) {
            target.to().connections += 1;
        }
    }
    // SAFETY: takes an interface index.
    unsafe { bpf_redirect_peer(pod.ifindex, 0) as i32 }
}

/// egress = to the pod, for what came through the host's stack.
#[classifier]
pub fn pod_to(ctx: TcContext) -> i32 {
    let (len, ifindex, ethertype) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    if !bandwidth::admits(ifindex, BandwidthKey::TO, len) {
        device.drop_to(DropReason::Bandwidth as u32);
        return SHOT;
    }
    counter::add(device.to(), len);
    if ethertype != ETH_P_IP && ethertype != ETH_P_IPV6 {
        return NEXT;
    }
    let skb = packet::skb(&ctx);
    if work::read(skb, ethertype, Hook::UPLINK_OUT) != 0 {
        return NEXT;
    }
    let Some(work) = work::here() else { return NEXT };
    let packet = &work.packet;
    if packet.icmp_error {
        device.icmp_error_to();
        return error::pass(skb);
    }
    if !packet.has_ports {
        return NEXT;
    }
    let (key, src_hi) = flow::key_of(&packet.ends(), packet.proto);
    let found = flow::find(&key);
    if let Some(flow) = &found
        && flow.flags & FlowFlags::REVERSE != 0
        && !flow::from_initiator(flow, src_hi)
    {
        return answered(skb, &key, src_hi, work);
    }
    let tracked = flow::count(found, &key, src_hi, packet, FlowFlags::COUNTED_TO);
    if tracked.new {
        device.to().connections += 1;
    }
    // What a local pod sent was counted for the service on its own veth.
    if tracked.service != 0 && local(packet.src).is_none() {
        counter::service_packet(tracked.service, tracked.backend, len, tracked.from_initiator);
    }
    NEXT
}

/// The answer of a backend in the host's network to a pod whose packet was
/// translated: it came by no other program.
#[inline(always)]
fn answered(skb: *mut __sk_buff, key: &Key, src_hi: bool, work: Work) -> i32 {
    let Some(flow) = flow::find(key) else { return SHOT };
    let here = pair::ends(flow, src_hi, work) && work.to.dst == work.packet.dst;
    if !here {
        return NEXT;
    }
    known(skb, flow, src_hi, work);
    onward::packet_go(skb)
}
