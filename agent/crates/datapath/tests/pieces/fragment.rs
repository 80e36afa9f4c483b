//! Ports of later fragments.

use crate::bench::{BAD, NEXT, OUR_MAC, Piece, THEIR_MAC};
use crate::build::{ethernet, ip, v4_fragment, v6};

const MORE: u16 = 1;
const PORTS: [u8; 4] = [0x0f, 0xa0, 0, 53];

struct Datagram {
    v6: bool,
    src: &'static str,
    dst: &'static str,
    id: u32,
    proto: u8,
    /// IPv6: options behind the fragment header and before it.
    options: [bool; 2],
}

impl Datagram {
    /// A fragment at `offset` bytes, a multiple of eight.
    fn fragment(&self, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        const OPTIONS: u8 = 60;
        const FRAGMENT: u8 = 44;
        let (src, dst) = (ip(self.src), ip(self.dst));
        if !self.v6 {
            let field = (offset / 8) | if more { 0x2000 } else { 0 };
            let packet = v4_fragment(self.id as u16, field, self.proto, src, dst, payload);
            return ethernet(OUR_MAC, THEIR_MAC, &packet);
        }
        let [behind, before] = self.options;
        let field = (offset | if more { MORE } else { 0 }).to_be_bytes();
        let next = if behind { OPTIONS } else { self.proto };
        let mut body = [&[next, 0][..], &field, &self.id.to_be_bytes()].concat();
        if behind && offset == 0 {
            body.extend([self.proto, 0, 1, 4, 0, 0, 0, 0]);
        }
        body.extend(payload);
        if before {
            body = [&[FRAGMENT, 0, 1, 4, 0, 0, 0, 0][..], &body].concat();
        }
        let first = if before { OPTIONS } else { FRAGMENT };
        ethernet(OUR_MAC, THEIR_MAC, &v6(first, 64, src, dst, &body))
    }
}

fn udp(more: usize) -> Vec<u8> {
    [&PORTS[..], &[0, 0, 0, 0], &vec![7; more]].concat()
}

#[test]
fn later_fragments_have_the_ports_of_the_first() {
    let mut piece = Piece::load("fragment");
    let v4 = |id, proto| Datagram { v6: false, src: "192.0.2.1", dst: "10.96.0.1", id, proto, options: [false; 2] };
    let v6 = |id, options| Datagram { v6: true, src: "2001:db8::1", dst: "fd96::1", id, proto: 17, options };
    let datagrams = [
        v4(7, 17),
        v4(8, 17),
        v4(9, 6),
        v6(7, [false, false]),
        v6(0xdead_beef, [true, false]),
        v6(9, [false, true]),
        v6(10, [true, true]),
    ];
    for datagram in &datagrams {
        let later = [datagram.fragment(24, true, &[7; 16]), datagram.fragment(40, false, &[7; 3])];
        // Nothing is known of it yet.
        assert_eq!(piece.run(&later[0]).0, BAD);
        assert_eq!(piece.run(&datagram.fragment(0, true, &udp(16))).0, NEXT);
        for frame in later {
            assert_eq!(piece.run(&frame), (NEXT, frame));
            let read = piece.result();
            assert_eq!([read.src_port, read.dst_port].concat(), PORTS);
        }
    }
}

#[test]
fn fragments_of_other_datagrams_are_not_known() {
    let mut piece = Piece::load("fragment");
    let known = Datagram { v6: false, src: "192.0.2.1", dst: "10.96.0.1", id: 7, proto: 17, options: [false; 2] };
    assert_eq!(piece.run(&known.fragment(0, true, &udp(16))).0, NEXT);
    let others = [
        Datagram { id: 8, ..known },
        Datagram { proto: 6, ..known },
        Datagram { src: "192.0.2.2", ..known },
        Datagram { dst: "10.96.0.2", ..known },
    ];
    for other in others {
        assert_eq!(piece.run(&other.fragment(24, false, &[7; 16])).0, BAD);
    }
    assert_eq!(piece.run(&known.fragment(24, false, &[7; 16])).0, NEXT);
}
