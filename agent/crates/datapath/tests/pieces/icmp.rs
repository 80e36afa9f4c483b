//! What ICMP errors quote, read and rewritten.

use crate::bench::{Arguments, BAD, OUR_MAC, Piece, THEIR_MAC};
use crate::build::{ethernet, icmp, ip, mapped, with_options};
use crate::frame::Frame;
use std::net::SocketAddr;

const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;

/// One family's cast: the client, the service, the backend, a router that sends the
/// error; its type and code.
const CASTS: [([&str; 4], [u8; 2]); 4] = [
    (["192.0.2.1:4000", "10.96.0.1:80", "10.1.0.2:8080", "198.51.100.1:0"], [3, 4]),
    (["192.0.2.1:4000", "10.96.0.1:80", "10.1.0.2:8080", "198.51.100.1:0"], [11, 0]),
    (["[2001:db8::1]:4000", "[fd96::1]:80", "[fd01::2]:8080", "[2001:db8:7::1]:0"], [2, 0]),
    (["[2001:db8::1]:4000", "[fd96::1]:80", "[fd01::2]:8080", "[2001:db8:7::1]:0"], [1, 4]),
];

fn error(kind: [u8; 2], src: SocketAddr, dst: SocketAddr, quote: &[u8]) -> Vec<u8> {
    let body = [&kind[..], &[0, 0, 0, 0, 5, 0x78], quote].concat();
    ethernet(OUR_MAC, THEIR_MAC, &icmp(0, 60, src.ip(), dst.ip(), body))
}

/// Everything that a quoted packet may be: transports, headers between, and how much
/// of it; each with its protocol.
fn quotes(src: &str, dst: &str) -> Vec<(u8, Vec<u8>)> {
    let udp = Frame::udp(src, dst);
    let frames = [
        Frame { tcp_flags: 0x10, payload: vec![3; 700], ..Frame::syn(src, dst, 7) },
        Frame { payload: vec![9; 33], ..udp.clone() },
        Frame { udp_checksum: false, ..udp.clone() },
        Frame { extension_headers: 4, ..udp },
    ];
    let mut quotes = Vec::new();
    for frame in frames {
        let packet = frame.bytes()[14..].to_vec();
        let mut forms = vec![packet.clone()];
        forms.extend((packet[0] >> 4 == 4).then(|| with_options(&packet, 3)));
        for form in forms {
            let headers = form.len() - frame.transport().len();
            // As RFC 792 asks, before TCP's checksum, just behind it, a lot, all.
            let ends = [headers + 8, headers + 16, headers + 18, headers + 500, form.len()];
            quotes.extend(ends.map(|end| (frame.proto, form[..end.min(form.len())].to_vec())));
        }
    }
    quotes
}

fn arguments(side: u32, to: &str, outer: bool) -> Arguments {
    let to: SocketAddr = to.parse().unwrap();
    let (addr, port) = (mapped(to.ip()), to.port().to_be_bytes());
    Arguments { addr, port, side, number: u32::from(outer), ..Arguments::default() }
}

#[test]
fn an_error_about_a_request_gets_the_service_as_its_quoted_destination() {
    let mut piece = Piece::load("rewrite_quoted");
    for ([client, service, backend, router], kind) in CASTS {
        let [from_backend, from_service, from_router, to] =
            [backend, service, router, client].map(|end| end.parse().unwrap());
        for ((_, sent), (_, known)) in quotes(client, backend).iter().zip(quotes(client, service)) {
            piece.arguments(arguments(DESTINATION, service, false));
            let (met, wanted) = (error(kind, from_router, to, sent), error(kind, from_router, to, &known));
            piece.check_next(&met, &wanted);
            // The backend's own error names the service as its sender.
            piece.arguments(arguments(DESTINATION, service, true));
            let (met, wanted) = (error(kind, from_backend, to, sent), error(kind, from_service, to, &known));
            piece.check_next(&met, &wanted);
        }
    }
}

#[test]
fn an_error_about_a_reply_gets_to_the_backend_with_its_own_source_quoted() {
    let mut piece = Piece::load("rewrite_quoted");
    for ([client, service, backend, router], kind) in CASTS {
        let [from, to_service, to_backend] = [router, service, backend].map(|end| end.parse().unwrap());
        piece.arguments(arguments(SOURCE, backend, true));
        for ((_, sent), (_, known)) in quotes(service, client).iter().zip(quotes(backend, client)) {
            piece.check_next(&error(kind, from, to_service, sent), &error(kind, from, to_backend, &known));
        }
    }
}

#[test]
fn a_quoted_echo_has_its_identifier_rewritten() {
    let mut piece = Piece::load("rewrite_quoted");
    for ([client, _, backend, router], kind) in CASTS {
        let [client, backend, router]: [SocketAddr; 3] = [client, backend, router].map(|end| end.parse().unwrap());
        let v4 = client.is_ipv4();
        let echo = |kind: u8, id: u16, src: SocketAddr, dst: SocketAddr| {
            let body = [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1], b"data"].concat();
            icmp(0, 64, src.ip(), dst.ip(), body)
        };
        let (request, reply) = if v4 { (8, 0) } else { (128, 129) };
        let to = SocketAddr::new(client.ip(), 777);
        // Masqueraded pings: the error comes back to the node.
        piece.arguments(arguments(SOURCE, &to.to_string(), true));
        let node = SocketAddr::new(ip(if v4 { "192.0.2.2" } else { "2001:db8::2" }), 0);
        let (met, wanted) = (echo(request, 61000, node, backend), echo(request, 777, client, backend));
        piece.check_next(&error(kind, router, node, &met), &error(kind, router, client, &wanted));
        // A reply has no identifier of its sender's, only an address.
        let (met, wanted) = (echo(reply, 61000, node, backend), echo(reply, 61000, client, backend));
        piece.check_next(&error(kind, router, node, &met), &error(kind, router, client, &wanted));
        piece.arguments(arguments(DESTINATION, &to.to_string(), false));
        let (met, wanted) = (echo(reply, 61000, backend, node), echo(reply, 777, backend, client));
        piece.check_next(&error(kind, router, backend, &met), &error(kind, router, backend, &wanted));
    }
}

#[test]
fn what_is_quoted_is_read() {
    let mut piece = Piece::load("quoted");
    for ([client, service, _, router], kind) in CASTS {
        let [src, dst, from]: [SocketAddr; 3] = [client, service, router].map(|end| end.parse().unwrap());
        let ports = (src.port().to_be_bytes(), dst.port().to_be_bytes());
        for (proto, quote) in quotes(client, service) {
            let frame = error(kind, from, src, &quote);
            piece.check_next(&frame, &frame);
            let read = piece.result();
            assert_eq!((read.src, read.dst, read.proto), (mapped(src.ip()), mapped(dst.ip()), proto.into()));
            assert_eq!((read.src_port, read.dst_port), ports);
        }
        // Headers that end early, another version, more extension headers than are followed.
        let whole = Frame::udp(client, service).bytes()[14..].to_vec();
        let headers = if src.is_ipv4() { 20 } else { 40 };
        let mut version = whole.clone();
        version[0] = 0x75;
        for bad in [&whole[..headers - 1], &whole[..headers + 7], &version] {
            assert_eq!(piece.run(&error(kind, from, src, bad)).0, BAD);
        }
        if src.is_ipv6() {
            let many = Frame { extension_headers: 7, ..Frame::udp(client, service) }.bytes()[14..].to_vec();
            assert_eq!(piece.run(&error(kind, from, src, &many)).0, BAD);
        }
        // A later fragment has addresses only.
        if src.is_ipv4() {
            let later = Frame { fragment: 100, ..Frame::udp(client, service) }.bytes()[14..].to_vec();
            piece.run(&error(kind, from, src, &later));
            let read = piece.result();
            assert_eq!((read.src, read.src_port, read.dst_port), (mapped(src.ip()), [0; 2], [0; 2]));
        }
    }
}
