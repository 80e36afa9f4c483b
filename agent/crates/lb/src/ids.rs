//! Numbers for what has a name: Service ports and backends.
//!
//! Nothing is written to a disk. A backend's name is its address, port and
//! protocol, which `BACKENDS` itself holds, so a dump gives every number back. A
//! Service port has no name in the maps; after a restart it is known again by the
//! frontends that it had. While the agent runs, names are remembered, so a Service
//! that changes its address keeps its number (and its counters).

use crate::{IpFamily, LbTables};
use orlop_ebpf_abi::{Addr, Backend, Port};
use orlop_model::{Protocol, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};

/// What one set of slots serves: a Service port in one address family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub service: ServiceKey,
    pub port: u16,
    pub protocol: Protocol,
    pub family: IpFamily,
}

/// Address, port and protocol.
pub(crate) type BackendName = (Addr, Port, u8);

/// A Service port's number and the newest epoch that was given out for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub id: u32,
    pub epoch: u32,
}

/// Numbers in use and the last ones given out. A number is never given out twice
/// before all 2^32 have been, so that no reader mistakes a new entry for an old one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    services: BTreeMap<GroupKey, Number>,
    backends: BTreeMap<BackendName, u32>,
    last_service: u32,
    last_backend: u32,
}

pub(crate) fn backend_name(backend: &Backend) -> BackendName {
    (backend.addr, backend.port, backend.proto)
}

impl Ids {
    pub(crate) fn new(
        services: BTreeMap<GroupKey, Number>,
        backends: BTreeMap<BackendName, u32>,
        last_service: u32,
        last_backend: u32,
    ) -> Self {
        Self { services, backends, last_service, last_backend }
    }

    /// The numbers that a dump shows: backends by name, Service ports still unnamed.
    #[must_use]
    pub fn from_tables(tables: &LbTables) -> Self {
        let mut ids = Self::default();
        ids.observe(tables);
        for (&id, backend) in tables.backends.iter().rev() {
            ids.backends.insert(backend_name(backend), id);
        }
        ids
    }

    /// Takes note of numbers in a dump, so that none of them is given out anew.
    pub(crate) fn observe(&mut self, tables: &LbTables) {
        let services = tables.frontends.values().map(|frontend| frontend.service);
        let newest = services.chain(tables.slots.keys().next_back().map(|key| key.service)).max();
        self.last_service = self.last_service.max(newest.unwrap_or(0));
        let newest = tables.slots.values().chain(tables.backends.keys()).max();
        self.last_backend = self.last_backend.max(newest.copied().unwrap_or(0));
        // A number that now stands for something else is not ours any more.
        self.backends.retain(|name, id| tables.backends.get(id).is_none_or(|backend| backend_name(backend) == *name));
    }

    /// Numbers of Service ports in use.
    pub(crate) fn held(&self) -> BTreeSet<u32> {
        self.services.values().map(|number| number.id).collect()
    }

    /// Whether the Service port has a number.
    pub(crate) fn knows(&self, group: &GroupKey) -> bool {
        self.services.contains_key(group)
    }

    /// Gives a number found in a dump to a Service port, unless another has it.
    pub(crate) fn adopt(&mut self, group: &GroupKey, id: u32, held: &mut BTreeSet<u32>) {
        if id != 0 && held.insert(id) {
            self.services.insert(group.clone(), Number { id, epoch: 0 });
        }
    }

    /// The Service port's number, a new one if it has none.
    pub(crate) fn service(&mut self, group: &GroupKey) -> Number {
        if let Some(number) = self.services.get(group) {
            return *number;
        }
        let taken = |id: u32| self.services.values().any(|number| number.id == id);
        let id = following(self.last_service, taken);
        self.last_service = id;
        let number = Number { id, epoch: 0 };
        self.services.insert(group.clone(), number);
        number
    }

    /// Notes the epoch that holds for a Service port.
    pub(crate) fn set_epoch(&mut self, group: &GroupKey, epoch: u32) {
        if let Some(number) = self.services.get_mut(group) {
            number.epoch = number.epoch.max(epoch);
        }
    }

    /// The backend's number, a new one if it has none.
    pub(crate) fn backend(&mut self, name: BackendName) -> u32 {
        if let Some(&id) = self.backends.get(&name) {
            return id;
        }
        let taken = |id: u32| self.backends.values().any(|&other| other == id);
        let id = following(self.last_backend, taken);
        self.last_backend = id;
        self.backends.insert(name, id);
        id
    }

    pub(crate) fn retain(&mut self, services: &BTreeSet<GroupKey>, backends: &BTreeSet<BackendName>) {
        self.services.retain(|group, _| services.contains(group));
        self.backends.retain(|name, _| backends.contains(name));
    }
}

/// The number after `last`; from 1 again, looking for a free one, when all are spent.
pub(crate) fn following(last: u32, mut taken: impl FnMut(u32) -> bool) -> u32 {
    match last.checked_add(1) {
        Some(id) => id,
        None => (1..=u32::MAX).find(|&id| !taken(id)).unwrap_or(u32::MAX),
    }
}
