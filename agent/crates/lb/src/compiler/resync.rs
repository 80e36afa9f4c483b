//! All at once: after a start, and after a plan failed.

use super::Compiler;
use super::entry::{Entry, Used};
use crate::ids::backend_name;
use crate::lower::groups;
use crate::slab::Place;
use crate::{Input, LbPlan, LbTables, MapOp};
use hashbrown::{HashMap, HashSet};
use orlop_ebpf_abi::{Backend, BackendState, FrontendKey, SlotKey};

/// Operations of one kind, from `start` on, by key.
fn sort(ops: &mut [MapOp], start: usize) {
    let key = |op: &MapOp| -> (u32, SlotKey, FrontendKey) {
        let (mut id, mut slot) = (0, SlotKey { service: 0, epoch: 0, block: 0 });
        let mut frontend = FrontendKey { addr: [0; 16], port: [0; 2], proto: 0, pad: 0 };
        match op {
            MapOp::PutBackend { id: own, .. } | MapOp::RemoveBackend { id: own } => id = *own,
            MapOp::PutSlot { key, .. } | MapOp::RemoveSlot { key } => slot = *key,
            MapOp::PutFrontend { key, .. } | MapOp::RemoveFrontend { key } => frontend = *key,
        }
        (id, slot, frontend)
    };
    ops[start..].sort_unstable_by_key(key);
}

impl Compiler {
    /// After a start: the maps as dumped, and all Services with their endpoints. The
    /// plan is empty when nothing changed meanwhile. Give all Services here: entries
    /// of a Service that is not among them are removed. Of two inputs with one key
    /// the later counts.
    pub fn restore(dump: LbTables, inputs: impl IntoIterator<Item = Input>) -> (Self, LbPlan) {
        let mut compiler = Self::new();
        // A backend's name is in the maps: the dump gives every number back.
        for (&id, backend) in &dump.backends {
            let name = backend_name(backend);
            if compiler.backends.find(name).is_none() {
                compiler.backends.insert(Used { name, id, groups: 0, all: 0, usable: 0 });
            }
        }
        for input in inputs {
            compiler.take(&input);
        }
        let plan = compiler.resync(dump);
        (compiler, plan)
    }

    fn take(&mut self, input: &Input) {
        let lowered = groups(&input.service, &input.endpoints);
        let key = &input.service.key;
        let place = self.entries.find(key).unwrap_or_else(|| self.entries.insert(Entry::named(key.clone())));
        self.withdraw(place);
        self.replace(place, input.service.created, &lowered);
        self.claim(place);
    }

    /// After a plan failed: the plan from the maps as dumped to the Services as known.
    pub fn resync(&mut self, dump: LbTables) -> LbPlan {
        self.observe(&dump);
        let places = self.by_name(self.entries.iter().map(|(place, _)| place));
        self.adopt(&places, &dump);
        for used in self.backends.iter_mut() {
            (used.all, used.usable) = (0, 0);
        }
        for &place in &places {
            self.emit(place, &dump);
        }
        let unused: Vec<Place> =
            self.backends.iter().filter(|(_, used)| used.all == 0).map(|(place, _)| place).collect();
        for place in unused {
            self.retire(place);
        }
        self.plan_from(&dump)
    }

    /// As [`diff`](crate::diff) from the dump to [`tables`](Self::tables), without
    /// making those: at a start memory is dearest.
    fn plan_from(&self, dump: &LbTables) -> LbPlan {
        let mut ops = Vec::new();
        let changed = || {
            let used = self.backends.iter().map(|(_, used)| used).filter(|used| used.all > 0);
            used.map(|used| (used.id, used.backend())).filter(|(id, backend)| dump.backends.get(id) != Some(backend))
        };
        let early = |id: &u32, be: &Backend| be.state == BackendState::Active as u8 || !dump.backends.contains_key(id);
        ops.extend(changed().filter(|(id, be)| early(id, be)).map(|(id, backend)| MapOp::PutBackend { id, backend }));
        sort(&mut ops, 0);

        // Of each number: its epoch and how many blocks.
        let mut numbers: HashMap<u32, (u32, u32)> = HashMap::new();
        let start = ops.len();
        for (place, entry) in self.entries.iter() {
            let mut own = LbTables::default();
            self.contribute(place, entry, &mut own);
            let fresh = own.slots.iter().filter(|(key, block)| dump.slots.get(key) != Some(block));
            ops.extend(fresh.map(|(&key, &block)| MapOp::PutSlot { key, block }));
            numbers.extend(own.frontends.values().map(|one| (one.service, (one.epoch, one.blocks()))));
        }
        sort(&mut ops, start);

        let start = ops.len();
        for (key, _) in self.entries.iter().flat_map(|(_, entry)| &entry.groups).flat_map(|group| &group.frontends) {
            let frontend = self.frontend(key).map(|(_, frontend)| frontend);
            let fresh = frontend.filter(|frontend| dump.frontends.get(key) != Some(frontend));
            ops.extend(fresh.map(|frontend| MapOp::PutFrontend { key: *key, frontend }));
        }
        sort(&mut ops, start);
        // Who else asks for a frontend names it once more.
        ops.dedup();

        let gone = dump.frontends.keys().filter(|key| self.frontend(key).is_none());
        ops.extend(gone.map(|&key| MapOp::RemoveFrontend { key }));
        let held = |key: &SlotKey| {
            numbers.get(&key.service).is_some_and(|(epoch, count)| key.epoch == *epoch && key.block < *count)
        };
        ops.extend(dump.slots.keys().filter(|key| !held(key)).map(|&key| MapOp::RemoveSlot { key }));
        let start = ops.len();
        ops.extend(changed().filter(|(id, be)| !early(id, be)).map(|(id, backend)| MapOp::PutBackend { id, backend }));
        sort(&mut ops, start);
        let known = |(id, backend): &(&u32, &Backend)| {
            self.backend(backend_name(backend)).is_some_and(|(known, _)| known == **id)
        };
        let gone = dump.backends.iter().filter(|backend| !known(backend));
        ops.extend(gone.map(|(&id, _)| MapOp::RemoveBackend { id }));
        LbPlan(ops)
    }

    /// Takes note of numbers in a dump, so that none of them is given out anew.
    fn observe(&mut self, dump: &LbTables) {
        let services = dump.frontends.values().map(|frontend| frontend.service);
        let newest = services.chain(dump.slots.keys().next_back().map(|key| key.service)).max();
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
        let numbers = self.entries.iter().flat_map(|(_, entry)| &entry.groups).map(|group| group.id);
        let mut held: HashSet<u32> = numbers.filter(|id| *id != 0).collect();
        for &place in places {
            let Some(entry) = self.entries.get_mut(place) else { continue };
            for group in entry.groups.iter_mut().filter(|group| group.id == 0) {
                let won = group.frontends.iter().filter(|(key, _)| self.claims.winner(key) == Some(place));
                let mut seen = won.filter_map(|(key, _)| dump.frontends.get(key)).map(|frontend| frontend.service);
                if let Some(id) = seen.find(|id| *id != 0 && !held.contains(id)) {
                    held.insert(id);
                    group.id = id;
                }
            }
        }
    }
}
