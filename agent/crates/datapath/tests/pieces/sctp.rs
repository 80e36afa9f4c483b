//! SCTP's checksum after a port has changed.

use crate::bench::{Arguments, BAD, NEXT, OUR_MAC, Piece, THEIR_MAC};
use crate::build::{ethernet, ip, mapped, v4_fragment, v6, with_options};
use std::net::SocketAddr;

#[path = "../../../../../ebpf/src/crc32c.rs"]
mod crc32c;

const SCTP: u8 = 132;
const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;

/// RFC 9260 appendix A, bit by bit.
fn plain_crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

/// Numbers that look random and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn the_checksum_of_the_standard_is_meant() {
    // RFC 3720 B.4.
    assert_eq!(plain_crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
    assert_eq!(plain_crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_change_is_the_difference_of_two_plain_checksums() {
    let mut numbers = Numbers(0x0123_4567_89ab_cdef);
    let lengths = (4..300).chain((0..40).map(|_| 4 + numbers.next() as usize % 65_532)).chain([65_535]);
    let lengths: Vec<usize> = lengths.collect();
    for len in lengths {
        let old: Vec<u8> = (0..len).map(|_| numbers.next() as u8).collect();
        let mut new = old.clone();
        let difference = numbers.next() as u32;
        new.iter_mut().zip(difference.to_le_bytes()).for_each(|(byte, change)| *byte ^= change);
        let wanted = plain_crc32c(&old) ^ plain_crc32c(&new);
        assert_eq!(crc32c::change(difference, len as u32), wanted, "{len}");
    }
}

struct Case {
    src: SocketAddr,
    dst: SocketAddr,
    chunk: u8,
    payload: usize,
    /// IPv4: flags and offset.
    fragment: u16,
    options: bool,
    offloaded: bool,
}

impl Case {
    fn new(src: &str, dst: &str, payload: usize) -> Self {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        Self { src, dst, chunk: 1, payload, fragment: 0, options: false, offloaded: false }
    }

    fn bytes(&self) -> Vec<u8> {
        let ports = [self.src.port().to_be_bytes(), self.dst.port().to_be_bytes()].concat();
        let len = (4 + self.payload as u16).to_be_bytes();
        let chunk = [&[self.chunk, 0][..], &len, &vec![0x5a; self.payload]].concat();
        let mut packet = [&ports[..], &[1, 2, 3, 4], &[0; 4], &chunk].concat();
        let sum = if self.offloaded { 0 } else { plain_crc32c(&packet) };
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        let (src, dst) = (self.src.ip(), self.dst.ip());
        let packet = if src.is_ipv4() {
            let packet = v4_fragment(7, self.fragment, SCTP, src, dst, &packet);
            if self.options { with_options(&packet, 2) } else { packet }
        } else if self.options {
            v6(60, 64, src, dst, &[&[SCTP, 0, 1, 4, 0, 0, 0, 0][..], &packet].concat())
        } else {
            v6(SCTP, 64, src, dst, &packet)
        };
        ethernet(OUR_MAC, THEIR_MAC, &packet)
    }
}

#[test]
fn either_end_is_rewritten() {
    let mut piece = Piece::load("sctp");
    let ends =
        [["192.0.2.1:4000", "10.96.0.1:80", "10.1.0.2:8080"], ["[2001:db8::1]:4000", "[fd96::1]:80", "[fd01::2]:8080"]];
    for [client, service, backend] in ends {
        let to: SocketAddr = backend.parse().unwrap();
        let arguments = Arguments { addr: mapped(to.ip()), port: to.port().to_be_bytes(), ..Arguments::default() };
        for payload in [0, 1, 16, 100, 1000, 1399] {
            for (options, offloaded) in [(false, false), (true, false), (false, true)] {
                let case = |src, dst| Case { options, offloaded, ..Case::new(src, dst, payload) }.bytes();
                piece.arguments(Arguments { side: DESTINATION, ..arguments });
                piece.check_next(&case(client, service), &case(client, backend));
                // Ethernet's padding is not the packet's.
                let pad = |frame: Vec<u8>| [frame, vec![0xee; 6]].concat();
                piece.check_next(&pad(case(client, service)), &pad(case(client, backend)));
                piece.arguments(Arguments { side: SOURCE, ..arguments });
                piece.check_next(&case(service, client), &case(backend, client));
            }
        }
    }
}

#[test]
fn fragments_keep_their_port() {
    const FIRST: u16 = 0x2000;
    let mut piece = Piece::load("sctp");
    let to = Arguments { addr: mapped(ip("10.1.0.2")), side: DESTINATION, ..Arguments::default() };
    let case = |dst, fragment| Case { fragment, ..Case::new("192.0.2.1:4000", dst, 100) }.bytes();
    piece.arguments(Arguments { port: 80_u16.to_be_bytes(), ..to });
    piece.check_next(&case("10.96.0.1:80", FIRST), &case("10.1.0.2:80", FIRST));
    piece.check_next(&case("10.96.0.1:80", 100), &case("10.1.0.2:80", 100));
    piece.arguments(Arguments { port: 8080_u16.to_be_bytes(), ..to });
    assert_eq!(piece.run(&case("10.96.0.1:80", FIRST)).0, BAD);
}

#[test]
fn the_first_chunk_is_read() {
    let mut piece = Piece::load("sctp_chunk");
    for chunk in [1, 2, 6, 7, 8, 14] {
        let frame = Case { chunk, ..Case::new("192.0.2.1:4000", "10.96.0.1:80", 16) }.bytes();
        assert_eq!(piece.run(&frame).0, chunk.into());
    }
    let later = Case { fragment: 100, ..Case::new("192.0.2.1:4000", "10.96.0.1:80", 16) }.bytes();
    assert_eq!(piece.run(&later).0, NEXT);
    let bare = Case::new("192.0.2.1:4000", "10.96.0.1:80", 0).bytes();
    assert_eq!(piece.run(&bare[..bare.len() - 4]).0, NEXT);
}
