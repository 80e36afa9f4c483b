//! How an entry becomes elements of the maps.

use super::Compiler;
use super::entry::{Entry, Group, Target};
use crate::ids::following;
use crate::slab::Place;
use crate::tables::blocks;
use crate::{LbTables, lower, maglev};
use orlop_ebpf_abi::{Frontend, FrontendKey, SourceRangeKey};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A list of slots, and where its sets begin and end; see `orlop_ebpf_abi::service`.
pub(super) struct List {
    frontend: Frontend,
    /// The sets, then from the next block on the Maglev table.
    pub slots: Vec<u32>,
}

impl Compiler {
    /// What a frontend with these flags says.
    pub(super) fn frontend_of(&self, group: &Group, flags: u32) -> Frontend {
        let number = |is: fn(&Target) -> bool| {
            u32::try_from(group.targets.iter().filter(|target| is(target)).count()).unwrap_or(u32::MAX)
        };
        let count = number(|target| target.cluster());
        let before_cluster: fn(&Target) -> bool = match group.is_dsr() {
            true => |target| target.local(),
            false => |target| target.local() && !target.cluster(),
        };
        Frontend {
            service: group.id,
            epoch: group.epoch,
            first: number(before_cluster),
            count,
            local: number(|target| target.local()),
            maglev: self.settings.maglev.filter(|_| group.outside && count > 0).unwrap_or(0),
            affinity_s: group.affinity_s,
            flags,
        }
    }

    /// Its slots: local only, both, cluster only, each in the order of numbers. With DSR
    /// the local set stands apart, and the cluster set is in the order of addresses:
    /// every node then finds the same backend by the same hash of a client.
    pub(super) fn list(&self, group: &Group) -> List {
        let mut sets: [Vec<u32>; 3] = Default::default();
        let dsr = group.is_dsr();
        for target in group.targets.iter().filter(|target| target.usable()) {
            let Some(used) = self.backends.get(target.place()) else { continue };
            match (target.local(), target.cluster()) {
                (true, false) => sets[0].push(used.id),
                (true, true) if dsr => {
                    sets[0].push(used.id);
                    sets[2].push(used.id);
                }
                (true, true) => sets[1].push(used.id),
                (false, _) => sets[2].push(used.id),
            }
        }
        let by_number = if dsr { 1 } else { 3 };
        sets[..by_number].iter_mut().for_each(|set| set.sort_unstable());
        let (mut slots, frontend) = (sets.concat(), self.frontend_of(group, 0));
        if frontend.maglev > 0 {
            slots.resize(frontend.maglev_first() as usize, 0);
            let cluster = group.targets.iter().filter(|target| target.cluster());
            let cluster: Vec<_> = cluster.filter_map(|target| self.backends.get(target.place())).collect();
            let names: Vec<Vec<u8>> = cluster.iter().map(|used| name_bytes(used.name)).collect();
            let table = maglev::table(&names, frontend.maglev);
            slots.extend(table.into_iter().map(|backend| cluster[backend as usize].id));
        }
        List { frontend, slots }
    }

    /// Gives an entry's groups their numbers and epochs, from what the maps hold now,
    /// and counts what they use.
    pub(super) fn emit(&mut self, place: Place, present: &LbTables) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        let mut groups = std::mem::take(&mut entry.groups);
        for n in 0..groups.len() {
            let won = groups[n].frontends.iter().filter(|frontend| self.has(place, frontend));
            let won: Vec<FrontendKey> = won.map(|(key, _)| *key).collect();
            if won.is_empty() {
                self.numbers.remove(&groups[n].id);
                (groups[n].id, groups[n].epoch, groups[n].digest) = (0, 0, 0);
                continue;
            }
            if groups[n].id == 0 {
                let id = following(self.last_service, |id| {
                    self.numbers.contains_key(&id) || groups.iter().any(|group| group.id == id)
                });
                (groups[n].id, self.last_service) = (id, id);
            }
            self.numbers.insert(groups[n].id, place);
            self.number_targets(&groups[n].targets);
            let slots = self.list(&groups[n]).slots;
            // What a failed plan has begun is completed: nothing else was ever written
            // under this epoch.
            let digest = digest(&slots);
            if groups[n].digest != digest {
                groups[n].epoch = lower::epoch(present, (groups[n].id, groups[n].epoch), &won, &slots);
                groups[n].digest = digest;
            }
        }
        if let Some(entry) = self.entries.get_mut(place) {
            entry.groups = groups;
        }
        self.count(place, true);
    }

    /// Numbers for all of these that have none.
    fn number_targets(&mut self, targets: &[Target]) {
        for target in targets {
            if self.backends.get(target.place()).is_some_and(|used| used.id == 0) {
                let id = following(self.last_backend, |id| self.backends.iter().any(|(_, used)| used.id == id));
                self.last_backend = id;
                if let Some(used) = self.backends.get_mut(target.place()) {
                    used.id = id;
                }
            }
        }
    }

    /// Adds an entry's elements to tables.
    pub(super) fn contribute(&self, place: Place, entry: &Entry, tables: &mut LbTables) {
        self.contribute_lists(place, entry, tables);
        let targets = entry.groups.iter().filter(|group| group.id != 0).flat_map(|group| &group.targets);
        let used = targets.filter_map(|target| self.backends.get(target.place()));
        tables.backends.extend(used.map(|used| (used.id, used.backend())));
    }

    /// The same without the backends.
    pub(super) fn contribute_lists(&self, place: Place, entry: &Entry, tables: &mut LbTables) {
        for group in entry.groups.iter().filter(|group| group.id != 0) {
            let list = self.list(group);
            let won = group.frontends.iter().filter(|frontend| self.has(place, frontend));
            tables.frontends.extend(won.map(|&(key, flags)| (key, Frontend { flags, ..list.frontend })));
            tables.slots.extend(blocks(group.id, group.epoch, &list.slots));
            tables.source_ranges.extend(range_keys(group));
        }
    }
}

/// The elements of `SOURCE_RANGES` of a group with a number.
pub(super) fn range_keys(group: &Group) -> impl Iterator<Item = SourceRangeKey> {
    let service = group.id.to_be_bytes();
    group.ranges.iter().map(move |&(bits, addr)| SourceRangeKey {
        bits: SourceRangeKey::SERVICE_BITS + bits,
        service,
        addr,
    })
}

fn digest(slots: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    slots.hash(&mut hasher);
    hasher.finish().max(1)
}

fn name_bytes((addr, port, proto): crate::ids::BackendName) -> Vec<u8> {
    [&addr[..], &port[..], &[proto]].concat()
}
