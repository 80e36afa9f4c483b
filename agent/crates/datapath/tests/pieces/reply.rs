//! Resets and ICMP errors.

use crate::bench::{Arguments, OUR_MAC, Piece, REDIRECT, THEIR_MAC};
use crate::build::{ethernet, icmp, transport_checksum, v4, v6};
use crate::frame::Frame;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn to_us(frame: Frame) -> Frame {
    frame.macs(OUR_MAC, THEIR_MAC)
}

/// What the kernel sends for a segment that belongs to no connection.
fn reset(to: &Frame, seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    let (src, dst) = (to.dst, to.src);
    let ports = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    let mut tcp = [&ports[..], &seq.to_be_bytes(), &ack.to_be_bytes(), &[0x50, flags, 0, 0, 0, 0, 0, 0]].concat();
    let sum = transport_checksum(6, src.ip(), dst.ip(), &tcp);
    tcp[16..18].copy_from_slice(&sum);
    let packet = if src.is_ipv4() { v4(0, 6, src.ip(), dst.ip(), &tcp) } else { v6(6, 64, src.ip(), dst.ip(), &tcp) };
    ethernet(THEIR_MAC, OUR_MAC, &packet)
}

fn error(to: &Frame, kind: u8, code: u8, more: u32, quote: &[u8]) -> Vec<u8> {
    let body = [&[kind, code, 0, 0][..], &more.to_be_bytes(), quote].concat();
    ethernet(THEIR_MAC, OUR_MAC, &icmp(0xc0, 64, to.dst.ip(), to.src.ip(), body))
}

#[test]
fn tcp_is_reset_as_a_host_without_the_connection_does() {
    let mut piece = Piece::load("refuse");
    for (src, dst) in [("192.0.2.1:4000", "10.96.0.1:80"), ("[2001:db8::1]:4000", "[fd96::1]:80")] {
        let segment = |tcp_flags, seq, ack, payload: usize| Frame {
            tcp_flags,
            ack,
            payload: vec![7; payload],
            ..to_us(Frame::syn(src, dst, seq))
        };
        let answers = [
            (segment(SYN, 1000, 0, 0), 0, 1001, RST | ACK),
            // TCP fast open carries data.
            (segment(SYN, 1000, 0, 100), 0, 1101, RST | ACK),
            (segment(SYN, u32::MAX, 0, 1), 0, 1, RST | ACK),
            (segment(FIN, 1000, 0, 3), 0, 1004, RST | ACK),
            (segment(0, 1000, 0, 1400), 0, 2400, RST | ACK),
            (segment(ACK, 1000, 77, 1400), 77, 0, RST),
            (segment(SYN | ACK, 1000, 77, 0), 77, 0, RST),
        ];
        for (segment, seq, ack, flags) in answers {
            piece.check(&segment.bytes(), Some(&reset(&segment, seq, ack, flags)));
        }
        // Ethernet's padding is not data.
        let padded = [segment(SYN, 9, 0, 0).bytes(), vec![0; 6]].concat();
        piece.check(&padded, Some(&reset(&segment(SYN, 9, 0, 0), 0, 10, RST | ACK)));
        piece.check(&segment(RST, 1000, 0, 0).bytes(), None);
        piece.check(&segment(RST | ACK, 1000, 77, 0).bytes(), None);
    }
    let options = Frame { extension_headers: 3, ..to_us(Frame::syn("[2001:db8::1]:4000", "[fd96::1]:80", 5)) };
    piece.check(&options.bytes(), Some(&reset(&options, 0, 6, RST | ACK)));
}

#[test]
fn other_protocols_get_port_unreachable_with_a_quote() {
    let mut piece = Piece::load("refuse");
    for (src, dst, kind, code, quote) in
        [("192.0.2.1:4000", "10.96.0.1:53", 3, 3, 548), ("[2001:db8::1]:4000", "[fd96::1]:53", 1, 4, 1232)]
    {
        for payload in [0, 1, 5, 63, 64, 65, 500, 520, 521, 1183, 1184, 1185, 1300] {
            let datagram = Frame { payload: vec![7; payload], ..to_us(Frame::udp(src, dst)) };
            let bytes = datagram.bytes();
            let quote = &bytes[14..bytes.len().min(14 + quote)];
            piece.check(&bytes, Some(&error(&datagram, kind, code, 0, quote)));
            let padded = [bytes.clone(), vec![0xee; 9]].concat();
            piece.check(&padded, Some(&error(&datagram, kind, code, 0, quote)));
        }
        let first_fragment = Frame { fragment: 0x2000, ..to_us(Frame::udp(src, dst)) };
        let bytes = first_fragment.bytes();
        piece.check(&bytes, Some(&error(&first_fragment, kind, code, 0, &bytes[14..])));
    }
    let options = Frame { extension_headers: 6, ..to_us(Frame::udp("[2001:db8::1]:4000", "[fd96::1]:53")) };
    let bytes = options.bytes();
    piece.check(&bytes, Some(&error(&options, 1, 4, 0, &bytes[14..])));
}

#[test]
fn a_packet_that_is_too_big_tells_the_size() {
    let mut piece = Piece::load("too_big");
    piece.arguments(Arguments { number: 1400, ..Arguments::default() });
    for (src, dst, kind, code, quote) in
        [("192.0.2.1:4000", "10.1.0.1:53", 3, 4, 548), ("[2001:db8::1]:4000", "[fd01::1]:53", 2, 0, 1232)]
    {
        let datagram = Frame { payload: vec![7; 1440], ..to_us(Frame::udp(src, dst)) };
        let segment = Frame { tcp_flags: ACK, payload: vec![7; 1440], ..to_us(Frame::syn(src, dst, 1)) };
        for frame in [datagram, segment] {
            let bytes = frame.bytes();
            piece.check(&bytes, Some(&error(&frame, kind, code, 1400, &bytes[14..14 + quote])));
        }
    }
}

#[test]
fn nobody_is_answered_who_must_not_be() {
    let mut piece = Piece::load("refuse");
    let silent = [
        Frame::udp("0.0.0.0:68", "10.96.0.1:67"),
        Frame::udp("127.0.0.1:1", "10.96.0.1:2"),
        Frame::udp("224.0.0.1:1", "10.96.0.1:2"),
        Frame::udp("192.0.2.1:1", "224.0.0.1:2"),
        Frame::udp("192.0.2.1:1", "255.255.255.255:2"),
        Frame::syn("192.0.2.1:1", "224.0.0.1:2", 1),
        Frame::udp("[::]:1", "[fd96::1]:2"),
        Frame::udp("[ff02::1]:1", "[fd96::1]:2"),
        Frame::udp("[2001:db8::1]:1", "[ff02::1]:2"),
        Frame { fragment: 100, ..Frame::udp("192.0.2.1:1", "10.96.0.1:2") },
    ];
    for frame in silent {
        piece.check(&to_us(frame).bytes(), None);
    }
    // Sent to all of the link, or to another host of it.
    for mac in [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [2, 0, 0, 0, 3, 3]] {
        piece.check(&Frame::udp("192.0.2.1:1", "10.96.0.1:2").macs(mac, THEIR_MAC).bytes(), None);
    }
    let (a, b) = (crate::build::ip("192.0.2.1"), crate::build::ip("10.96.0.1"));
    let (c, d) = (crate::build::ip("2001:db8::1"), crate::build::ip("fd96::1"));
    for (src, dst, kinds) in [(a, b, [3, 4, 5, 11, 12]), (c, d, [1, 2, 3, 4, 137])] {
        for kind in kinds {
            let body = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &[0x45; 48]].concat();
            piece.check(&ethernet(OUR_MAC, THEIR_MAC, &icmp(0, 64, src, dst, body)), None);
        }
    }
}

#[test]
fn errors_are_limited_and_resets_are_not() {
    // A thousand a second and 200 at once: of 20,000, which take far less than the
    // 19.8 seconds that they would need, most are not answered.
    const TIMES: usize = 20_000;
    let mut piece = Piece::load("refuse");
    let mut answered = |frame: Frame| {
        let bytes = to_us(frame).bytes();
        let start = std::time::Instant::now();
        let count = (0..TIMES).filter(|_| piece.run(&bytes).0 == REDIRECT).count();
        (count as u128, start.elapsed().as_millis())
    };
    let (count, ms) = answered(Frame::udp("192.0.2.1:4000", "10.96.0.1:53"));
    assert!((200..=202 + ms).contains(&count), "{count} in {ms} ms");
    let (count, _) = answered(Frame::syn("192.0.2.1:4000", "10.96.0.1:80", 1));
    assert_eq!(count, TIMES as u128);
}
