//! Unconnected UDP sockets: which backend a socket's datagrams to a service go
//! to, and for which service a backend's answers come.

use aya_ebpf::bindings::BPF_ANY;
use orlop_ebpf_abi::{Fault, UdpPeer, UdpPeerKey};

use crate::counter;
use crate::maps::UDP_PEERS;
use crate::packet::Ip;
use crate::service::Chosen;

#[inline(always)]
fn key(cookie: u64, addr: Ip, port: u16, side: u8) -> UdpPeerKey {
    UdpPeerKey { cookie, addr: addr.bytes(), port: port.to_ne_bytes(), side, pad: [0; 5] }
}

#[inline(always)]
pub fn peer(cookie: u64, addr: Ip, port: u16, side: u8) -> Option<UdpPeer> {
    // SAFETY: a copy of a value that is only ever replaced whole.
    unsafe { UDP_PEERS.get(key(cookie, addr, port, side)) }.copied()
}

/// Remembers both directions.
#[inline(always)]
pub fn remember(cookie: u64, addr: Ip, port: u16, chosen: &Chosen) {
    let Chosen { service, backend, .. } = *chosen;
    let there =
        UdpPeer { addr: chosen.addr.bytes(), port: chosen.port.to_ne_bytes(), pad: [0; 2], service, backend, pad2: 0 };
    let forth = UDP_PEERS.insert(key(cookie, addr, port, UdpPeerKey::SERVICE), there, u64::from(BPF_ANY));
    counter::expect(forth, Fault::UdpPeerInsert);
    let back = UdpPeer { addr: addr.bytes(), port: port.to_ne_bytes(), pad: [0; 2], service, backend, pad2: 0 };
    let back = UDP_PEERS.insert(key(cookie, chosen.addr, chosen.port, UdpPeerKey::BACKEND), back, u64::from(BPF_ANY));
    counter::expect(back, Fault::UdpPeerInsert);
}
