//! From a service address to one backend.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use orlop_ebpf_abi::{
    Addr, Backend, BackendState, Frontend, FrontendFlags, FrontendKey, NODE_PORT_WORD_BITS, NodeAddrFlags, SLOTS_A_BLOCK,
    SlotKey,
};

use crate::maps::{BACKENDS, FRONTENDS, GENERATION, NODE_ADDRS, NODE_PORTS, SLOTS};
use crate::packet::Ip;

/// How often a choice that met a change of the tables is made again.
const TRIES_MAX: u32 = 4;

/// What was chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub addr: Ip,
    pub port: u16,
    pub service: u32,
    pub backend: u32,
}

/// What a destination is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NotAService,
    /// The service exists and has no backend; only its number is known.
    Refused,
    Backend,
}

/// Kind and choice side by side rather than an enum with data: the compiler
/// may copy the data of a variant that is not there, and the verifier refuses to
/// read what was never written.
#[derive(Clone, Copy)]
pub struct Resolved {
    pub kind: Kind,
    pub chosen: Chosen,
}

impl Resolved {
    #[inline(always)]
    fn without_backend(kind: Kind, service: u32) -> Self {
        Self { kind, chosen: Chosen { addr: Ip(0, 0), port: 0, service, backend: 0 } }
    }
}

/// A key aligned so that it is compared and copied eight bytes at a time.
#[repr(C, align(8))]
struct Aligned<T>(T);

#[inline(always)]
fn frontend_key(addr: Ip, port: u16, proto: u8) -> Aligned<FrontendKey> {
    Aligned(FrontendKey { addr: addr.bytes(), port: port.to_ne_bytes(), proto, pad: 0 })
}

#[inline(always)]
fn generation() -> u64 {
    // SAFETY: the element is eight aligned bytes that user space writes whole;
    // volatile, because it changes under us.
    GENERATION.get_ptr(0).map_or(1, |value| unsafe { value.read_volatile() })
}

/// Is this port of any node address a NodePort?
#[inline(always)]
fn is_node_port(port: u16) -> bool {
    let port = u32::from(u16::from_be(port));
    NODE_PORTS.get(port / NODE_PORT_WORD_BITS).is_some_and(|word| word >> (port % NODE_PORT_WORD_BITS) & 1 == 1)
}

#[inline(always)]
fn frontend(key: &FrontendKey) -> Option<Frontend> {
    // SAFETY: a copy; `resolve` discards it when the tables changed meanwhile.
    unsafe { FRONTENDS.get(key) }.copied()
}

/// The NodePort's wildcard key for a destination, when it is one.
#[inline(always)]
fn node_port_key(addr: Ip, port: u16, proto: u8) -> Option<Aligned<FrontendKey>> {
    if !is_node_port(port) {
        return None;
    }
    let bytes: Addr = addr.bytes();
    // SAFETY: a copy of four bytes.
    let flags = *unsafe { NODE_ADDRS.get(&bytes) }?;
    if flags & NodeAddrFlags::NODE_PORTS == 0 {
        return None;
    }
    Some(frontend_key(addr.unspecified(), port, proto))
}

/// One walk through the tables with a given random number. A slot or backend
/// that is gone leaves backend 0, which no backend has.
#[inline(always)]
fn walk(key: &FrontendKey, random: u32) -> Resolved {
    let Some(frontend) = frontend(key) else { return Resolved::without_backend(Kind::NotAService, 0) };
    if frontend.count == 0 {
        return Resolved::without_backend(Kind::Refused, frontend.service);
    }
    let torn = Resolved::without_backend(Kind::Backend, frontend.service);
    let Some(id) = slot(&frontend, frontend.first + random % frontend.count) else { return torn };
    let Some(backend) = backend(id) else { return torn };
    let chosen = Chosen {
        addr: Ip::from_bytes(&backend.addr),
        port: u16::from_ne_bytes(backend.port),
        service: frontend.service,
        backend: id,
    };
    Resolved { kind: Kind::Backend, chosen }
}

/// The backend id in one slot.
#[inline(always)]
fn slot(frontend: &Frontend, index: u32) -> Option<u32> {
    let block = index / SLOTS_A_BLOCK;
    let key = SlotKey { service: frontend.service, epoch: frontend.epoch, block };
    // SAFETY: a copy of four bytes.
    let ids = unsafe { SLOTS.get(&key) }?;
    Some(ids[(index % SLOTS_A_BLOCK) as usize])
}

#[inline(always)]
fn backend(id: u32) -> Option<Backend> {
    // SAFETY: a copy; see `resolve`.
    unsafe { BACKENDS.get(&id) }.copied()
}

/// Does this backend still take new packets of a connectionless flow?
#[inline(always)]
pub fn is_active(id: u32) -> bool {
    backend(id).is_some_and(|backend| backend.state == BackendState::Active as u8)
}

/// Chooses a backend at random.
///
/// The kernel may hand a removed element's memory to a new element while a
/// program still reads it, so a walk counts only if the tables did not change
/// meanwhile (`GENERATION` even and the same) or if a second walk agrees.
#[inline(always)]
fn choose(key: &FrontendKey) -> Resolved {
    let mut tries = 0;
    let mut service = 0;
    while tries < TRIES_MAX {
        tries += 1;
        // SAFETY: takes and touches nothing.
        let random = unsafe { bpf_get_prandom_u32() };
        let before = generation();
        let found = walk(key, random);
        if found.kind == Kind::NotAService {
            return found;
        }
        service = found.chosen.service;
        if found.kind == Kind::Backend && found.chosen.backend == 0 {
            continue;
        }
        if before & 1 == 0 && generation() == before {
            return found;
        }
        let again = walk(key, random);
        if again.kind == found.kind && again.chosen == found.chosen {
            return found;
        }
    }
    Resolved::without_backend(Kind::Refused, service)
}

/// What a socket's destination is. Not a service: one hash lookup.
#[inline(always)]
pub fn resolve(addr: Ip, port: u16, proto: u8) -> Resolved {
    let key = frontend_key(addr, port, proto);
    let found = choose(&key.0);
    if found.kind == Kind::NotAService { resolve_node_port(addr, port, proto) } else { found }
}

/// What a packet's destination is on an uplink: a NodePort or nothing.
#[inline(always)]
pub fn resolve_node_port(addr: Ip, port: u16, proto: u8) -> Resolved {
    if let Some(key) = node_port_key(addr, port, proto)
        && frontend(&key.0).is_some_and(|frontend| frontend.flags & FrontendFlags::NODE_PORT != 0)
    {
        return choose(&key.0);
    }
    Resolved::without_backend(Kind::NotAService, 0)
}
