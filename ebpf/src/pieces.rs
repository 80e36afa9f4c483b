//! A program a leaf module, so that tests can run each alone on built frames
//! (`agent/crates/datapath/tests/pieces.rs`). Never loaded by Orlop.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(dead_code, reason = "each leaf uses its part of the shared modules")]

mod bandwidth;
mod checksum;
mod counter;
mod crc32c;
mod fragment;
mod icmp;
mod maps;
mod nat;
mod neighbour;
mod packet;
mod reply;
mod sctp;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TcContext;

use nat::Side;
use packet::{ETH_HEADER_LEN, Ip, Packet};

/// What the test passes to the function under test.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arguments {
    pub addr: [u8; 16],
    pub port: [u8; 2],
    pub mac: [u8; 6],
    pub number: u32,
    pub side: u32,
}

impl Arguments {
    #[inline(always)]
    fn side(&self) -> Side {
        if self.side == 0 { Side::Source } else { Side::Destination }
    }

    #[inline(always)]
    fn end(&self) -> (Ip, u16) {
        (Ip::from_bytes(&self.addr), u16::from_ne_bytes(self.port))
    }
}

/// What a function has read.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Read {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub src_port: [u8; 2],
    pub dst_port: [u8; 2],
    pub proto: u32,
}

#[map]
static ARGUMENTS: Array<Arguments> = Array::with_max_entries(1, 0);

#[map]
static RESULT: Array<Read> = Array::with_max_entries(1, 0);

/// TCX_NEXT: the function had nothing to do.
const NEXT: i32 = -1;
/// The programs' answer where the packet could not be read.
const UNREAD: i32 = 100;
/// … and where the function refused it.
const BAD: i32 = 101;

#[inline(always)]
fn with(ctx: &TcContext, work: impl FnOnce(&mut Packet, &Arguments) -> i32) -> i32 {
    let Some(arguments) = ARGUMENTS.get(0) else { return UNREAD };
    let (_, _, ethertype) = packet::facts(ctx);
    match packet::parse(ctx, ETH_HEADER_LEN, ethertype) {
        Ok(mut packet) => work(&mut packet, arguments),
        Err(_) => UNREAD,
    }
}

/// The packet for the functions that the verifier walks on their own, as those are
/// that the object of the data path exports.
#[map]
static PACKET: Array<Packet> = Array::with_max_entries(1, 0);

#[inline(always)]
fn kept(ctx: &TcContext, work: impl FnOnce(&Arguments) -> i32) -> i32 {
    with(ctx, |packet, arguments| {
        let Some(kept) = PACKET.get_ptr_mut(0) else { return UNREAD };
        // SAFETY: an array's element, and one test runs at a time.
        unsafe { *kept = *packet };
        work(arguments)
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_refuse(skb: *mut __sk_buff) -> i32 {
    PACKET.get(0).map_or(UNREAD, |packet| reply::refuse(&TcContext::new(skb), packet))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn packet_too_big(skb: *mut __sk_buff, mtu: u32) -> i32 {
    PACKET.get(0).map_or(UNREAD, |packet| reply::too_big(&TcContext::new(skb), packet, mtu))
}

#[classifier]
pub fn refuse(ctx: TcContext) -> i32 {
    kept(&ctx, |_| packet_refuse(packet::skb(&ctx)))
}

#[classifier]
pub fn too_big(ctx: TcContext) -> i32 {
    kept(&ctx, |arguments| packet_too_big(packet::skb(&ctx), arguments.number))
}

#[classifier]
pub fn arp(ctx: TcContext) -> i32 {
    ARGUMENTS.get(0).and_then(|arguments| neighbour::answer_arp(&ctx, arguments.mac)).unwrap_or(NEXT)
}

#[classifier]
pub fn solicitation(ctx: TcContext) -> i32 {
    with(&ctx, |packet, arguments| neighbour::answer_solicitation(&ctx, packet, arguments.mac).unwrap_or(NEXT))
}

#[inline(always)]
fn read(packet: &Packet) -> Option<()> {
    let result = RESULT.get_ptr_mut(0)?;
    let (src_port, dst_port) = (packet.src_port.to_ne_bytes(), packet.dst_port.to_ne_bytes());
    let (src, dst) = (packet.src.bytes(), packet.dst.bytes());
    // SAFETY: an array's element, and one test runs at a time.
    unsafe { *result = Read { src, dst, src_port, dst_port, proto: packet.proto.into() } };
    Some(())
}

#[classifier]
pub fn quoted(ctx: TcContext) -> i32 {
    with(&ctx, |packet, _| match icmp::quoted(&ctx, packet) {
        Ok(quoted) => read(&quoted).map_or(UNREAD, |()| NEXT),
        Err(_) => BAD,
    })
}

#[classifier]
pub fn rewrite_quoted(ctx: TcContext) -> i32 {
    with(&ctx, |packet, arguments| {
        let Ok(mut quoted) = icmp::quoted(&ctx, packet) else { return BAD };
        let (side, to) = (arguments.side(), arguments.end());
        let mut done = icmp::rewrite_quoted(&ctx, packet, &mut quoted, side, to);
        if arguments.number == 1 {
            let other = if side == Side::Source { Side::Destination } else { Side::Source };
            done = done.and_then(|()| icmp::rewrite_outer(&ctx, packet, other, to.0));
        }
        if done.is_ok() { NEXT } else { BAD }
    })
}

/// Learns of first fragments, and reads the ports of later ones.
#[classifier]
pub fn fragment(ctx: TcContext) -> i32 {
    with(&ctx, |packet, _| {
        if packet.l4 != 0 {
            fragment::learn(&ctx, packet);
            return NEXT;
        }
        let Some((src_port, dst_port)) = fragment::ports_of(&ctx, packet) else { return BAD };
        read(&Packet { src_port, dst_port, ..*packet }).map_or(UNREAD, |()| NEXT)
    })
}

#[classifier]
pub fn sctp(ctx: TcContext) -> i32 {
    with(&ctx, |packet, arguments| {
        let (addr, port) = arguments.end();
        if sctp::rewrite(&ctx, packet, arguments.side(), addr, port).is_ok() { NEXT } else { BAD }
    })
}

#[classifier]
pub fn sctp_chunk(ctx: TcContext) -> i32 {
    with(&ctx, |packet, _| sctp::first_chunk(&ctx, packet).map_or(NEXT, i32::from))
}

#[classifier]
pub fn bandwidth(ctx: TcContext) -> i32 {
    const SHOT: i32 = 2;
    let Some(arguments) = ARGUMENTS.get(0) else { return UNREAD };
    let (len, _, _) = packet::facts(&ctx);
    if bandwidth::admits(arguments.number, arguments.side, len) { NEXT } else { SHOT }
}

/// The kernel's licence check, as in the programs that ship.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
