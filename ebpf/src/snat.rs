//! A source address of the node and a port that no other flow to the same
//! destination has.

use orlop_ebpf_abi::{DropReason, Fault, FlowFlags, Settings};

use crate::counter;
use crate::forward;
use crate::maps::SETTINGS;
use crate::packet::Ip;
use crate::pair::{self, CLAIMED, TAKEN};
use crate::work::{self, Work};

/// How many ports are tried. When nine in ten of a destination's ports are in use,
/// one new flow in thirty finds none.
const PORTS_TRIED_MAX: u32 = 32;

/// The node's settings.
#[inline(always)]
pub fn settings() -> Settings {
    SETTINGS.get(0).copied().unwrap_or(Settings { flags: 0, snat_port_first: 0, snat_ports: 0 })
}

/// The address that translated packets get on a device, of the family of `like`.
#[inline(always)]
pub fn address(ifindex: u32, like: Ip) -> Option<Ip> {
    let device = forward::uplink(ifindex)?;
    let addr = Ip::from_bytes(if like.is_v4() { &device.snat_v4 } else { &device.snat_v6 });
    (!addr.is_zero() && addr.is_v4() == like.is_v4()).then_some(addr)
}

/// Where the search begins: the same client asking again finds its old port.
#[inline(always)]
fn start(work: Work) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let ends = u64::from(work.packet.src_port) << 16 | u64::from(work.to.dst_port);
    let hash = (work.packet.src.1 ^ work.packet.src.0.rotate_left(23)).wrapping_mul(ODD);
    let hash = (hash ^ work.to.dst.1 ^ work.to.dst.0.rotate_left(29) ^ ends).wrapping_mul(ODD);
    hash ^ hash >> 32
}

/// The part of the range for flows to services' backends, and the one for all others. A
/// masqueraded flow may go to a NodePort of another node, and lead from there to the very backend that
/// a flow from here is sent to: with one port they would look the same there.
#[inline(always)]
fn half(first: u32, count: u32, bits: u32) -> (u32, u32) {
    let half = count / 2;
    if half == 0 {
        return (first, count);
    }
    if bits & FlowFlags::DNAT != 0 { (first + half, count - half) } else { (first, half) }
}

/// Gives `work.to` a source on this device and claims it. 0, or the drop reason's number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_take_port(ifindex: u32, bits: u32) -> u32 {
    let Some(mut work) = work::here() else { return DropReason::NatFailed as u32 };
    let Some(addr) = address(ifindex, work.packet.src) else { return DropReason::NoRoute as u32 };
    let Settings { snat_port_first, snat_ports, .. } = settings();
    let (first, count) = half(u32::from(snat_port_first), u32::from(snat_ports), bits);
    if count != 0 {
        let start = start(work);
        let step = if count <= PORTS_TRIED_MAX { 1 } else { (start >> 32) as u32 | 1 };
        let mut at = start as u32 % count;
        work.to.src = addr;
        let mut tried = 0;
        while tried < PORTS_TRIED_MAX {
            tried += 1;
            work.to.src_port = ((first + at) as u16).to_be();
            match pair::packet_claim(bits | FlowFlags::SNAT) {
                CLAIMED => return 0,
                TAKEN => at = at.wrapping_add(step) % count,
                _ => return DropReason::NatFailed as u32,
            }
        }
    }
    counter::fault(Fault::SnatPorts);
    DropReason::SnatPortsExhausted as u32
}
