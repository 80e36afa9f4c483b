//! `loadBalancerSourceRanges`: which clients a load balancer's address serves.

use aya_ebpf::maps::lpm_trie::Key;
use orlop_ebpf_abi::SourceRangeKey;

use crate::maps::SOURCE_RANGES;
use crate::question::Question;

/// Bits of a whole key: the service's and an address's.
const BITS: u32 = SourceRangeKey::SERVICE_BITS + 128;

/// A key, where it stands while it is looked up.
pub type RangeKey = Key<[u8; 20]>;

/// Is the client in one of the service's ranges?
#[inline(always)]
pub fn admit(question: &mut Question) -> bool {
    let (service, [a, b, c, d]) = (question.frontend().service, question.client().addr.words());
    // SAFETY: five words are twenty bytes, and every pattern is a key.
    let data: [u8; 20] = unsafe { core::mem::transmute([service.to_be(), a, b, c, d]) };
    SOURCE_RANGES.get(&*question.range.write(Key::new(BITS, data))).is_some()
}
