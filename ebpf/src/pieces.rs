//! A program a leaf module, so that tests can run each alone on built frames
//! (`agent/crates/datapath/tests/pieces.rs`). Never loaded by Orlop.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "each leaf uses its part of the shared modules")]

mod checksum;
mod maps;
mod neighbour;
mod packet;
mod reply;

use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TcContext;

use packet::{ETH_HEADER_LEN, Packet};

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

#[map]
static ARGUMENTS: Array<Arguments> = Array::with_max_entries(1, 0);

/// TCX_NEXT: the function had nothing to do.
const NEXT: i32 = -1;
/// The programs' answer where the packet could not be read.
const UNREAD: i32 = 100;

#[inline(always)]
fn with(ctx: &TcContext, work: impl FnOnce(&mut Packet, &Arguments) -> i32) -> i32 {
    let Some(arguments) = ARGUMENTS.get(0) else { return UNREAD };
    let (_, _, ethertype) = packet::facts(ctx);
    match packet::parse(ctx, ETH_HEADER_LEN, ethertype) {
        Ok(mut packet) => work(&mut packet, arguments),
        Err(_) => UNREAD,
    }
}

#[classifier]
pub fn refuse(ctx: TcContext) -> i32 {
    with(&ctx, |packet, _| reply::refuse(&ctx, packet))
}

#[classifier]
pub fn too_big(ctx: TcContext) -> i32 {
    with(&ctx, |packet, arguments| reply::too_big(&ctx, packet, arguments.number))
}

#[classifier]
pub fn arp(ctx: TcContext) -> i32 {
    ARGUMENTS.get(0).and_then(|arguments| neighbour::answer_arp(&ctx, arguments.mac)).unwrap_or(NEXT)
}

#[classifier]
pub fn solicitation(ctx: TcContext) -> i32 {
    with(&ctx, |packet, arguments| neighbour::answer_solicitation(&ctx, packet, arguments.mac).unwrap_or(NEXT))
}

/// The kernel's licence check, as in the programs that ship.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
