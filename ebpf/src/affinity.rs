//! `sessionAffinity: ClientIP`: which backend a client of a service has.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_ANY;
use orlop_ebpf_abi::{Affinity, AffinityKey, Fault, Frontend};

use crate::counter;
use crate::flow;
use crate::maps::AFFINITY;
use crate::packet::Ip;
use crate::service::{self, Chosen};

/// `0100::/64`, whose addresses nobody has (RFC 6666).
const DISCARD: u64 = 0x0100_0000_0000_0000_u64.to_be();

/// The address that stands for a network namespace: a pod's sockets are one
/// client, a node's processes another.
#[inline(always)]
pub fn of_namespace(cookie: u64) -> Ip {
    Ip(DISCARD, cookie)
}

/// A client's entry, where it stands while it is looked up and written.
#[repr(C)]
pub struct Entry {
    key: AffinityKey,
    value: Affinity,
}

impl Entry {
    #[inline(always)]
    fn new(service: u32, client: Ip, backend: u32, seen_s: u32) -> Self {
        Self { key: AffinityKey { client: client.bytes(), service }, value: Affinity { backend, seen_s } }
    }
}

/// The backend that the client has and may keep; 0: none. It may while its last
/// connection is not older than the service's timeout and the backend takes connections.
#[inline(always)]
pub fn kept(entry: &mut MaybeUninit<Entry>, frontend: &Frontend, client: Ip) -> u32 {
    let entry = entry.write(Entry::new(frontend.service, client, 0, 0));
    // SAFETY: two words are copied.
    let Some(&Affinity { backend, seen_s }) = (unsafe { AFFINITY.get(&entry.key) }) else { return 0 };
    entry.value.backend = backend;
    let fresh = flow::now_s().wrapping_sub(seen_s) <= frontend.affinity_s;
    if fresh && service::is_active(&entry.value.backend) { entry.value.backend } else { 0 }
}

/// The client connected to this backend now.
#[inline(always)]
pub fn keep(entry: &mut MaybeUninit<Entry>, chosen: &Chosen, client: Ip) {
    let entry = entry.write(Entry::new(chosen.service, client, chosen.backend, flow::now_s()));
    counter::expect(AFFINITY.insert(&entry.key, &entry.value, u64::from(BPF_ANY)), Fault::AffinityInsert);
}
