//! Per-CPU counters. A program owns its CPU's copy while it runs, so plain
//! additions are exact.

use orlop_ebpf_abi::{DROP_REASONS_MAX, DeviceCounters, Fault, ServiceCounterKey, ServiceCounters, Traffic};

use crate::maps::{DEVICE_COUNTERS, FAULTS, SERVICE_COUNTERS};

/// The counters of one device on this CPU.
#[derive(Clone, Copy)]
pub struct Device(*mut DeviceCounters);

impl Device {
    #[inline(always)]
    pub fn of(ifindex: u32) -> Option<Self> {
        DEVICE_COUNTERS.get_ptr_mut(ifindex).map(Self)
    }

    #[inline(always)]
    pub fn from(self) -> &'static mut Traffic {
        // SAFETY: a map value lives while the program runs, and this CPU's copy
        // is only ours.
        unsafe { &mut (*self.0).from }
    }

    #[inline(always)]
    pub fn to(self) -> &'static mut Traffic {
        // SAFETY: as in `from`.
        unsafe { &mut (*self.0).to }
    }

    #[inline(always)]
    pub fn drop_from(self, reason: u32) {
        // SAFETY: as in `from`; the mask keeps the index inside the array.
        unsafe { (*self.0).drops_from[reason as usize & (DROP_REASONS_MAX - 1)] += 1 }
    }

    #[inline(always)]
    pub fn drop_to(self, reason: u32) {
        // SAFETY: as in `drop_from`.
        unsafe { (*self.0).drops_to[reason as usize & (DROP_REASONS_MAX - 1)] += 1 }
    }

    #[inline(always)]
    pub fn icmp_error_from(self) {
        // SAFETY: as in `from`.
        unsafe { (*self.0).icmp_errors[0] += 1 }
    }

    #[inline(always)]
    pub fn icmp_error_to(self) {
        // SAFETY: as in `from`.
        unsafe { (*self.0).icmp_errors[1] += 1 }
    }
}

/// Something was not done for want of room. User space looks here and says so.
#[inline(always)]
pub fn fault(fault: Fault) {
    if let Some(count) = FAULTS.get_ptr_mut(fault as u32) {
        // SAFETY: as in `Device::from`.
        unsafe { *count += 1 }
    }
}

/// Counts a write to a map that did not succeed.
#[inline(always)]
pub fn expect(written: Result<(), i32>, otherwise: Fault) {
    if written.is_err() {
        fault(otherwise);
    }
}

#[inline(always)]
pub fn add(traffic: &mut Traffic, bytes: u32) {
    traffic.packets += 1;
    traffic.bytes += u64::from(bytes);
}

#[inline(always)]
fn service(service: u32, backend: u32) -> Option<&'static mut ServiceCounters> {
    let key = ServiceCounterKey { service, backend };
    if let Some(found) = SERVICE_COUNTERS.get_ptr_mut(key) {
        // SAFETY: as in `Device::from`.
        return Some(unsafe { &mut *found });
    }
    let zero = ServiceCounters { connections: 0, packets_to: 0, bytes_to: 0, packets_from: 0, bytes_from: 0 };
    // Another CPU may have been first: then its element is taken.
    let _ = SERVICE_COUNTERS.insert(key, zero, u64::from(aya_ebpf::bindings::BPF_NOEXIST));
    let Some(found) = SERVICE_COUNTERS.get_ptr_mut(key) else {
        fault(Fault::CounterInsert);
        return None;
    };
    // SAFETY: as in `Device::from`.
    Some(unsafe { &mut *found })
}

/// A connection was given to a backend (0: refused, there was none).
#[inline(never)]
pub fn service_connection(number: u32, backend: u32) -> u32 {
    if let Some(counters) = service(number, backend) {
        counters.connections += 1;
    }
    0
}

/// A packet of a service's flow.
#[inline(never)]
pub fn service_packet(number: u32, backend: u32, bytes: u32, to_backend: bool) -> u32 {
    if let Some(counters) = service(number, backend) {
        if to_backend {
            counters.packets_to += 1;
            counters.bytes_to += u64::from(bytes);
        } else {
            counters.packets_from += 1;
            counters.bytes_from += u64::from(bytes);
        }
    }
    0
}
