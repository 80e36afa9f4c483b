//! A pod's rates, by the generic cell rate algorithm (ITU-T I.371): one number says
//! when all bytes so far would have passed at the rate. A packet that finds it
//! further ahead of the clock than the burst allows is dropped; another one moves it
//! by its own time, however large it is, so that a packet of many segments is never
//! too large to pass.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use orlop_ebpf_abi::BandwidthKey;

use crate::maps::BANDWIDTH;

/// Fixed point of `Bandwidth::ns_per_byte_20`.
const FRACTION_BITS: u32 = 20;
/// CPUs that meet over the same word try again; after this many times the packet
/// passes without another look, but counted.
const TRIES_MAX: u32 = 16;

/// May a packet of `len` bytes pass in this direction ([`BandwidthKey`]) of the pod
/// behind `ifindex`? Without a limit: yes.
#[inline(always)]
pub fn admits(ifindex: u32, direction: u32, len: u32) -> bool {
    let Some(limit) = BANDWIDTH.get_ptr_mut(BandwidthKey { ifindex, direction }) else { return true };
    // SAFETY: a map value lives while the program runs; user space replaces the whole
    // value, and the programs write its first word only, atomically.
    unsafe {
        let cost = (u64::from(len) * (*limit).ns_per_byte_20) >> FRACTION_BITS;
        take(&raw mut (*limit).arrival_ns, (*limit).burst_ns, cost)
    }
}

/// Moves the clock of what has passed on by `cost` nanoseconds, unless it is further
/// ahead of the time than `burst`.
///
/// # Safety
/// `arrival` is a map value's or a global, which only this function writes meanwhile.
#[inline(always)]
pub unsafe fn take(arrival: *mut u64, burst: u64, cost: u64) -> bool {
    // SAFETY: takes and touches nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut tries = 0;
    // SAFETY: the caller vouches for it.
    let mut seen = unsafe { arrival.read_volatile() };
    while tries < TRIES_MAX {
        if seen > now.saturating_add(burst) {
            return false;
        }
        let next = if seen > now { seen } else { now } + cost;
        // SAFETY: as above.
        let found = unsafe { compare_exchange(arrival, seen, next) };
        if found == seen {
            return true;
        }
        seen = found;
        tries += 1;
    }
    // SAFETY: as above. The others have just moved it past the time.
    unsafe { add(arrival, cost) };
    true
}

/// # Safety
/// As [`take`].
#[inline(always)]
unsafe fn add(at: *mut u64, more: u64) {
    // SAFETY: one instruction on memory that the caller vouches for.
    unsafe { asm!("lock *(u64 *)(r1 + 0) += r2", in("r1") at, in("r2") more, options(nostack)) }
}

/// Puts `new` where `old` stands, in one step. What stood there; `old` says that it
/// was done. `AtomicU64` has no such operation for this target, the kernel has
/// (BPF_CMPXCHG, Linux 5.12).
///
/// # Safety
/// As [`take`].
#[inline(always)]
unsafe fn compare_exchange(at: *mut u64, old: u64, new: u64) -> u64 {
    let found;
    // SAFETY: one instruction on memory that the caller vouches for.
    unsafe {
        asm!(
            "r0 = cmpxchg_64(r1 + 0, r0, r2)",
            in("r1") at,
            in("r2") new,
            inlateout("r0") old => found,
            options(nostack),
        );
    }
    found
}
