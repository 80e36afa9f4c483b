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
    let words = [cookie, addr.0, addr.1, u64::from(port) | u64::from(side) << 16];
    // SAFETY: four words are the key: cookie, address, port, side and zeros. Made of its fields
    // the zeros would be a call.
    unsafe { core::mem::transmute::<[u64; 4], UdpPeerKey>(words) }
}

/// The other side; it may be forgotten while it is read.
#[inline(always)]
pub fn peer(cookie: u64, addr: Ip, port: u16, side: u8) -> Option<&'static UdpPeer> {
    // SAFETY: the memory stays an element of this table while the program runs.
    unsafe { UDP_PEERS.get(key(cookie, addr, port, side)) }
}

/// Remembers both directions. `epoch`: the service's when the backend was one of its.
#[inline(always)]
pub fn remember(cookie: u64, addr: Ip, port: u16, chosen: &Chosen, epoch: u32) {
    let Chosen { service, backend, .. } = *chosen;
    let peer = |addr: Ip, port: u16| UdpPeer {
        addr: addr.bytes(),
        port: port.to_ne_bytes(),
        pad: [0; 2],
        service,
        backend,
        epoch,
    };
    let there = peer(chosen.addr, chosen.port);
    let forth = UDP_PEERS.insert(key(cookie, addr, port, UdpPeerKey::SERVICE), &there, u64::from(BPF_ANY));
    counter::expect(forth, Fault::UdpPeerInsert);
    let back = peer(addr, port);
    let back = UDP_PEERS.insert(key(cookie, chosen.addr, chosen.port, UdpPeerKey::BACKEND), &back, u64::from(BPF_ANY));
    counter::expect(back, Fault::UdpPeerInsert);
}
