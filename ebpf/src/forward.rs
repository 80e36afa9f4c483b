//! Sending a packet on to another node or back to a client, past the host's stack,
//! to which a packet with an address of the node as its source is a forgery.

use aya_ebpf::bindings::{
    __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_SKIP_NEIGH,
    bpf_fib_lookup as FibLookup, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_l3_csum_replace, bpf_redirect_neigh, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use orlop_ebpf_abi::{Device as Uplink, DropReason};

use crate::maps::DEVICES;
use crate::onward;
use crate::packet::{self, ETH_HEADER_LEN, Ip, TCP};
use crate::pod::SHOT;
use crate::reply;
use crate::work::{self, Hook, Work};

const INET: u8 = 2;
const INET6: u8 = 10;
const V4_TTL: u32 = 8;
const V4_CHECKSUM: u32 = 10;
const V6_HOP_LIMIT: u32 = 7;

/// A device by which packets leave the node.
#[inline(always)]
pub fn uplink(ifindex: u32) -> Option<&'static Uplink> {
    // SAFETY: user space replaces the value whole.
    unsafe { DEVICES.get(&ifindex) }
}

/// Puts both ends into the question.
#[inline(always)]
pub fn ask(fib: &mut FibLookup, src: Ip, dst: Ip) {
    if dst.is_v4() {
        fib.family = INET;
        fib.__bindgen_anon_3.ipv4_src = src.raw_v4();
        fib.__bindgen_anon_4.ipv4_dst = dst.raw_v4();
    } else {
        fib.family = INET6;
        fib.__bindgen_anon_3.ipv6_src = src.words();
        fib.__bindgen_anon_4.ipv6_dst = dst.words();
    }
}

/// Asks the kernel by which device and next hop an address is reached. 0, or the
/// drop reason's number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_route(skb: *mut __sk_buff, dst_hi: u64, dst_lo: u64) -> u32 {
    let Some(mut work) = work::here() else { return DropReason::NoRoute as u32 };
    let (src, dst) = (work.packet.src, Ip(dst_hi, dst_lo));
    let fib = &mut work.fib;
    // SAFETY: a struct of numbers; zeroes are values of all of them.
    *fib = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel's context.
    fib.ifindex = unsafe { (*skb).ifindex };
    ask(fib, src, dst);
    // SAFETY: the struct and its size.
    let found = unsafe { bpf_fib_lookup(skb.cast(), fib, size_of_val(fib) as i32, BPF_FIB_LOOKUP_SKIP_NEIGH) };
    // "Fragmentation needed" is the kernel's word on this packet; the caller looks itself.
    let routed = found == i64::from(BPF_FIB_LKUP_RET_SUCCESS) || found == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED);
    if routed { 0 } else { DropReason::NoRoute as u32 }
}

/// The largest IP packet that the packet will be on the wire: an aggregate of several
/// is cut into its segments again.
#[inline(always)]
fn wire_len(skb: *mut __sk_buff, work: Work) -> u32 {
    // SAFETY: the kernel's context.
    let (len, segment) = unsafe { ((*skb).len, (*skb).gso_size) };
    if segment == 0 {
        return len.wrapping_sub(ETH_HEADER_LEN);
    }
    let transport = if work.packet.proto == TCP {
        let words = packet::load::<_, 1>(&TcContext::new(skb), work.packet.l4 + 12);
        words.map_or(0, |field| u32::from(field.0[0] >> 4) * 4)
    } else {
        8
    };
    segment + work.packet.l4.wrapping_sub(work.packet.l3) + transport
}

/// Sends the packet by the route that was found, with `work.to` as its ends. The verdict.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_send(skb: *mut __sk_buff) -> i32 {
    let Some(work) = work::here() else { return SHOT };
    // SAFETY: the union's other member has the same type.
    let mtu = u32::from(unsafe { work.fib.__bindgen_anon_1.mtu_result });
    if mtu != 0 && wire_len(skb, work) > mtu {
        let told = work.drop(skb, DropReason::TooBig);
        // A process here has no wire on which it could be told.
        return if work.hook == Hook::UPLINK_OUT { told } else { packet_too_big(skb, mtu) };
    }
    if work.hook != Hook::UPLINK_OUT && !hop(skb, work) {
        return work.drop(skb, DropReason::NoRoute);
    }
    let reason = onward::packet_rewrite(skb);
    if reason != 0 {
        return work::drop(skb, work.hook, reason);
    }
    // The next hop's address stands where the destination's stood: an IPv4 route may
    // have an IPv6 one.
    // SAFETY: four words, all written.
    let words = unsafe { work.fib.__bindgen_anon_4.ipv6_dst };
    let mut next = bpf_redir_neigh {
        nh_family: u32::from(work.fib.family),
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: words },
    };
    // SAFETY: the struct and its size.
    unsafe { bpf_redirect_neigh(work.fib.ifindex, &raw mut next, size_of_val(&next) as i32, 0) as i32 }
}

/// Tells the packet's sender how large a packet may be. The verdict.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_too_big(skb: *mut __sk_buff, mtu: u32) -> i32 {
    let Some(work) = work::here() else { return SHOT };
    reply::too_big(&TcContext::new(skb), &work.packet, mtu)
}

/// One hop further; false: it was its last. This ends packets that two nodes hand
/// each other while their tables differ.
#[inline(always)]
fn hop(skb: *mut __sk_buff, work: Work) -> bool {
    let ctx = TcContext::new(skb);
    let at = work.packet.l3 + if work.packet.src.is_v4() { V4_TTL } else { V6_HOP_LIMIT };
    let Ok(field) = packet::load::<_, 2>(&ctx, at) else { return false };
    let [ttl, proto] = field.0;
    if ttl <= 1 {
        return false;
    }
    let less = ttl - 1;
    // SAFETY: a byte of a local value; the kernel bounds the offsets.
    unsafe {
        let summed = !work.packet.src.is_v4() || {
            let (old, new) = (u16::from_ne_bytes([ttl, proto]), u16::from_ne_bytes([less, proto]));
            bpf_l3_csum_replace(skb, work.packet.l3 + V4_CHECKSUM, u64::from(old), u64::from(new), 2) == 0
        };
        summed && bpf_skb_store_bytes(skb, at, (&raw const less).cast(), 1, 0) == 0
    }
}
