//! tcx on uplinks and tunnels: services as clients outside see them, masquerade,
//! and what must not leave the node as it is.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{DeviceFlags, DropReason, Flow, FlowFlags, SettingsFlags, Timeouts};

use crate::counter::{self, Device};
use crate::flow::{self, Key, TRANSLATED};
use crate::maps::FLOWS;
use crate::onward::{self, GO, TO_PEER};
use crate::packet::{self, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ICMPV6, Packet};
use crate::pod::{self, NEXT, SHOT};
use crate::work::{self, Hook, Work};
use crate::{error, forward, masquerade, neighbour, open, pair, service, snat};

/// ingress = from outside.
#[classifier]
pub fn uplink_in(ctx: TcContext) -> i32 {
    let (len, ifindex, ethertype) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    counter::add(device.from(), len);
    // What cannot be read is the stack's to judge.
    let Some(work) = read(&ctx, ethertype, Hook::UPLINK_IN) else {
        return if ethertype == ETH_P_ARP { neighbour_packet(&ctx, ifindex) } else { NEXT };
    };
    // SAFETY: the context is the kernel's own.
    let for_us = unsafe { (*packet::skb(&ctx)).pkt_type } == 0;
    if work.packet.icmp_error {
        device.icmp_error_from();
        return if for_us { error::pass(packet::skb(&ctx)) } else { NEXT };
    }
    if work.packet.proto == ICMPV6 && !work.packet.is_echo {
        return neighbour_packet(&ctx, ifindex);
    }
    if for_us && work.packet.is_of_a_flow() { arrive(packet::skb(&ctx), work) } else { NEXT }
}

/// egress = to outside.
#[classifier]
pub fn uplink_out(ctx: TcContext) -> i32 {
    let (len, ifindex, ethertype) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    let Some(work) = read(&ctx, ethertype, Hook::UPLINK_OUT) else {
        counter::add(device.to(), len);
        return NEXT;
    };
    let is_error = work.packet.icmp_error;
    let verdict = if is_error { error::pass(packet::skb(&ctx)) } else { leave(&ctx, work, len) };
    // What was sent elsewhere did not leave here, or comes by again.
    if verdict == NEXT || verdict == SHOT {
        counter::add(device.to(), len);
        if is_error {
            device.icmp_error_to();
        }
    }
    verdict
}

#[inline(always)]
fn read(ctx: &TcContext, ethertype: u16, hook: u32) -> Option<Work> {
    if (ethertype != ETH_P_IP && ethertype != ETH_P_IPV6) || work::read(packet::skb(ctx), ethertype, hook) != 0 {
        return None;
    }
    work::here()
}

/// Answers for local pods' addresses where the device says so.
#[inline(always)]
fn neighbour_packet(ctx: &TcContext, ifindex: u32) -> i32 {
    let answers = forward::uplink(ifindex).is_some_and(|device| device.flags & DeviceFlags::ANSWER_NEIGHBOURS != 0);
    if answers { packet_neighbour(packet::skb(ctx)) } else { NEXT }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_neighbour(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let (_, ifindex, ethertype) = packet::facts(&ctx);
    let (Some(work), Some(device)) = (work::here(), forward::uplink(ifindex)) else { return NEXT };
    let answered = if ethertype == ETH_P_ARP {
        neighbour::answer_arp(&ctx, device.mac)
    } else {
        neighbour::answer_solicitation(&ctx, &work.packet, device.mac)
    };
    answered.unwrap_or(NEXT)
}

/// May a packet of a service's flow go where the flow's earlier ones went?
#[inline(always)]
pub fn holds(flow: &Flow, packet: &Packet) -> bool {
    if packet.is_connected() {
        // A SYN with another sequence number is a new connection on old ports.
        return !packet.is_syn() || flow.isn == packet.seq;
    }
    let silent = flow::now_s().wrapping_sub(flow.seen_s) > Timeouts::UDP_STREAM_S;
    flow.service == 0 || (!silent && service::is_active(&flow.backend))
}

#[inline(always)]
fn arrive(skb: *mut __sk_buff, work: Work) -> i32 {
    let packet = &work.packet;
    let (key, src_hi) = flow::key_of(&packet.ends(), packet.proto);
    if let Some(flow) = flow::find(&key) {
        let from_initiator = flow::from_initiator(flow, src_hi);
        let back = flow.flags & FlowFlags::REVERSE != 0;
        if flow.flags & TRANSLATED == 0 {
            // A datagram of a flow to a pod, say, was looked at once this second.
            if !packet.is_connected() && flow.seen_s == flow::now_s() {
                return NEXT;
            }
        } else if back != from_initiator && (back || holds(flow, packet)) {
            return known(skb, flow, src_hi, work);
        } else if back {
            return past(skb, &key, flow, work);
        } else if !from_initiator {
            // From a service's address.
            return NEXT;
        }
    }
    if packet.is_echo {
        return NEXT;
    }
    let code = if packet.may_open() { open::packet_open(skb) } else { open::packet_stray(skb) };
    onward::finish(skb, code)
}

/// A client speaks to a backend itself, with the ends that a flow through a service has there. Its connection takes the
/// place of one that is over; beside a living one it could not be told from it.
#[inline(always)]
fn past(skb: *mut __sk_buff, key: &Key, flow: &Flow, work: Work) -> i32 {
    let packet = &work.packet;
    if !packet.is_syn() || flow.isn == packet.seq {
        return NEXT;
    }
    if !flow::is_over(flow, packet.proto) {
        return work.drop(skb, DropReason::NatCollision);
    }
    let _ = FLOWS.remove(&key.0);
    NEXT
}

/// A packet of a translated flow.
#[inline(always)]
fn known(skb: *mut __sk_buff, flow: &mut Flow, src_hi: bool, mut work: Work) -> i32 {
    pair::touch(flow, &work.packet, src_hi);
    if flow.service != 0 {
        let to_backend = flow.flags & FlowFlags::REVERSE == 0;
        // SAFETY: the context is the kernel's own.
        counter::service_packet(flow.service, flow.backend, unsafe { (*skb).len }, to_backend);
    }
    let code = if flow.flags & FlowFlags::DSR != 0 {
        work.to.dst = packet::Ip::from_bytes(&flow.nat.addr);
        TO_PEER
    } else if pair::ends(flow, src_hi, work) {
        GO
    } else {
        NEXT
    };
    onward::finish(skb, code)
}

#[inline(always)]
fn leave(ctx: &TcContext, work: Work, len: u32) -> i32 {
    let packet = &work.packet;
    if !packet.is_of_a_flow() {
        // A later fragment must not leave with a pod's address when the first did not.
        return if packet.fragment && packet.l4 == 0 { begin(ctx, packet) } else { NEXT };
    }
    let (key, src_hi) = flow::key_of(&packet.ends(), packet.proto);
    let mut opened_here = packet.may_open();
    if let Some(flow) = flow::find(&key) {
        let from_initiator = flow::from_initiator(flow, src_hi);
        let back = flow.flags & FlowFlags::REVERSE != 0;
        if flow.flags & TRANSLATED == 0 {
            opened_here &= from_initiator;
        } else if flow.flags & FlowFlags::DSR != 0 || back == from_initiator {
            return NEXT;
        } else if back || flow.flags & FlowFlags::DNAT == 0 || holds(flow, packet) {
            pair::touch(flow, packet, src_hi);
            if flow.flags & FlowFlags::DNAT != 0 {
                counter::service_packet(flow.service, flow.backend, len, !back);
            }
            let translated = pair::ends(flow, src_hi, work);
            return if translated { onward::packet_go(packet::skb(ctx)) } else { NEXT };
        }
    }
    if opened_here { begin(ctx, packet) } else { NEXT }
}

/// A flow that begins with this packet, as far as is known.
#[inline(always)]
fn begin(ctx: &TcContext, packet: &Packet) -> i32 {
    let skb = packet::skb(ctx);
    let masquerades = snat::settings().flags & SettingsFlags::MASQUERADE != 0;
    if masquerades && pod::local(packet.src).is_some() {
        return masquerade::packet_masquerade(skb);
    }
    // A process of the node whose socket no hook translated.
    let asks = packet.has_ports || packet.is_echo;
    if !asks || open::packet_service() == 0 || !open::is_own(packet.src) {
        return NEXT;
    }
    onward::finish(skb, open::packet_open(skb))
}
