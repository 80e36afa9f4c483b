//! Orlop's eBPF programs. README.md beside this folder walks a packet through
//! them; `orlop-datapath` loads, pins and attaches them.
#![no_std]
#![no_main]

mod affinity;
mod checksum;
mod choice;
mod counter;
mod flow;
mod learn;
mod maps;
mod nat;
mod node_port;
mod packet;
mod pod;
mod ranges;
mod service;
mod socket;
mod udp;
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
