//! Capacity and allocatable, as numbers and as quantities.

use crate::{NodeFacts, Reserved, ThresholdAt};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Prefix of the resource names of huge pages.
pub(crate) const HUGEPAGES: &str = "hugepages-";

/// Amounts of the resources that Orlop knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes; `None` when the file system could not be asked.
    pub storage_bytes: Option<u64>,
    /// Pods.
    pub pods: u64,
    /// Bytes by page size in bytes.
    pub hugepages: BTreeMap<u64, u64>,
}

impl Resources {
    /// By Kubernetes' resource names, written as the API server writes them.
    pub(crate) fn quantities(&self) -> BTreeMap<String, Quantity> {
        let mut list = BTreeMap::from([
            ("cpu".to_owned(), Quantity(milli(self.cpu_milli))),
            ("memory".to_owned(), Quantity(binary(self.memory_bytes))),
            ("pods".to_owned(), Quantity(milli(self.pods * 1000))),
        ]);
        if let Some(bytes) = self.storage_bytes {
            list.insert("ephemeral-storage".to_owned(), Quantity(binary(bytes)));
        }
        for (page, bytes) in &self.hugepages {
            list.insert(format!("{HUGEPAGES}{}", binary(*page)), Quantity(binary(*bytes)));
        }
        list
    }
}

/// All that the machine has.
#[must_use]
pub fn capacity(facts: &NodeFacts) -> Resources {
    let (machine, settings) = (&facts.machine, &facts.settings);
    let max_pods = u64::from(settings.max_pods);
    let pods = match u64::from(settings.pods_per_core) {
        0 => max_pods,
        per_core => max_pods.min(per_core * u64::from(machine.cpus)),
    };
    Resources {
        cpu_milli: u64::from(machine.cpus) * 1000,
        memory_bytes: machine.memory_bytes,
        storage_bytes: machine.storage_bytes,
        pods,
        hugepages: machine.hugepages.clone(),
    }
}

/// What pods may ask for: capacity less the reserved, the hard eviction thresholds and,
/// for memory, the huge pages. Never negative.
#[must_use]
pub fn allocatable(facts: &NodeFacts) -> Resources {
    let settings = &facts.settings;
    let all = capacity(facts);
    let evict = |at: Option<ThresholdAt>, of: u64| at.map_or(0, |at| at.amount(of));
    let mut left = all.clone();
    for reserved in [&settings.system_reserved, &settings.kube_reserved] {
        left.take(reserved);
    }
    left.memory_bytes = left.memory_bytes.saturating_sub(evict(settings.evict_memory, all.memory_bytes));
    left.memory_bytes = left.memory_bytes.saturating_sub(all.hugepages.values().sum());
    left.storage_bytes = match (left.storage_bytes, all.storage_bytes) {
        (Some(left), Some(all)) => Some(left.saturating_sub(evict(settings.evict_nodefs, all))),
        _ => None,
    };
    left
}

/// What the cgroup that holds all pods is limited to (`enforceNodeAllocatable: [pods]`):
/// capacity less the reserved. The eviction thresholds are not taken off, so that
/// eviction comes before the kernel's out-of-memory killer.
#[must_use]
pub fn pods_limit(facts: &NodeFacts) -> Resources {
    let mut left = capacity(facts);
    for reserved in [&facts.settings.system_reserved, &facts.settings.kube_reserved] {
        left.take(reserved);
    }
    left
}

impl Resources {
    fn take(&mut self, reserved: &Reserved) {
        self.cpu_milli = self.cpu_milli.saturating_sub(reserved.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(reserved.memory_bytes);
        self.storage_bytes = self.storage_bytes.map(|bytes| bytes.saturating_sub(reserved.storage_bytes));
        for (page, bytes) in &mut self.hugepages {
            *bytes = bytes.saturating_sub(reserved.hugepages.get(page).copied().unwrap_or(0));
        }
    }
}

/// Canonical decimal form of thousandths: `4`, `3920m`, `2k`.
fn milli(value: u64) -> String {
    const SUFFIXES: [&str; 6] = ["m", "", "k", "M", "G", "T"];
    scaled(value, 1000, &SUFFIXES)
}

/// Canonical binary form: `64Gi`, `8131948Ki`, `1023`.
fn binary(value: u64) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    scaled(value, 1024, &SUFFIXES)
}

/// The largest suffix that leaves no fraction; 0 is `0`, as the API server writes it.
fn scaled(mut value: u64, step: u64, suffixes: &[&str]) -> String {
    let mut at = 0;
    while value != 0 && value.is_multiple_of(step) && at + 1 < suffixes.len() {
        value /= step;
        at += 1;
    }
    if value == 0 { "0".to_owned() } else { format!("{value}{}", suffixes[at]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, Settings};

    #[test]
    fn written_canonically() {
        for (value, text) in [(0, "0"), (4000, "4"), (3920, "3920m"), (1, "1m"), (2_000_000, "2k"), (110_000, "110")] {
            assert_eq!(milli(value), text);
        }
        for (value, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1Ki"),
            (2 << 20, "2Mi"),
            (8_131_948 << 10, "8131948Ki"),
            (1 << 60, "1Ei"),
        ] {
            assert_eq!(binary(value), text);
        }
    }

    fn machine() -> NodeFacts {
        let machine = Machine {
            cpus: 4,
            memory_bytes: 8 << 30,
            storage_bytes: Some(100 << 30),
            hugepages: BTreeMap::from([(2 << 20, 1 << 30), (1 << 30, 0)]),
            ..Machine::default()
        };
        NodeFacts { machine, ..NodeFacts::default() }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Settings), want: [(&str, &str); 6]) {
        let mut facts = machine();
        change(&mut facts.settings);
        let got = allocatable(&facts).quantities();
        let want: BTreeMap<_, _> = want.map(|(name, text)| (name.to_owned(), Quantity(text.to_owned()))).into();
        assert_eq!(got, want);
    }

    #[test]
    fn allocatable_is_capacity_less_what_is_held_back() {
        // 10 % as the kubelet computes it, with a 32-bit float: a little more than 10 GiB.
        let storage = ("ephemeral-storage", "96636764000");
        let (huge, none) = (("hugepages-2Mi", "1Gi"), ("hugepages-1Gi", "0"));
        check(|_| (), [("cpu", "4"), ("memory", "7068Mi"), ("pods", "110"), storage, huge, none]);
        check(
            |settings| {
                settings.pods_per_core = 10;
                settings.evict_memory = None;
                settings.evict_nodefs = Some(ThresholdAt::Amount(1 << 30));
                settings.system_reserved.cpu_milli = 80;
                settings.kube_reserved =
                    Reserved { memory_bytes: 1 << 30, storage_bytes: 1 << 30, ..Reserved::default() };
            },
            [("cpu", "3920m"), ("memory", "6Gi"), ("pods", "40"), ("ephemeral-storage", "98Gi"), huge, none],
        );
        check(
            |settings| {
                settings.system_reserved =
                    Reserved { cpu_milli: 5000, memory_bytes: 9 << 30, storage_bytes: 1 << 50, ..Reserved::default() };
            },
            [("cpu", "0"), ("memory", "0"), ("pods", "110"), ("ephemeral-storage", "0"), huge, none],
        );
    }

    #[test]
    fn the_limit_of_all_pods_leaves_room_for_eviction() {
        let mut facts = machine();
        facts.settings.system_reserved.memory_bytes = 1 << 30;
        assert_eq!(pods_limit(&facts).memory_bytes, 7 << 30);
        assert!(allocatable(&facts).memory_bytes < 7 << 30);
    }
}
