//! Answers those who ask on an uplink for the hardware address of a local pod:
//! ARP (RFC 826) and neighbour discovery (RFC 4861). The kernel would do so only
//! with an entry of its proxy tables for each address.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::generated::{bpf_skb_change_tail, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;

use crate::checksum;
use crate::maps::PODS;
use crate::packet::{self, ETH_HEADER_LEN, ICMPV6, Ip, Packet};
use crate::reply::{self, Mac};

/// `PACKET_OTHERHOST`: a frame for somebody else, met in promiscuous mode.
const OTHER_HOST: u32 = 3;
/// Ethernet, IPv4, lengths 6 and 4.
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u32 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u32 = 136;
/// Nobody outside the link can send it (RFC 4861 7.1.1).
const HOP_LIMIT: u8 = 255;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;
/// Target link-layer address (2), one unit of eight bytes, as it stands in memory.
const OPTION: u32 = 0x0102;
const ADVERTISEMENT_LEN: u32 = 32;

/// Answers an ARP request for a local pod's address with `mac`. `None`: nothing to
/// answer (also a probe, from 0.0.0.0, or an announcement, for the sender's own
/// address), the packet goes its way. Else the verdict.
#[inline(always)]
pub fn answer_arp(ctx: &TcContext, mac: [u8; 6]) -> Option<i32> {
    let arp = packet::load::<_, 28>(ctx, ETH_HEADER_LEN).ok()?;
    let kind = [arp.0[0], arp.0[1], arp.0[2], arp.0[3], arp.0[4], arp.0[5]];
    if kind != ARP_KIND || arp.0[6] != 0 || arp.0[7] != ARP_REQUEST {
        return None;
    }
    let (sender, target) = (Ip::v4(packet::word(&arp, 14)), Ip::v4(packet::word(&arp, 24)));
    if sender.raw_v4() == 0 || sender == target || !is_asked_of_us(ctx, target) {
        return None;
    }
    let [m0, m1] = reply::mac(mac);
    let (s0, s1) = (packet::word(&arp, 8), u32::from(arp.0[12]) | u32::from(arp.0[13]) << 8);
    let (from, to) = (target.raw_v4(), sender.raw_v4());
    // Operation; our address; the asked address; the asker's.
    let answer = [ARP_REPLY << 8 | m0 << 16, m0 >> 16 | m1 << 16, from, s0, s1 | to << 16, to >> 16];
    // SAFETY: 22 bytes of a local value of 24.
    let err = unsafe { bpf_skb_store_bytes(packet::skb(ctx), ETH_HEADER_LEN + 6, answer.as_ptr().cast(), 22, 0) };
    Some(reply::sent(ctx, err == 0, [s0, s1], [m0, m1]))
}

/// Answers a neighbour solicitation for a local pod's address with `mac`; from `::`,
/// by which a host asks whether the address is free, to all nodes of the link.
/// `None`: nothing to answer, the packet goes its way. Else the verdict.
#[inline(always)]
pub fn answer_solicitation(ctx: &TcContext, packet: &Packet, mac: [u8; 6]) -> Option<i32> {
    // Type 135, code 0; no extension header can stand before it.
    const LEN_MIN: u32 = 24;
    if packet.proto != ICMPV6 || packet.l4 != packet.l3 + 40 || packet.fragment {
        return None;
    }
    let header = packet::load::<_, 8>(ctx, packet.l3).ok()?;
    let told = u32::from(u16::from_be_bytes([header.0[4], header.0[5]]));
    if header.0[7] != HOP_LIMIT || told < LEN_MIN {
        return None;
    }
    let asked = packet::load::<_, 24>(ctx, packet.l4).ok()?;
    if asked.0[0] != SOLICITATION || asked.0[1] != 0 {
        return None;
    }
    let words_at = |at| packet::word(&asked, at);
    let target = Ip::v6([words_at(8), words_at(12), words_at(16), words_at(20)]);
    if packet.src == target || !is_asked_of_us(ctx, target) {
        return None;
    }
    Some(advertise(ctx, packet, target, reply::mac(mac)))
}

#[inline(always)]
fn advertise(ctx: &TcContext, packet: &Packet, target: Ip, mac: Mac) -> i32 {
    // ff02::1 and its hardware address (RFC 2464 7).
    const ALL_NODES: [u32; 4] = [0x02ff, 0, 0, 0x0100_0000];
    const ALL_NODES_MAC: Mac = [0x3333, 0x0100];
    let (to, to_mac, flags) = if packet.src.is_zero() {
        (ALL_NODES, ALL_NODES_MAC, OVERRIDE)
    } else {
        let Ok(macs) = packet::load::<_, 12>(ctx, 0) else { return TC_ACT_SHOT };
        let (low, high) = (packet::word(&macs, 4), packet::word(&macs, 8));
        (packet.src.words(), [low >> 16 | high << 16, high >> 16], SOLICITED | OVERRIDE)
    };
    let from = target.words();
    let second = (ADVERTISEMENT_LEN << 16 | u32::from(ICMPV6) << 8 | u32::from(HOP_LIMIT)).to_be();
    let option = [OPTION | mac[0] << 16, mac[0] >> 16 | mac[1] << 16];
    let (kind, flags) = ((ADVERTISEMENT << 24).to_be(), flags.to_be());
    let pseudo = u64::from(ADVERTISEMENT_LEN.to_be()) + u64::from(u32::from(ICMPV6).to_be());
    // The target is in the pseudo header, as the source, and in the body.
    let addrs = 2 * checksum::sum(&from) + checksum::sum(&to);
    let sum = checksum::fold(pseudo + addrs + checksum::sum(&[kind, flags, option[0], option[1]]));
    let kind = kind | u32::from(sum) << 16;
    // SAFETY: the kernel bounds what it is told.
    let sized = unsafe { bpf_skb_change_tail(packet::skb(ctx), packet.l4 + ADVERTISEMENT_LEN, 0) } == 0;
    // In parts, because the stack is shared with those who call.
    let ready = sized
        && reply::store(ctx, packet.l3, &[0x6000_0000_u32.to_be(), second])
        && reply::store(ctx, packet.l3 + 8, &from)
        && reply::store(ctx, packet.l3 + 24, &to)
        && reply::store(ctx, packet.l4, &[kind, flags])
        && reply::store(ctx, packet.l4 + 8, &from)
        && reply::store(ctx, packet.l4 + 24, &option);
    reply::sent(ctx, ready, to_mac, mac)
}

/// A local pod's address, in a frame that this machine may answer.
#[inline(always)]
fn is_asked_of_us(ctx: &TcContext, target: Ip) -> bool {
    let skb = packet::skb(ctx);
    // A frame of a VLAN is its device's to answer.
    // SAFETY: the context is the kernel's own; only the entry's presence is looked at.
    unsafe { (*skb).pkt_type != OTHER_HOST && (*skb).vlan_present == 0 && PODS.get(target.bytes()).is_some() }
}
