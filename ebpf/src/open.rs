//! New flows to services, met by a packet program: clients outside, and packets of
//! clients inside that no socket hook translated.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{DropReason, FlowFlags, FrontendFlags, NodeAddrFlags, SettingsFlags};

use crate::counter::{self, Device};
use crate::maps::{CLUSTER_IPS, NODE_ADDRS};
use crate::onward::{GO, TO_PEER};
use crate::packet::Ip;
use crate::pair::{self, CLAIMED, TAKEN};
use crate::pod::{self, NEXT, SHOT};
use crate::service::{self, Client, Kind, Resolved};
use crate::work::{self, Hook, Work};
use crate::{dsr, forward, masquerade, onward, reply, snat};

/// How many backends are tried for a client whose ports are in use by another flow.
const COLLISIONS_MAX: u32 = 4;

/// [`NodeAddrFlags`] of an address.
#[inline(always)]
pub fn node_addr(addr: Ip) -> u32 {
    packet_node_addr(addr.0, addr.1)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_node_addr(addr_hi: u64, addr_lo: u64) -> u32 {
    // SAFETY: a copy of four bytes.
    unsafe { NODE_ADDRS.get(Ip(addr_hi, addr_lo).bytes()) }.copied().unwrap_or(0)
}

#[inline(always)]
pub fn is_own(addr: Ip) -> bool {
    node_addr(addr) & NodeAddrFlags::OWN != 0
}

/// An address that is a service's alone: on a port that the service does not have nobody
/// else answers either, and the packet must not go looking for one outside.
#[inline(always)]
fn is_cluster_ip(addr: Ip) -> bool {
    // SAFETY: only its presence is looked at.
    unsafe { CLUSTER_IPS.get(addr.bytes()) }.is_some()
}

/// Not a flag of a frontend: there is one.
pub const IS_SERVICE: u32 = 1 << 31;
/// Not a flag of a frontend: other nodes do not choose backends by the table that is
/// used here, and some backend is on this node.
pub const CHOICE_DIFFERS: u32 = 1 << 30;

/// What the packet's destination is: 0, or the frontend's flags with [`IS_SERVICE`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_service() -> u32 {
    let Some(work) = work::here() else { return 0 };
    let packet = &work.packet;
    let Some(frontend) = service::frontend(packet.dst, packet.dst_port, packet.proto) else {
        return if is_cluster_ip(packet.dst) { IS_SERVICE } else { 0 };
    };
    let differs = frontend.maglev == 0 && frontend.local != 0;
    frontend.flags | IS_SERVICE | if differs { CHOICE_DIFFERS } else { 0 }
}

#[inline(always)]
fn client(work: Work) -> Client {
    let inside = work.hook != Hook::UPLINK_IN;
    Client { inside, addr: work.packet.src, port: work.packet.src_port, host: false }
}

#[inline(always)]
fn chose(mut work: Work, found: &Resolved) -> u32 {
    let chosen = &found.chosen;
    (work.service, work.backend, work.flags) = (chosen.service, chosen.backend, found.flags);
    work.to = work.packet.ends();
    (work.to.dst, work.to.dst_port) = (chosen.addr, chosen.port);
    found.kind as u32
}

/// Chooses a backend for the packet's destination and puts it into `to`. [`Kind`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_choose() -> u32 {
    let Some(work) = work::here() else { return Kind::NotAService as u32 };
    let packet = &work.packet;
    let found = service::resolve(packet.dst, packet.dst_port, packet.proto, &client(work));
    chose(work, &found)
}

/// [`packet_choose`] among this node's backends, for what another node forwarded.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_choose_here() -> u32 {
    let Some(work) = work::here() else { return Kind::NotAService as u32 };
    let packet = &work.packet;
    let found = service::choose_local(packet.dst, packet.dst_port, packet.proto, &client(work));
    chose(work, &found)
}

/// Opens the flow of the packet, if its destination is a service. The verdict;
/// [`NEXT`]: it is none; [`GO`], [`TO_PEER`]: what remains to be done.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_open(skb: *mut __sk_buff) -> i32 {
    let Some(work) = work::here() else { return SHOT };
    let mut tries = 0;
    while tries < COLLISIONS_MAX {
        tries += 1;
        let mut kind = packet_choose();
        if work.hook == Hook::UPLINK_IN && dsr::is_for_here(work, kind) {
            kind = packet_choose_here();
        }
        if kind == Kind::NotAService as u32 {
            let unused = is_cluster_ip(work.packet.dst);
            return if unused { packet_refuse(skb, DropReason::NoBackend as u32) } else { NEXT };
        }
        if kind != Kind::Backend as u32 || work.to.dst.is_v4() != work.packet.dst.is_v4() {
            return refuse(skb, work, kind);
        }
        match enter(skb, work) {
            TAKEN => {}
            CLAIMED => return opened(skb, work),
            reason => return work::drop(skb, work.hook, reason >> 8),
        }
    }
    work.drop(skb, DropReason::NatCollision)
}

/// The flow is in the table: counts it.
#[inline(always)]
fn opened(skb: *mut __sk_buff, work: Work) -> i32 {
    counter::service_connection(work.service, work.backend);
    // SAFETY: the kernel's context.
    let (len, ifindex) = unsafe { ((*skb).len, (*skb).ifindex) };
    counter::service_packet(work.service, work.backend, len, true);
    if work.hook == Hook::FROM_POD
        && let Some(device) = Device::of(ifindex)
    {
        device.from().connections += 1;
    }
    if work.flow.flags & FlowFlags::DSR != 0 { TO_PEER } else { GO }
}

#[inline(always)]
fn refuse(skb: *mut __sk_buff, work: Work, kind: u32) -> i32 {
    if kind == Kind::NoLocal as u32 {
        return work.drop(skb, DropReason::NoLocalBackend);
    }
    if kind == Kind::Denied as u32 {
        return work.drop(skb, DropReason::SourceRange);
    }
    counter::service_connection(work.service, 0);
    packet_refuse(skb, DropReason::NoBackend as u32)
}

/// Drops the packet for a reason, and its sender is told at once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_refuse(skb: *mut __sk_buff, reason: u32) -> i32 {
    let Some(work) = work::here() else { return SHOT };
    work::drop(skb, work.hook, reason);
    let verdict = reply::refuse(&TcContext::new(skb), &work.packet);
    if work.hook == Hook::UPLINK_OUT { onward::inwards(skb, verdict) } else { verdict }
}

/// Enters both entries: 0, [`TAKEN`], or a drop reason's number times 256.
#[inline(always)]
fn enter(skb: *mut __sk_buff, work: Work) -> u32 {
    let (client, backend) = (work.packet.src, work.to.dst);
    let mut bits = FlowFlags::DNAT;
    let hairpin = client == backend;
    let here = pod::local(backend).is_some() || is_own(backend);
    let rewritten = if here {
        hairpin
    } else if work.hook == Hook::UPLINK_IN {
        if work.flags & FrontendFlags::DSR != 0 {
            return dsr::enter(work);
        }
        true
    } else {
        let masquerades = snat::settings().flags & SettingsFlags::MASQUERADE != 0;
        work.hook == Hook::FROM_POD && masquerades && masquerade::wanted(backend)
    };
    if rewritten {
        bits |= FlowFlags::SNAT;
        // A pod that gets its own packet is shown an address of the node as the sender,
        // the one of the way to the service.
        let towards = if hairpin { work.packet.dst } else { backend };
        let mut reason = forward::packet_route(skb, towards.0, towards.1);
        if reason == 0 {
            reason = snat::packet_take_port(work.fib.ifindex, FlowFlags::DNAT);
        }
        if reason != 0 {
            return reason << 8;
        }
    } else {
        match pair::packet_claim(bits) {
            CLAIMED => {}
            TAKEN => return TAKEN,
            _ => return (DropReason::NatFailed as u32) << 8,
        }
    }
    if work.hook == Hook::FROM_POD {
        bits |= FlowFlags::COUNTED_FROM;
    }
    pair::packet_enter(bits);
    CLAIMED
}

/// A packet of a connection whose flow is not known. To an address that is a
/// service's and not the node's the stack would route it back where it came from.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_stray(skb: *mut __sk_buff) -> i32 {
    let Some(work) = work::here() else { return SHOT };
    let flags = packet_service();
    if flags == 0 {
        return NEXT;
    }
    let joins = flags & FrontendFlags::DSR != 0 && packet_choose() == Kind::Backend as u32 && dsr::may_join(work);
    if joins {
        dsr::enter(work);
        return TO_PEER;
    }
    if is_own(work.packet.dst) { NEXT } else { packet_refuse(skb, DropReason::NatFailed as u32) }
}
