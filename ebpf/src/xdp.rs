//! XDP on uplinks: packets of flows whose backend is on another node are sent on
//! before the stack has made anything of them.
//!
//! Only what is known goes by here. The first packet of a flow, fragments, IPv4
//! options, IPv6 extension headers, packets that do not fit the way or whose next
//! hop is not known yet, and all that is for this node, pass to `uplink_in`, which
//! treats every packet. What is sent from here never meets `uplink_out`.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_action::XDP_PASS, xdp_action::XDP_TX};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_xdp_load_bytes, bpf_xdp_store_bytes};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use orlop_ebpf_abi::{Flow, FlowFlags};

use crate::checksum;
use crate::counter::{self, Device};
use crate::flow;
use crate::forward;
use crate::packet::{ETH_HEADER_LEN, ETH_P_IP, ETH_P_IPV6, Ip, Packet, TCP, TCP_SYN, UDP};
use crate::pair;

const V4_LEN: u32 = 20;
const V6_LEN: u32 = 40;

/// A packet and what of its headers is written again.
struct Frame {
    packet: Packet,
    /// IPv4: time to live, protocol, header checksum; IPv6: payload length, next header, hop limit. As it stands.
    hop_word: u32,
    /// Transport checksum, as it stands.
    checksum: u16,
    /// Bytes of the IP packet.
    ip_len: u16,
}

/// From outside, before the stack.
#[xdp]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    send_on(&ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn load<const WORDS: usize>(ctx: &XdpContext, offset: u32) -> Option<[u32; WORDS]> {
    let mut words = [0_u32; WORDS];
    // SAFETY: the helper writes as many bytes as there are or fails.
    let err = unsafe { bpf_xdp_load_bytes(ctx.ctx, offset, words.as_mut_ptr().cast(), 4 * WORDS as u32) };
    (err == 0).then_some(words)
}

#[inline(always)]
fn store<const WORDS: usize>(ctx: &XdpContext, offset: u32, words: &[u32; WORDS]) -> bool {
    // SAFETY: the bytes of a local value; the kernel bounds the offset.
    unsafe { bpf_xdp_store_bytes(ctx.ctx, offset, words.as_ptr().cast_mut().cast(), 4 * WORDS as u32) == 0 }
}

/// The verdict on a packet that is another node's, or nothing.
#[inline(always)]
fn send_on(ctx: &XdpContext) -> Option<u32> {
    // The frame's type, and the network header's first two bytes.
    let [kind] = load::<1>(ctx, ETH_HEADER_LEN - 2)?;
    let frame = match kind as u16 {
        ETH_P_IP => read_v4(ctx)?,
        ETH_P_IPV6 => read_v6(ctx)?,
        _ => return None,
    };
    let packet = &frame.packet;
    let (key, src_hi) = flow::key(packet.src, packet.src_port, packet.dst, packet.dst_port, packet.proto);
    let flow = flow::find(&key)?;
    let from_initiator = (flow.flags & FlowFlags::INITIATOR_HI != 0) == src_hi;
    let (src, dst) = ends(flow, packet, from_initiator)?;
    let target = if flow.flags & FlowFlags::DSR != 0 { Ip::from_bytes(&flow.nat.addr) } else { dst.0 };
    // What changes the flow's state, and one packet a second, is for `uplink_in`, which tells the flow's other entry.
    if !pair::is_noted(flow, packet, src_hi) {
        return None;
    }
    let macs = route(ctx, &frame, src.0, target)?;
    let (service, backend) = (flow.service, flow.backend);
    if !(rewrite_network(ctx, &frame, src.0, dst.0) && rewrite_transport(ctx, &frame, src, dst) && store(ctx, 0, &macs))
    {
        return None;
    }
    // SAFETY: the context is the kernel's own.
    let (ifindex, len) = unsafe { ((*ctx.ctx).ingress_ifindex, (*ctx.ctx).data_end - (*ctx.ctx).data) };
    if let Some(device) = Device::of(ifindex) {
        counter::add(device.from(), len);
        counter::add(device.to(), len);
    }
    counter::service_packet(service, backend, len, from_initiator);
    Some(XDP_TX)
}

/// The ends that the packet gets, when its flow leads from the link to the link.
#[inline(always)]
fn ends(flow: &Flow, packet: &Packet, from_initiator: bool) -> Option<((Ip, u16), (Ip, u16))> {
    const BOTH: u32 = FlowFlags::DNAT | FlowFlags::SNAT;
    if flow::now_s().wrapping_sub(flow.seen_s) > flow.timeout_s(packet.proto) {
        return None;
    }
    let end = |end: &orlop_ebpf_abi::End| (Ip::from_bytes(&end.addr), u16::from_ne_bytes(end.port));
    let (nat, snat) = (end(&flow.nat), end(&flow.snat));
    let flags = flow.flags;
    if flags & FlowFlags::DSR != 0 {
        let same = ((packet.src, packet.src_port), (packet.dst, packet.dst_port));
        return from_initiator.then_some(same);
    }
    if flags & FlowFlags::REVERSE != 0 {
        // A masqueraded flow's reverse entry has no service to show.
        return (flags & FlowFlags::SNAT != 0 && flow.service != 0 && !from_initiator).then_some((nat, snat));
    }
    (flags & BOTH == BOTH && from_initiator).then_some((snat, nat))
}

/// The frame's new hardware addresses, when the way leads back out of the link.
#[inline(always)]
fn route(ctx: &XdpContext, frame: &Frame, src: Ip, dst: Ip) -> Option<[u32; 3]> {
    // SAFETY: all of it is numbers.
    let mut fib: FibLookup = unsafe { core::mem::zeroed() };
    // SAFETY: the context is the kernel's own.
    let ifindex = unsafe { (*ctx.ctx).ingress_ifindex };
    fib.ifindex = ifindex;
    fib.l4_protocol = frame.packet.proto;
    fib.__bindgen_anon_1.tot_len = frame.ip_len;
    forward::ask(&mut fib, src, dst);
    // SAFETY: the size is the structure's.
    let found = unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut fib, size_of::<FibLookup>() as i32, 0) };
    if found != 0 || fib.ifindex != ifindex {
        return None;
    }
    let [to, from] = [fib.dmac, fib.smac];
    let half = |a: u8, b: u8| u32::from(u16::from_ne_bytes([a, b]));
    Some([
        half(to[0], to[1]) | half(to[2], to[3]) << 16,
        half(to[4], to[5]) | half(from[0], from[1]) << 16,
        half(from[2], from[3]) | half(from[4], from[5]) << 16,
    ])
}

#[inline(always)]
fn read_v4(ctx: &XdpContext) -> Option<Frame> {
    let [first, fragment, hop_word, src, dst] = load::<5>(ctx, ETH_HEADER_LEN)?;
    let [version, _, len_hi, len_lo] = first.to_ne_bytes();
    let [_, _, fragment_hi, fragment_lo] = fragment.to_ne_bytes();
    let [ttl, proto, _, _] = hop_word.to_ne_bytes();
    let fragmented = u16::from_be_bytes([fragment_hi, fragment_lo]) & 0x3fff != 0;
    if version != 0x45 || fragmented || ttl <= 1 {
        return None;
    }
    let packet = transport(ctx, proto, ETH_HEADER_LEN + V4_LEN, Ip::v4(src), Ip::v4(dst))?;
    Some(Frame { packet: packet.0, hop_word, checksum: packet.1, ip_len: u16::from_be_bytes([len_hi, len_lo]) })
}

#[inline(always)]
fn read_v6(ctx: &XdpContext) -> Option<Frame> {
    let words = load::<10>(ctx, ETH_HEADER_LEN)?;
    let [len_hi, len_lo, proto, hops] = words[1].to_ne_bytes();
    if hops <= 1 {
        return None;
    }
    let (src, dst) =
        (Ip::v6([words[2], words[3], words[4], words[5]]), Ip::v6([words[6], words[7], words[8], words[9]]));
    let packet = transport(ctx, proto, ETH_HEADER_LEN + V6_LEN, src, dst)?;
    let ip_len = u16::from_be_bytes([len_hi, len_lo]).wrapping_add(V6_LEN as u16);
    Some(Frame { packet: packet.0, hop_word: words[1], checksum: packet.1, ip_len })
}

/// The packet with its ports, and its checksum. A TCP packet that opens a connection is not for here.
#[inline(always)]
fn transport(ctx: &XdpContext, proto: u8, l4: u32, src: Ip, dst: Ip) -> Option<(Packet, u16)> {
    let (ports, checksum, tcp_flags) = match proto {
        TCP => {
            let words = load::<5>(ctx, l4)?;
            let flags = words[3].to_ne_bytes()[1];
            if flags & TCP_SYN != 0 {
                return None;
            }
            (words[0], words[4] as u16, flags)
        }
        UDP => {
            let words = load::<2>(ctx, l4)?;
            (words[0], (words[1] >> 16) as u16, 0)
        }
        _ => return None,
    };
    let packet = Packet {
        src,
        dst,
        src_port: ports as u16,
        dst_port: (ports >> 16) as u16,
        proto,
        tcp_flags,
        has_ports: true,
        is_echo: false,
        fragment: false,
        icmp_error: false,
        seq: 0,
        l3: ETH_HEADER_LEN,
        l4,
    };
    Some((packet, checksum))
}

/// New addresses, and one hop less.
#[inline(always)]
fn rewrite_network(ctx: &XdpContext, frame: &Frame, src: Ip, dst: Ip) -> bool {
    let packet = &frame.packet;
    let mut hop = frame.hop_word.to_ne_bytes();
    if !packet.dst.is_v4() {
        hop[3] -= 1;
        let ([a, b, c, d], [e, f, g, h]) = (src.words(), dst.words());
        return store(ctx, ETH_HEADER_LEN + 4, &[u32::from_ne_bytes(hop), a, b, c, d, e, f, g, h]);
    }
    let old = u16::from_ne_bytes([hop[0], hop[1]]);
    hop[0] -= 1;
    let change = checksum::half_change(old, u16::from_ne_bytes([hop[0], hop[1]]))
        + checksum::address_change(packet.src, src)
        + checksum::address_change(packet.dst, dst);
    let sum = checksum::changed(u16::from_ne_bytes([hop[2], hop[3]]), change).to_ne_bytes();
    let hop = u32::from_ne_bytes([hop[0], hop[1], sum[0], sum[1]]);
    store(ctx, ETH_HEADER_LEN + 8, &[hop, src.raw_v4(), dst.raw_v4()])
}

/// New ports. A UDP checksum of 0 means none and stays; one that becomes 0 is written as all ones (RFC 768).
#[inline(always)]
fn rewrite_transport(ctx: &XdpContext, frame: &Frame, src: (Ip, u16), dst: (Ip, u16)) -> bool {
    let packet = &frame.packet;
    let change = checksum::address_change(packet.src, src.0)
        + checksum::address_change(packet.dst, dst.0)
        + checksum::half_change(packet.src_port, src.1)
        + checksum::half_change(packet.dst_port, dst.1);
    let udp = packet.proto == UDP;
    let mut sum = checksum::changed(frame.checksum, change);
    if udp && frame.checksum == 0 {
        sum = 0;
    } else if udp && sum == 0 {
        sum = 0xffff;
    }
    let at = packet.l4 + if udp { 6 } else { 16 };
    // SAFETY: two bytes of a local value; the kernel bounds the offset.
    let summed = unsafe { bpf_xdp_store_bytes(ctx.ctx, at, (&raw mut sum).cast(), 2) == 0 };
    summed && store(ctx, packet.l4, &[u32::from(src.1) | u32::from(dst.1) << 16])
}
