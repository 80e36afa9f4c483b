//! ARP and neighbour discovery for local pods' addresses.

use crate::bench::{Arguments, NEXT, OUR_MAC, Piece, THEIR_MAC};
use crate::build::{ethernet, icmp, ip, mapped};
use crate::frame::octets;
use std::net::IpAddr;

/// What the answers name: another one than the loopback's, which the frames go to.
const MAC: [u8; 6] = [2, 0, 0, 0xa, 0xb, 0xc];
const BROADCAST: [u8; 6] = [0xff; 6];
const POD: &str = "10.1.0.2";
const POD6: &str = "fd01::2";

fn piece(name: &'static str) -> Piece {
    let mut piece = Piece::load(name);
    piece.arguments(Arguments { mac: MAC, ..Arguments::default() });
    for pod in [POD, POD6] {
        piece.pods().insert(mapped(ip(pod)), [1; 16], 0).unwrap();
    }
    piece
}

fn arp(macs: [[u8; 6]; 2], operation: u8, from: ([u8; 6], &str), to: ([u8; 6], &str)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let ends = [&from.0[..], &octets(ip(from.1)), &to.0, &octets(ip(to.1))].concat();
    [&macs.concat()[..], &[8, 6], &head, &ends].concat()
}

#[test]
fn arp_requests_for_pods_are_answered() {
    let mut piece = piece("arp");
    for to in [BROADCAST, OUR_MAC] {
        let request = arp([to, THEIR_MAC], 1, (THEIR_MAC, "192.0.2.1"), ([0; 6], POD));
        let reply = arp([THEIR_MAC, MAC], 2, (MAC, POD), (THEIR_MAC, "192.0.2.1"));
        piece.check(&request, Some(&reply));
        piece.check(&[request, vec![0; 18]].concat(), Some(&[reply, vec![0; 18]].concat()));
    }
}

#[test]
fn other_arp_goes_its_way() {
    let mut piece = piece("arp");
    let them = (THEIR_MAC, "192.0.2.1");
    let request = arp([BROADCAST, THEIR_MAC], 1, them, ([0; 6], POD));
    let mut wireless = request.clone();
    wireless[15] = 6;
    let not_ours = [
        arp([BROADCAST, THEIR_MAC], 1, them, ([0; 6], "10.1.0.3")),
        arp([OUR_MAC, THEIR_MAC], 2, them, (OUR_MAC, POD)),
        arp([BROADCAST, THEIR_MAC], 1, (THEIR_MAC, "0.0.0.0"), ([0; 6], POD)),
        arp([BROADCAST, THEIR_MAC], 1, (THEIR_MAC, POD), ([0; 6], POD)),
        arp([[2, 0, 0, 0, 3, 3], THEIR_MAC], 1, them, ([0; 6], POD)),
        wireless,
        request[..40].to_vec(),
    ];
    for frame in not_ours {
        assert_eq!(piece.run(&frame), (NEXT, frame));
    }
}

fn solicitation(hops: u8, kind: u8, src: IpAddr, target: &str, options: &[u8]) -> Vec<u8> {
    let dst = ip("ff02::1:ff00:2");
    let body = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &octets(ip(target)), options].concat();
    ethernet([0x33, 0x33, 0xff, 0, 0, 2], THEIR_MAC, &icmp(0, hops, src, dst, body))
}

fn advertisement(to_mac: [u8; 6], to: IpAddr, flags: u8) -> Vec<u8> {
    let body = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &octets(ip(POD6)), &[2, 1], &MAC].concat();
    ethernet(to_mac, MAC, &icmp(0, 255, ip(POD6), to, body))
}

#[test]
fn solicitations_for_pods_are_answered() {
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    const SOURCE: [u8; 8] = [1, 1, 2, 0, 0, 0, 7, 7];
    const NONCE: [u8; 8] = [14, 1, 1, 2, 3, 4, 5, 6];
    let mut piece = piece("solicitation");
    for client in [ip("2001:db8::1"), ip("fe80::7")] {
        let answer = advertisement(THEIR_MAC, client, SOLICITED | OVERRIDE);
        piece.check(&solicitation(255, 135, client, POD6, &SOURCE), Some(&answer));
        piece.check(&solicitation(255, 135, client, POD6, &[]), Some(&answer));
        piece.check(&solicitation(255, 135, client, POD6, &[SOURCE, NONCE].concat()), Some(&answer));
    }
    let tried = advertisement([0x33, 0x33, 0, 0, 0, 1], ip("ff02::1"), OVERRIDE);
    piece.check(&solicitation(255, 135, ip("::"), POD6, &[]), Some(&tried));
    piece.check(&solicitation(255, 135, ip("::"), POD6, &NONCE), Some(&tried));
}

#[test]
fn other_icmpv6_goes_its_way() {
    let mut piece = piece("solicitation");
    let client = ip("2001:db8::1");
    let not_ours = [
        solicitation(255, 135, client, "fd01::3", &[]),
        solicitation(254, 135, client, POD6, &[]),
        solicitation(255, 136, client, POD6, &[]),
        solicitation(255, 135, ip(POD6), POD6, &[]),
        ethernet(OUR_MAC, THEIR_MAC, &icmp(0, 255, client, ip(POD6), vec![135, 0, 0, 0, 0, 0, 0, 0])),
        ethernet(OUR_MAC, THEIR_MAC, &icmp(0, 64, ip("192.0.2.1"), ip(POD), vec![8, 0, 0, 0, 0, 0, 0, 0])),
    ];
    for frame in not_ours {
        assert_eq!(piece.run(&frame), (NEXT, frame));
    }
}
