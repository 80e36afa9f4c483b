//! Reading counters: the sum over all CPUs.

use orlop_ebpf_abi::{DeviceCounters, DropReason, ServiceCounterKey, ServiceCounters as RawService, Traffic};
use orlop_model::Ifindex;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::{Datapath, Error};

/// Counters of one device: for a pod `from` is what it sent (and what was then
/// dropped), `to` what was delivered to it; for an uplink `from` is what arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodCounters {
    /// From the device.
    pub from: Traffic,
    /// To the device.
    pub to: Traffic,
    /// Packets from the device that were dropped, by reason; reasons without drops are absent.
    pub drops_from: BTreeMap<DropReason, u64>,
    /// Packets to the device that were dropped, by reason.
    pub drops_to: BTreeMap<DropReason, u64>,
    /// ICMP errors from the device.
    pub icmp_errors_from: u64,
    /// ICMP errors to the device.
    pub icmp_errors_to: u64,
}

/// Service number and backend id; backend 0 stands for refusals.
pub type ServiceBackend = (u32, u32);

/// Counters of one (service, backend).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ServiceCounters {
    /// Connections that were given to the backend, at the moment of the choice.
    /// Backend 0: connections refused for want of one.
    pub connections: u64,
    /// Packets to the backend.
    pub packets_to: u64,
    /// Bytes to the backend.
    pub bytes_to: u64,
    /// Packets from the backend.
    pub packets_from: u64,
    /// Bytes from the backend.
    pub bytes_from: u64,
}

fn add_traffic(sum: &mut Traffic, one: &Traffic) {
    sum.packets += one.packets;
    sum.bytes += one.bytes;
    sum.connections += one.connections;
}

fn add_drops(sum: &mut BTreeMap<DropReason, u64>, one: &[u64]) {
    for &reason in DropReason::ALL {
        let drops = one[reason as usize];
        if drops > 0 {
            *sum.entry(reason).or_default() += drops;
        }
    }
}

fn sum_device(cpus: &[DeviceCounters]) -> PodCounters {
    let mut sum = PodCounters::default();
    for cpu in cpus {
        add_traffic(&mut sum.from, &cpu.from);
        add_traffic(&mut sum.to, &cpu.to);
        add_drops(&mut sum.drops_from, &cpu.drops_from);
        add_drops(&mut sum.drops_to, &cpu.drops_to);
        sum.icmp_errors_from += cpu.icmp_errors[0];
        sum.icmp_errors_to += cpu.icmp_errors[1];
    }
    sum
}

fn sum_service(cpus: &[RawService]) -> ServiceCounters {
    cpus.iter().fold(ServiceCounters::default(), |sum, cpu| ServiceCounters {
        connections: sum.connections + cpu.connections,
        packets_to: sum.packets_to + cpu.packets_to,
        bytes_to: sum.bytes_to + cpu.bytes_to,
        packets_from: sum.packets_from + cpu.packets_from,
        bytes_from: sum.bytes_from + cpu.bytes_from,
    })
}

impl Datapath {
    /// Counters of every device ever attached and not forgotten: pods by their
    /// host-side interface, and uplinks.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn pod_counters(&self) -> Result<Vec<(Ifindex, PodCounters)>, Error> {
        let mut all = Vec::new();
        for key in self.device_counters.keys()? {
            let values = self.device_counters.get_per_cpu(&key, self.cpus)?;
            all.extend(Ifindex::new(key).zip(values).map(|(device, values)| (device, sum_device(&values))));
        }
        all.sort_unstable_by_key(|(device, _)| *device);
        Ok(all)
    }

    /// Counters of every (service, backend) that was used and not forgotten.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn service_counters(&self) -> Result<Vec<(ServiceBackend, ServiceCounters)>, Error> {
        let mut all = Vec::new();
        for key in self.service_counters.keys()? {
            let values = self.service_counters.get_per_cpu(&key, self.cpus)?;
            all.extend(values.map(|values| ((key.service, key.backend), sum_service(&values))));
        }
        all.sort_unstable_by_key(|(key, _)| *key);
        Ok(all)
    }

    /// Removes a pod's counters, once it is detached.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget_pod_counters(&self, host: Ifindex) -> Result<(), Error> {
        self.device_counters.remove(&host.get())
    }

    /// Removes the counters of a (service, backend) that is gone.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn forget_service_counters(&self, service: u32, backend: u32) -> Result<(), Error> {
        self.service_counters.remove(&ServiceCounterKey { service, backend })
    }
}
