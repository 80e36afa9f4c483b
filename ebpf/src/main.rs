//! Orlop's eBPF programs. README.md beside this folder walks a packet through
//! them; `orlop-datapath` loads, pins and attaches them.
#![no_std]
#![no_main]
// bandwidth.rs exchanges a word in one step.
#![feature(asm_experimental_arch)]

mod affinity;
mod bandwidth;
mod checksum;
mod choice;
mod counter;
mod crc32c;
mod dsr;
mod error;
mod flow;
mod forward;
mod fragment;
#[allow(dead_code, reason = "a part of it only pieces.rs tries")]
mod icmp;
mod learn;
mod maps;
mod masquerade;
mod nat;
mod neighbour;
mod onward;
mod open;
mod packet;
mod pair;
mod pod;
mod question;
mod ranges;
mod reply;
#[allow(dead_code, reason = "a part of it only pieces.rs tries")]
mod sctp;
mod service;
mod snat;
mod socket;
mod udp;
mod uplink;
mod work;
mod xdp;

/// The kernel's licence check: helpers such as `bpf_ktime_get_ns` want a
/// GPL-compatible one. The source is Apache-2.0, offered as dual for this check.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
