//! From a service address to one backend.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use orlop_ebpf_abi::{Addr, Backend, BackendState, Frontend, FrontendFlags, FrontendKey, NODE_PORT_WORD_BITS, SlotKey};

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
pub enum Resolved {
    NotAService,
    /// The service exists and has no backend; its number.
    Refused(u32),
    Backend(Chosen),
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
    // SAFETY: only its presence is looked at.
    unsafe { NODE_ADDRS.get(&bytes) }?;
    Some(frontend_key(addr.unspecified(), port, proto))
}

enum Step {
    Done(Chosen),
    Empty(u32),
    Torn,
}

/// One walk through the tables with a given random number.
#[inline(always)]
fn walk(key: &FrontendKey, random: u32) -> Option<Step> {
    let frontend = frontend(key)?;
    if frontend.count == 0 {
        return Some(Step::Empty(frontend.service));
    }
    let slot = SlotKey { service: frontend.service, epoch: frontend.epoch, index: random % frontend.count };
    // SAFETY: a copy of four bytes.
    let Some(&id) = (unsafe { SLOTS.get(&slot) }) else { return Some(Step::Torn) };
    let Some(backend) = backend(id) else { return Some(Step::Torn) };
    Some(Step::Done(Chosen {
        addr: Ip::from_bytes(&backend.addr),
        port: u16::from_ne_bytes(backend.port),
        service: frontend.service,
        backend: id,
    }))
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
        match walk(key, random) {
            None => return Resolved::NotAService,
            Some(Step::Torn) => {}
            Some(Step::Empty(number)) => {
                service = number;
                if before & 1 == 0 && generation() == before {
                    return Resolved::Refused(service);
                }
                if let Some(Step::Empty(_)) = walk(key, random) {
                    return Resolved::Refused(service);
                }
            }
            Some(Step::Done(chosen)) => {
                service = chosen.service;
                if before & 1 == 0 && generation() == before {
                    return Resolved::Backend(chosen);
                }
                if let Some(Step::Done(again)) = walk(key, random)
                    && again == chosen
                {
                    return Resolved::Backend(chosen);
                }
            }
        }
    }
    Resolved::Refused(service)
}

/// What a socket's destination is. Not a service: one hash lookup.
#[inline(always)]
pub fn resolve(addr: Ip, port: u16, proto: u8) -> Resolved {
    let key = frontend_key(addr, port, proto);
    match choose(&key.0) {
        Resolved::NotAService => resolve_node_port(addr, port, proto),
        found => found,
    }
}

/// What a packet's destination is on an uplink: a NodePort or nothing.
#[inline(always)]
pub fn resolve_node_port(addr: Ip, port: u16, proto: u8) -> Resolved {
    match node_port_key(addr, port, proto) {
        Some(key) => match frontend(&key.0) {
            Some(frontend) if frontend.flags & FrontendFlags::NODE_PORT != 0 => choose(&key.0),
            _ => Resolved::NotAService,
        },
        None => Resolved::NotAService,
    }
}
