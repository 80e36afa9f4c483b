//! Packets by layers, checksums computed here from the whole packet.

use std::net::IpAddr;

use crate::frame::{checksum, octets};

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Sixteen bytes, IPv4 mapped.
pub fn mapped(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

pub fn ethernet(dst: [u8; 6], src: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&dst[..], &src, &ethertype, packet].concat()
}

/// An IPv4 header without options: "don't fragment" and identification 0, as answers have.
pub fn v4(tos: u8, proto: u8, src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
    v4_header(tos, [0, 0x4000], proto, src, dst, payload)
}

/// An IPv4 packet with an identification, and flags and offset as the header has them.
pub fn v4_fragment(id: u16, field: u16, proto: u8, src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
    v4_header(0, [id, field], proto, src, dst, payload)
}

fn v4_header(tos: u8, fragment: [u16; 2], proto: u8, src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let [id, field] = fragment.map(u16::to_be_bytes);
    let mut header = [&[0x45, tos][..], &len.to_be_bytes(), &id, &field, &[64, proto, 0, 0]].concat();
    header.extend([octets(src), octets(dst)].concat());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, payload.to_vec()].concat()
}

pub fn v6(proto: u8, hops: u8, src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &len, &[proto, hops], &octets(src), &octets(dst), payload].concat()
}

/// The checksum over the pseudo header and the payload.
pub fn transport_checksum(proto: u8, src: IpAddr, dst: IpAddr, payload: &[u8]) -> [u8; 2] {
    let len = (payload.len() as u32).to_be_bytes();
    let pseudo = [&octets(src)[..], &octets(dst), &len, &[0, 0, 0, proto]].concat();
    checksum(&[pseudo, payload.to_vec()].concat()).to_be_bytes()
}

/// An ICMP or ICMPv6 packet, IP header included.
pub fn icmp(tos: u8, hops: u8, src: IpAddr, dst: IpAddr, mut body: Vec<u8>) -> Vec<u8> {
    if src.is_ipv4() {
        let sum = checksum(&body).to_be_bytes();
        body[2..4].copy_from_slice(&sum);
        return v4(tos, 1, src, dst, &body);
    }
    let sum = transport_checksum(58, src, dst, &body);
    body[2..4].copy_from_slice(&sum);
    v6(58, hops, src, dst, &body)
}

/// The IPv4 packet with `words` words of options that say nothing.
pub fn with_options(packet: &[u8], words: usize) -> Vec<u8> {
    const NO_OPERATION: u8 = 1;
    let mut header = [&packet[..20], &vec![NO_OPERATION; 4 * words]].concat();
    header[0] += words as u8;
    let len = u16::from_be_bytes([packet[2], packet[3]]) + 4 * words as u16;
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[10..12].copy_from_slice(&[0; 2]);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, packet[20..].to_vec()].concat()
}
