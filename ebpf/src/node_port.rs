//! tcx on uplinks: NodePorts, with our own connection table.
//!
//! A flow has two entries in `FLOWS`: (client, node port), whose NAT address is
//! the backend, and (client, backend), whose NAT address is the node port. Pods'
//! programs and replies find the second.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, BPF_ANY};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{DropReason, End, Fault, Flow, FlowFlags, NodeAddrFlags, Timeouts};

use crate::counter::{self, Device};
use crate::flow::{self, Key};
use crate::maps::{FLOWS, NODE_ADDRS};
use crate::nat::{self, Side};
use crate::packet::{self, ETH_HEADER_LEN, ETH_P_IP, ETH_P_IPV6, Ip, Packet, TCP};
use crate::pod::{self, NEXT, SHOT};
use crate::service::{self, Chosen, Client, Kind};

/// How many backends are tried for a client whose ports are in use by another flow.
const COLLISIONS_MAX: u32 = 4;

struct Opening {
    key: Key,
    back: Key,
    flow: Flow,
}

/// The flow that this CPU is about to enter: the stack has no room for it. Programs on
/// devices run with softirqs off, so there is never a second one.
#[map]
static OPENING: PerCpuArray<Opening> = PerCpuArray::with_max_entries(1, 0);

/// The packet that this CPU has in hand, likewise.
#[map]
static ARRIVING: PerCpuArray<Packet> = PerCpuArray::with_max_entries(1, 0);

/// ingress = from outside.
#[classifier]
pub fn uplink_in(ctx: TcContext) -> i32 {
    let (len, ifindex, ethertype) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    counter::add(device.from(), len);
    // What cannot be read is the stack's to judge.
    let Some(arrived) = read(&ctx, ethertype) else { return NEXT };
    let Some(packet) = ARRIVING.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's element is ours while the program runs.
    let packet = unsafe { &mut *packet };
    *packet = arrived;
    if packet.icmp_error {
        device.icmp_error_from();
    }
    match arrive(&ctx, packet, len) {
        Ok(verdict) => verdict,
        Err(reason) => {
            device.drop_from(reason);
            SHOT
        }
    }
}

/// egress = to outside.
#[classifier]
pub fn uplink_out(ctx: TcContext) -> i32 {
    let (len, ifindex, ethertype) = packet::facts(&ctx);
    let Some(device) = Device::of(ifindex) else { return NEXT };
    counter::add(device.to(), len);
    let Some(packet) = read(&ctx, ethertype) else { return NEXT };
    if packet.icmp_error {
        device.icmp_error_to();
    }
    match leave(&ctx, &packet, len) {
        Ok(()) => NEXT,
        Err(reason) => {
            device.drop_to(reason);
            SHOT
        }
    }
}

#[inline(always)]
fn read(ctx: &TcContext, ethertype: u16) -> Option<Packet> {
    if ethertype != ETH_P_IP && ethertype != ETH_P_IPV6 {
        return None;
    }
    packet::parse(ctx, ETH_HEADER_LEN, ethertype).ok()
}

#[inline(always)]
fn key_of(packet: &Packet) -> (Key, bool) {
    flow::key(packet.src, packet.src_port, packet.dst, packet.dst_port, packet.proto)
}

#[inline(always)]
fn from_initiator(flow: &Flow, src_hi: bool) -> bool {
    (flow.flags & FlowFlags::INITIATOR_HI != 0) == src_hi
}

/// May a packet of this NodePort flow go where the flow's earlier ones went?
#[inline(always)]
fn holds(flow: &Flow, packet: &Packet) -> bool {
    if packet.proto == TCP {
        // A SYN with another sequence number is a new connection on old ports.
        !packet.is_syn() || flow.isn == packet.seq
    } else {
        flow::now_s().wrapping_sub(flow.seen_s) <= Timeouts::UDP_STREAM_S && service::is_active(&flow.backend)
    }
}

/// May another flow take over this entry's key?
#[inline(always)]
fn is_over(flow: &Flow, proto: u8) -> bool {
    let closed = FlowFlags::FIN_LO | FlowFlags::FIN_HI;
    let idle = flow::now_s().wrapping_sub(flow.seen_s) > flow.timeout_s(proto);
    flow.flags & FlowFlags::RST != 0 || flow.flags & closed == closed || idle
}

#[inline(always)]
fn is_node_addr(addr: Ip) -> bool {
    // SAFETY: a copy of four bytes.
    unsafe { NODE_ADDRS.get(addr.bytes()) }.is_some_and(|flags| flags & NodeAddrFlags::OWN != 0)
}

#[inline(always)]
fn arrive(ctx: &TcContext, packet: &mut Packet, len: u32) -> Result<i32, DropReason> {
    // SAFETY: the context is the kernel's own.
    let for_us = unsafe { (*packet::skb(ctx)).pkt_type } == 0;
    if !packet.has_ports || !for_us {
        return Ok(NEXT);
    }
    let Some(opening) = OPENING.get_ptr_mut(0) else { return Err(DropReason::NatFailed) };
    // SAFETY: this CPU's element is ours while the program runs.
    let opening = unsafe { &mut *opening };
    let src_hi;
    (opening.key, src_hi) = key_of(packet);
    let chosen = match flow::find(&opening.key) {
        Some(flow) if flow.flags & FlowFlags::DNAT != 0 && from_initiator(flow, src_hi) && holds(flow, packet) => {
            flow::touch(flow, packet, src_hi);
            Chosen {
                addr: Ip::from_bytes(&flow.nat.addr),
                port: u16::from_ne_bytes(flow.nat.port),
                service: flow.service,
                backend: flow.backend,
            }
        }
        // Its first packet opened a flow; a later one without is for the stack to reset.
        _ if packet.proto == TCP && !packet.is_syn() => return Ok(NEXT),
        _ => match open(packet, opening, src_hi)? {
            Some(chosen) => chosen,
            None => return Ok(NEXT),
        },
    };
    nat::rewrite(ctx, packet, Side::Destination, chosen.addr, chosen.port)?;
    counter::service_packet(chosen.service, chosen.backend, len, true);
    hand_over(ctx.as_ptr().cast(), packet, len)
}

/// To the pod that the packet is for by now. A function of its own, whose stack comes beside
/// the caller's only while it runs.
#[inline(never)]
fn hand_over(ctx: *mut __sk_buff, packet: &mut Packet, len: u32) -> Result<i32, DropReason> {
    match pod::local(packet.dst) {
        Some(pod) => pod::deliver(&TcContext::new(ctx), pod, packet, len),
        // A backend in the host's network: the stack takes it from here.
        None => Ok(NEXT),
    }
}

/// Chooses a backend for a new flow and enters both directions. `None`: no NodePort.
#[inline(always)]
fn open(packet: &Packet, opening: &mut Opening, src_hi: bool) -> Result<Option<Chosen>, DropReason> {
    let Opening { key, back, flow } = opening;
    let client = Client { inside: false, addr: packet.src, port: packet.src_port, host: false };
    let mut tries = 0;
    while tries < COLLISIONS_MAX {
        tries += 1;
        let found = service::resolve(packet.dst, packet.dst_port, packet.proto, &client);
        let chosen = found.chosen;
        match found.kind {
            Kind::NotAService => return Ok(None),
            Kind::Refused => {
                counter::service_connection(chosen.service, 0);
                return Err(DropReason::NoBackend);
            }
            Kind::NoLocal => return Err(DropReason::NoLocalBackend),
            Kind::Denied => return Err(DropReason::SourceRange),
            Kind::Backend => {}
        }
        if packet.fragment {
            return Err(DropReason::FragmentUnknown);
        }
        if chosen.addr.is_v4() != packet.dst.is_v4() {
            return Err(DropReason::NoBackend);
        }
        // Backends on other nodes need the source translated too, so that the
        // reply comes back through here.
        if pod::local(chosen.addr).is_none() && !is_node_addr(chosen.addr) {
            return Err(DropReason::NoRoute);
        }
        let back_src_hi;
        (*back, back_src_hi) = flow::key(packet.src, packet.src_port, chosen.addr, chosen.port, packet.proto);
        let nat_port = packet.dst_port.to_ne_bytes();
        if let Some(other) = flow::find(back) {
            let same = other.flags & FlowFlags::REVERSE != 0
                && Ip::from_bytes(&other.nat.addr) == packet.dst
                && other.nat.port == nat_port;
            if !same && !is_over(other, packet.proto) {
                continue;
            }
        }
        let Chosen { service, backend, .. } = chosen;
        *flow = flow::plain(service, backend, FlowFlags::REVERSE | flow::initiator_bit(back_src_hi), packet.seq);
        flow.nat = End { addr: packet.dst.bytes(), port: nat_port, pad: [0; 2] };
        counter::expect(FLOWS.insert(&back.0, &*flow, u64::from(BPF_ANY)), Fault::FlowInsert);
        flow.flags = FlowFlags::DNAT | flow::initiator_bit(src_hi);
        flow.nat = End { addr: chosen.addr.bytes(), port: chosen.port.to_ne_bytes(), pad: [0; 2] };
        counter::expect(FLOWS.insert(&key.0, &*flow, u64::from(BPF_ANY)), Fault::FlowInsert);
        counter::service_connection(service, backend);
        return Ok(Some(chosen));
    }
    Err(DropReason::NatCollision)
}

#[inline(always)]
fn leave(ctx: &TcContext, packet: &Packet, len: u32) -> Result<(), DropReason> {
    if !packet.has_ports {
        return Ok(());
    }
    let (key, src_hi) = key_of(packet);
    let Some(flow) = flow::find(&key) else { return Ok(()) };
    if flow.flags & FlowFlags::REVERSE == 0 || from_initiator(flow, src_hi) {
        return Ok(());
    }
    flow::touch(flow, packet, src_hi);
    let (addr, port) = (Ip::from_bytes(&flow.nat.addr), u16::from_ne_bytes(flow.nat.port));
    let (number, backend) = (flow.service, flow.backend);
    let mut packet = *packet;
    nat::rewrite(ctx, &mut packet, Side::Source, addr, port)?;
    counter::service_packet(number, backend, len, false);
    Ok(())
}
