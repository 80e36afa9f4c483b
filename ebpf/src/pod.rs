//! tcx on the host side of each pod's veth.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::generated::{bpf_redirect_peer, bpf_skb_store_bytes};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{DropReason, FlowFlags, LocalPod};

use crate::counter::{self, Device};
use crate::flow;
use crate::maps::PODS;
use crate::packet::{self, ETH_HEADER_LEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ICMPV6, Ip, Packet};

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
            device.drop_from(reason);
            SHOT
        }
    }
}

#[inline(always)]
fn from_pod(ctx: &TcContext, device: Device, len: u32, ifindex: u32, ethertype: u16) -> Result<i32, DropReason> {
    if ethertype == ETH_P_ARP {
        let sender = packet::arp_sender(ctx)?;
        // RFC 5227: a probe asks from 0.0.0.0.
        return if sender.raw_v4() == 0 || owns(ifindex, sender) { Ok(NEXT) } else { Err(DropReason::SourceSpoofed) };
    }
    if ethertype != ETH_P_IP && ethertype != ETH_P_IPV6 {
        return Err(DropReason::UnknownEthertype);
    }
    let packet = packet::parse(ctx, ETH_HEADER_LEN, ethertype)?;
    if !owns(ifindex, packet.src) && !is_neighbour_talk(&packet) {
        return Err(DropReason::SourceSpoofed);
    }
    if packet.icmp_error {
        device.icmp_error_from();
    }
    let tracked = flow::track(&packet, FlowFlags::COUNTED_FROM);
    if let Some(tracked) = tracked {
        if tracked.new {
            device.from().connections += 1;
        }
        if tracked.service != 0 {
            counter::service_packet(tracked.service, tracked.backend, len, tracked.from_initiator);
        }
    }
    match local(packet.dst) {
        // SAFETY: the context is the kernel's own.
        Some(pod) if unsafe { (*packet::skb(ctx)).pkt_type } == 0 => deliver(ctx, pod, &packet, len),
        _ => Ok(NEXT),
    }
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

/// Hands the packet to a local pod's interface directly, without its host side,
/// and counts it for that pod. The TTL stays: pods of one node are one hop apart.
#[inline(always)]
pub fn deliver(ctx: &TcContext, pod: &LocalPod, packet: &Packet, len: u32) -> Result<i32, DropReason> {
    let macs = Macs { dst: pod.pod_mac, src: pod.host_mac };
    // SAFETY: twelve bytes of a local value.
    let err = unsafe { bpf_skb_store_bytes(packet::skb(ctx), 0, (&raw const macs).cast(), 12, 0) };
    if err != 0 {
        return Err(DropReason::Malformed);
    }
    if let Some(target) = Device::of(pod.ifindex) {
        counter::add(target.to(), len);
        if packet.icmp_error {
            target.icmp_error_to();
        }
        if flow::track(packet, FlowFlags::COUNTED_TO).is_some_and(|tracked| tracked.new) {
            target.to().connections += 1;
        }
    }
    // SAFETY: takes an interface index.
    Ok(unsafe { bpf_redirect_peer(pod.ifindex, 0) } as i32)
}

/// egress = to the pod, for what came through the host's stack.
#[classifier]
pub fn pod_to(ctx: TcContext) -> i32 {
    let (len, ifindex, ethertype) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    counter::add(device.to(), len);
    if ethertype != ETH_P_IP && ethertype != ETH_P_IPV6 {
        return NEXT;
    }
    let Ok(packet) = packet::parse(&ctx, ETH_HEADER_LEN, ethertype) else { return NEXT };
    if packet.icmp_error {
        device.icmp_error_to();
    }
    if let Some(tracked) = flow::track(&packet, FlowFlags::COUNTED_TO) {
        if tracked.new {
            device.to().connections += 1;
        }
        // What a local pod sent was counted for the service on its own veth.
        if tracked.service != 0 && local(packet.src).is_none() {
            counter::service_packet(tracked.service, tracked.backend, len, tracked.from_initiator);
        }
    }
    NEXT
}
