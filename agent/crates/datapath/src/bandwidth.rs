//! Pods' rates: `kubernetes.io/ingress-bandwidth` and `egress-bandwidth`.

use orlop_ebpf_abi::{Bandwidth, BandwidthKey};
use orlop_model::Ifindex;

use crate::table::Plain;
use crate::{Datapath, Error};

// SAFETY: both are words of integers without padding.
unsafe impl Plain for BandwidthKey {}
// SAFETY: as above.
unsafe impl Plain for Bandwidth {}

const NANOSECONDS: u64 = 1_000_000_000;
const BITS: u64 = 8;
/// How long a pod may send ahead of its rate after it was silent. TCP that lost all
/// of a flight to the policer waits for its timer, at least 200 ms
/// (`TCP_RTO_MIN`); what it may not send meanwhile it can catch up on.
const BURST_NS: u64 = 250_000_000;
/// And at least this much: two of the largest packets that TCP hands to a device at
/// once (`GSO_LEGACY_MAX_SIZE`), so that slow rates do not drop every second one.
const BURST_BYTES_MIN: u64 = 2 * 65_536;
/// Fixed point of `Bandwidth::ns_per_byte_20`.
const FRACTION_BITS: u32 = 20;

/// The slowest rate that an annotation may ask for (`ValidateBandwidthIsReasonable` in pkg/util/bandwidth).
const BITS_PER_S_MIN: u64 = 1_000;

/// What the programs get for a rate in bits a second, up to 10^15.
fn limit(bits_per_s: u64) -> Bandwidth {
    let bits_per_s = u128::from(bits_per_s.max(BITS_PER_S_MIN));
    let time_20 = |bytes: u64| ((u128::from(bytes * BITS * NANOSECONDS)) << FRACTION_BITS) / bits_per_s;
    let ns_per_byte_20 = u64::try_from(time_20(1)).unwrap_or(u64::MAX);
    let burst_ns = u64::try_from(time_20(BURST_BYTES_MIN) >> FRACTION_BITS).unwrap_or(u64::MAX).max(BURST_NS);
    Bandwidth { arrival_ns: 0, burst_ns, ns_per_byte_20 }
}

impl Datapath {
    /// Holds the pod behind `host` to these rates, in bits a second: what it sends
    /// and what it receives, `None` for no limit. Packets beyond are dropped with
    /// [`Bandwidth`](crate::DropReason::Bandwidth). A rate that is the same stays as
    /// it is, with what was used of it.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_bandwidth(&self, host: Ifindex, egress: Option<u64>, ingress: Option<u64>) -> Result<(), Error> {
        let table = &self.bandwidth;
        for (direction, rate) in [(BandwidthKey::FROM, egress), (BandwidthKey::TO, ingress)] {
            let key = BandwidthKey { ifindex: host.get(), direction };
            let Some(rate) = rate else {
                table.remove(&key)?;
                continue;
            };
            let wanted = limit(rate);
            let same = |found: Bandwidth| Bandwidth { arrival_ns: 0, ..found } == wanted;
            if !table.get(&key)?.is_some_and(same) {
                table.put(&key, &wanted)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bits_per_s: u64, burst_ns: u64, ns_per_byte_20: u64) {
        assert_eq!(limit(bits_per_s), Bandwidth { arrival_ns: 0, burst_ns, ns_per_byte_20 }, "{bits_per_s}");
    }

    #[test]
    fn rates_become_times() {
        const MS: u64 = 1_000_000;
        // A byte takes 8 ms, the smallest burst 131,072 of them.
        check(1_000, 1_048_576 * MS, (8 * MS) << 20);
        check(1_000_000, 1_048_576_000, 8_000 << 20);
        check(10_000_000, 250 * MS, 800 << 20);
        check(1_000_000_000, 250 * MS, 8 << 20);
        check(1_000_000_000_000_000, 250 * MS, 8);
        // Slower is no rate, and would overflow the programs' product with a packet's length.
        check(1, 1_048_576 * MS, (8 * MS) << 20);
    }
}
