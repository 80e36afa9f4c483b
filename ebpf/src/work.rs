//! Room for what a packet's program works on, beside its stack of 512 bytes.
//!
//! The steps of a packet's way (`packet_…`) are functions that the object exports:
//! the verifier walks such a function once, not once for each way that leads to it.
//! What they share is in [`Known`].

use core::ops::{Deref, DerefMut};

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, bpf_fib_lookup};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{DropReason, Flow};

use crate::counter::Device;
use crate::fragment;
use crate::packet::{self, ETH_HEADER_LEN, ETH_P_IP, Ends, ICMP, ICMPV6, Packet};

/// The hook at which a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hook;

impl Hook {
    /// It comes from a local pod.
    pub const FROM_POD: u32 = 0;
    /// It comes from outside.
    pub const UPLINK_IN: u32 = 1;
    /// It leaves the node, and is a local process's or was routed by the stack.
    pub const UPLINK_OUT: u32 = 2;
}

/// What is known of the packet at hand so far.
#[repr(C)]
pub struct Known {
    pub packet: Packet,
    /// What the packet becomes.
    pub to: Ends,
    /// Of an ICMP error: what the packet that it quotes was at its sender.
    pub quoted: Ends,
    /// [`Hook`].
    pub hook: u32,
    pub service: u32,
    pub backend: u32,
    /// The frontend's flags.
    pub flags: u32,
    /// Where it goes: device, next hop and size, once [`crate::forward::route`] has asked.
    pub fib: bpf_fib_lookup,
    /// An entry to be written.
    pub flow: Flow,
}

#[map]
static WORK: PerCpuArray<Known> = PerCpuArray::with_max_entries(1, 0);

/// What is known of the packet at hand, by its place: each step finds it again, and
/// none may believe that it alone changes it. One a CPU: programs of packets do not
/// interrupt each other.
#[derive(Clone, Copy)]
pub struct Work(*mut Known);

impl Deref for Work {
    type Target = Known;

    #[inline(always)]
    fn deref(&self) -> &Known {
        // SAFETY: an element of a map stays, and only this CPU's program is at it.
        unsafe { &*self.0 }
    }
}

impl DerefMut for Work {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Known {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.0 }
    }
}

/// This CPU's.
#[inline(always)]
pub fn here() -> Option<Work> {
    WORK.get_ptr_mut(0).map(Work)
}

/// Reads the IP packet whose Ethernet header comes first. 0, or the drop reason's number.
#[inline(always)]
pub fn read(skb: *mut __sk_buff, ethertype: u16, hook: u32) -> u32 {
    let mut unread = if ethertype == ETH_P_IP { packet_read_v4(skb) } else { packet_read_v6(skb) };
    if unread == 0 {
        unread = packet_read_transport(skb);
    }
    let Some(mut work) = here() else { return DropReason::Malformed as u32 };
    work.hook = hook;
    if unread == 0 && work.packet.fragment {
        packet_fragment(skb);
    }
    unread
}

/// After [`read`]: the first fragment of a datagram tells the others' ports. A later
/// one then has them without a header, which `l4` says.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_fragment(skb: *mut __sk_buff) -> u32 {
    let Some(mut work) = here() else { return 0 };
    let ctx = TcContext::new(skb);
    let packet = &mut work.packet;
    if packet.is_of_a_flow() {
        fragment::learn(&ctx, packet);
    } else if packet.l4 == 0
        && let Some((src, dst)) = fragment::ports_of(&ctx, packet)
    {
        (packet.src_port, packet.dst_port) = (src, dst);
        let is_icmp = packet.proto == ICMP || packet.proto == ICMPV6;
        (packet.is_echo, packet.has_ports) = (is_icmp, !is_icmp);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_read_v4(skb: *mut __sk_buff) -> u32 {
    let Some(mut work) = here() else { return DropReason::Malformed as u32 };
    match packet::parse_v4(&TcContext::new(skb), ETH_HEADER_LEN) {
        Ok(packet) => {
            work.packet = packet;
            0
        }
        Err(reason) => reason as u32,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_read_v6(skb: *mut __sk_buff) -> u32 {
    let Some(mut work) = here() else { return DropReason::Malformed as u32 };
    match packet::parse_v6(&TcContext::new(skb), ETH_HEADER_LEN) {
        Ok(packet) => {
            work.packet = packet;
            0
        }
        Err(reason) => reason as u32,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_read_transport(skb: *mut __sk_buff) -> u32 {
    let Some(mut work) = here() else { return DropReason::Malformed as u32 };
    match packet::parse_transport(&TcContext::new(skb), &mut work.packet) {
        Ok(()) => 0,
        Err(reason) => reason as u32,
    }
}

/// Counts a drop for the device that the packet is on.
#[inline(never)]
pub fn drop(skb: *mut __sk_buff, hook: u32, reason: u32) -> i32 {
    // SAFETY: the kernel's context.
    if let Some(device) = Device::of(unsafe { (*skb).ifindex }) {
        if hook == Hook::UPLINK_OUT { device.drop_to(reason) } else { device.drop_from(reason) }
    }
    TC_ACT_SHOT
}

impl Work {
    /// Drops the packet for a reason. The verdict.
    #[inline(always)]
    pub fn drop(self, skb: *mut __sk_buff, reason: DropReason) -> i32 {
        drop(skb, self.hook, reason as u32)
    }
}
