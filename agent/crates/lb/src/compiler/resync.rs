//! All at once: after a start, and after a plan failed.

use super::emit::range_keys;
use super::entry::{Entry, Used};
use super::{Compiler, Lowered, lower_host_ports};
use crate::ids::backend_name;
use crate::owner::Owner;
use crate::slab::Place;
use crate::tables::{blocks, udp_socket};
use crate::{HostPorts, Input, LbPlan, LbTables, MapOp, ServiceSettings};
use hashbrown::{HashMap, HashSet};
use orlop_ebpf_abi::{Backend, BackendState, SlotKey};
use std::net::SocketAddr;

impl Compiler {
    /// After a start: the maps as dumped, and all Services with their endpoints. The
    /// plan is empty when nothing changed meanwhile. Give all Services here: entries
    /// of a Service that is not among them are removed. Of two inputs with one key
    /// the later counts.
    pub fn restore(dump: LbTables, inputs: impl IntoIterator<Item = Input>) -> (Self, LbPlan) {
        Self::restore_with(ServiceSettings::default(), dump, inputs, [])
    }

    /// The same with settings, and with the host ports of all pods. The settings may be
    /// others than those with which the maps were written.
    pub fn restore_with(
        settings: ServiceSettings,
        dump: LbTables,
        inputs: impl IntoIterator<Item = Input>,
        host_ports: impl IntoIterator<Item = HostPorts>,
    ) -> (Self, LbPlan) {
        let mut compiler = Self::with_settings(settings);
        // A backend's name is in the maps: the dump gives every number back.
        for (&id, backend) in &dump.backends {
            let name = backend_name(backend);
            if compiler.backends.find(name).is_none() {
                compiler.backends.insert(Used::named(name, id));
            }
        }
        for input in inputs {
            let lowered = compiler.lower(&input);
            compiler.take(Owner::Service(input.service.key), &lowered);
        }
        for pod in host_ports {
            let lowered = lower_host_ports(&pod);
            compiler.take(Owner::Pod(Box::new((pod.uid, pod.pod))), &lowered);
        }
        let plan = compiler.resync(dump);
        (compiler, plan)
    }

    fn take(&mut self, owner: Owner, lowered: &Lowered) {
        let place = self.entries.find(owner.name());
        let place = place.unwrap_or_else(|| self.entries.insert(Entry::named(owner)));
        self.withdraw(place);
        self.replace(place, lowered);
        self.claim(place);
    }

    /// After a plan failed, or an audit found something: the plan from the maps as
    /// dumped to the Services as known.
    pub fn resync(&mut self, dump: LbTables) -> LbPlan {
        self.changes += 1;
        self.observe(&dump);
        let places = self.by_name(self.entries.iter().map(|(place, _)| place));
        self.adopt(&places, &dump);
        for used in self.backends.iter_mut() {
            (used.all, used.usable, used.serving) = (0, 0, 0);
        }
        for &place in &places {
            self.emit(place, &dump);
        }
        let serves = |backend: &&Backend| {
            let place = self.backends.find(backend_name(backend));
            place.and_then(|place| self.backends.get(place)).is_some_and(|used| used.serving > 0)
        };
        let dead = dump.backends.values().filter(|backend| !serves(backend));
        let dead: Vec<SocketAddr> = dead.filter_map(|backend| udp_socket(&backend_name(backend))).collect();
        let unused: Vec<Place> =
            self.backends.iter().filter(|(_, used)| used.all == 0).map(|(place, _)| place).collect();
        for place in unused {
            self.retire(place);
        }
        LbPlan(self.plan_from(&dump), dead)
    }

    /// As [`diff`](crate::diff) from the dump to [`tables`](Self::tables), without
    /// making those: at a start memory is dearest.
    fn plan_from(&self, dump: &LbTables) -> Vec<MapOp> {
        let used = self.backends.iter().map(|(_, used)| used).filter(|used| used.all > 0);
        let changed = used.map(|used| (used.id, used.backend()));
        let changed = changed.filter(|(id, backend)| dump.backends.get(id) != Some(backend));
        let early = |id: &u32, be: &Backend| be.state == BackendState::Active as u8 || !dump.backends.contains_key(id);
        let (mut first, mut last): (Vec<_>, Vec<_>) = changed.partition(|(id, backend)| early(id, backend));
        first.sort_unstable_by_key(|(id, _)| *id);
        last.sort_unstable_by_key(|(id, _)| *id);
        let mut ops: Vec<MapOp> = first.into_iter().map(|(id, backend)| MapOp::PutBackend { id, backend }).collect();

        // Of each number: its epoch and how many blocks.
        let mut numbers: HashMap<u32, (u32, u32)> = HashMap::new();
        let (start, mut frontends, mut ranges) = (ops.len(), Vec::new(), Vec::new());
        let groups =
            self.entries.iter().flat_map(|(place, entry)| entry.groups.iter().map(move |group| (place, group)));
        for (place, group) in groups.filter(|(_, group)| group.id != 0) {
            let list = self.list(group).slots;
            let fresh = blocks(group.id, group.epoch, &list);
            let fresh = fresh.filter(|(key, block)| dump.slots.get(key) != Some(block));
            ops.extend(fresh.map(|(key, block)| MapOp::PutSlot { key, block }));
            numbers.insert(group.id, (group.epoch, self.frontend_of(group, 0).blocks()));
            ranges.extend(range_keys(group));
            let won = group.frontends.iter().filter(|frontend| self.has(place, frontend));
            let won = won.map(|(key, flags)| (*key, self.frontend_of(group, *flags)));
            frontends.extend(won.filter(|(key, frontend)| dump.frontends.get(key) != Some(frontend)));
        }
        ops[start..].sort_unstable_by_key(|op| if let MapOp::PutSlot { key, .. } = op { Some(*key) } else { None });
        ranges.sort_unstable();
        let fresh = ranges.iter().filter(|key| !dump.source_ranges.contains(key));
        ops.extend(fresh.map(|&key| MapOp::PutSourceRange { key }));
        frontends.sort_unstable_by_key(|(key, _)| *key);
        ops.extend(frontends.into_iter().map(|(key, frontend)| MapOp::PutFrontend { key, frontend }));

        let gone = dump.frontends.keys().filter(|key| self.frontend(key).is_none());
        ops.extend(gone.map(|&key| MapOp::RemoveFrontend { key }));
        let held = |key: &SlotKey| {
            numbers.get(&key.service).is_some_and(|(epoch, count)| key.epoch == *epoch && key.block < *count)
        };
        ops.extend(dump.slots.keys().filter(|key| !held(key)).map(|&key| MapOp::RemoveSlot { key }));
        let gone = dump.source_ranges.iter().filter(|key| ranges.binary_search(key).is_err());
        ops.extend(gone.map(|&key| MapOp::RemoveSourceRange { key }));
        ops.extend(last.into_iter().map(|(id, backend)| MapOp::PutBackend { id, backend }));
        let known = |(id, backend): &(&u32, &Backend)| {
            self.backend(backend_name(backend)).is_some_and(|(known, _)| known == **id)
        };
        let gone = dump.backends.iter().filter(|backend| !known(backend));
        ops.extend(gone.map(|(&id, _)| MapOp::RemoveBackend { id }));
        ops
    }

    /// Takes note of numbers in a dump, so that none of them is given out anew.
    fn observe(&mut self, dump: &LbTables) {
        let services = dump.frontends.values().map(|frontend| frontend.service);
        let ranges = dump.source_ranges.iter().map(|key| u32::from_be_bytes(key.service));
        let newest = services.chain(ranges).chain(dump.slots.keys().next_back().map(|key| key.service)).max();
        self.last_service = self.last_service.max(newest.unwrap_or(0));
        let newest = dump.slots.values().flatten().chain(dump.backends.keys()).max();
        self.last_backend = self.last_backend.max(newest.copied().unwrap_or(0));
        // A number that now stands for something else is not ours any more.
        for used in self.backends.iter_mut().filter(|used| used.id != 0) {
            if dump.backends.get(&used.id).is_some_and(|backend| backend_name(backend) != used.name) {
                used.id = 0;
            }
        }
    }

    /// Gives Service ports without a number the one that their frontends in the dump
    /// have: who they were before a restart.
    fn adopt(&mut self, places: &[Place], dump: &LbTables) {
        let mut held: HashSet<u32> = self.numbers.keys().copied().collect();
        for &place in places {
            let Some(entry) = self.entries.get_mut(place) else { continue };
            let mut groups = std::mem::take(&mut entry.groups);
            for group in groups.iter_mut().filter(|group| group.id == 0) {
                let won = group.frontends.iter().filter(|frontend| self.has(place, frontend));
                let mut seen = won.filter_map(|(key, _)| dump.frontends.get(key)).map(|frontend| frontend.service);
                if let Some(id) = seen.find(|id| *id != 0 && !held.contains(id)) {
                    held.insert(id);
                    group.id = id;
                }
            }
            if let Some(entry) = self.entries.get_mut(place) {
                entry.groups = groups;
            }
        }
    }
}
