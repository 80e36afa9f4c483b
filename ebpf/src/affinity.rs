//! `sessionAffinity: ClientIP`: which backend a client of a service has.

use aya_ebpf::bindings::BPF_ANY;
use orlop_ebpf_abi::{Affinity, AffinityKey, Fault, Frontend, SLOTS_A_BLOCK, SlotKey};

use crate::counter;
use crate::flow;
use crate::maps::{AFFINITY, SLOTS};
use crate::packet::Ip;
use crate::question::Question;
use crate::service::{self, Chosen, Set};

/// `0100::/64`, whose addresses nobody has (RFC 6666).
const DISCARD: u64 = 0x0100_0000_0000_0000_u64.to_be();

/// Blocks of slots that are looked through for a backend.
const BLOCKS_MAX: u32 = 64;

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

/// Puts the backend that the client has into the question, while its last connection is
/// not older than the service's timeout.
#[inline(always)]
pub fn recall(question: &mut Question) {
    let (client, &Frontend { service, affinity_s, .. }) = (question.client().addr, question.frontend());
    let entry = question.affinity.write(Entry::new(service, client, 0, 0));
    // SAFETY: two words are copied.
    let Some(&Affinity { backend, seen_s }) = (unsafe { AFFINITY.get(&entry.key) }) else { return };
    if flow::now_s().wrapping_sub(seen_s) <= affinity_s {
        question.before = backend;
    }
}

/// Is the backend that the client has from before still one of the set, and does it take
/// connections?
#[inline(always)]
pub fn may_keep(question: &mut Question, set: Set) -> bool {
    let backend = question.before;
    service::is_active(&question.before) && is_listed(question, backend, set)
}

/// Has the backend one of the set's slots? The first 1024 slots are looked through;
/// behind them every backend counts as listed, since another client's backend is no worse than none.
#[inline(always)]
fn is_listed(question: &mut Question, backend: u32, set: Set) -> bool {
    let &Frontend { service, epoch, .. } = question.frontend();
    let key = question.slot.write(SlotKey { service, epoch, block: 0 });
    let mut block = 0;
    while block < BLOCKS_MAX {
        let start = block * SLOTS_A_BLOCK;
        if start >= set.first + set.count {
            return false;
        }
        key.block = block;
        // SAFETY: read at once; a choice is made again when the tables changed meanwhile.
        let Some(ids) = (unsafe { SLOTS.get(&*key) }) else { return false };
        let mut index = 0;
        while index < SLOTS_A_BLOCK {
            if ids[index as usize] == backend {
                // It has one slot in the whole list.
                let place = start + index;
                return place >= set.first && place < set.first + set.count;
            }
            index += 1;
        }
        block += 1;
    }
    true
}

/// The client connected to this backend now.
#[inline(always)]
pub fn keep(question: &mut Question) {
    let (client, Chosen { service, backend, .. }) = (question.client().addr, question.answer().chosen);
    let entry = question.affinity.write(Entry::new(service, client, backend, flow::now_s()));
    counter::expect(AFFINITY.insert(&entry.key, &entry.value, u64::from(BPF_ANY)), Fault::AffinityInsert);
}
