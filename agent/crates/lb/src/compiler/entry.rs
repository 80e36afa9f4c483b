//! What the compiler keeps of a Service, and how it becomes entries.

use super::Compiler;
use crate::ids::{BackendName, following};
use crate::lower;
use crate::service::Rank;
use crate::slab::{Named, Place};
use crate::tables::blocks;
use crate::{IpFamily, LbTables};
use jiff::Timestamp;
use orlop_ebpf_abi::{Backend, BackendState, Frontend, FrontendKey};
use orlop_model::{Protocol, ServiceKey};

/// A Service.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: ServiceKey,
    pub created: Option<Timestamp>,
    pub groups: Box<[Group]>,
}

/// A Service port in one family: its frontends share one set of slots.
#[derive(Debug)]
pub(super) struct Group {
    pub port: u16,
    pub protocol: Protocol,
    pub family: IpFamily,
    /// Its number; 0 while every frontend that it asks for is another's.
    pub id: u32,
    /// The newest epoch that was given out.
    pub epoch: u32,
    /// Frontends that it asks for, with their flags.
    pub frontends: Box<[(FrontendKey, u32)]>,
    /// All its backends, in the order of names.
    pub targets: Box<[Target]>,
}

/// A backend's place, and in the lowest bit whether new connections go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target(u32);

impl Target {
    fn new(place: Place, usable: bool) -> Self {
        Self(place << 1 | u32::from(usable))
    }
    pub(super) fn place(self) -> Place {
        self.0 >> 1
    }
    pub(super) fn usable(self) -> bool {
        self.0 & 1 != 0
    }
}

/// A backend, and how many use it.
#[derive(Debug)]
pub(super) struct Used {
    pub name: BackendName,
    /// Its number; 0 until it is in the tables.
    pub id: u32,
    /// Groups that have it as an endpoint of any kind.
    pub groups: u32,
    /// Of those, the ones that are in the tables.
    pub all: u32,
    /// Of those, the ones that send it new connections.
    pub usable: u32,
}

impl Used {
    /// A backend is active while a slot names it, and drains while it is only an
    /// endpoint (terminating, or not ready): connections that it has go on.
    pub(super) fn backend(&self) -> Backend {
        let (addr, port, proto) = self.name;
        let state = if self.usable > 0 { BackendState::Active } else { BackendState::Draining };
        Backend { addr, port, proto, state: state as u8 }
    }
}

impl Named for Entry {
    type Name<'a> = &'a ServiceKey;
    fn name(&self) -> &ServiceKey {
        &self.key
    }
}

impl Named for Used {
    type Name<'a> = BackendName;
    fn name(&self) -> BackendName {
        self.name
    }
}

impl Entry {
    pub(super) fn named(key: ServiceKey) -> Self {
        Self { key, created: None, groups: Box::default() }
    }

    pub(super) fn rank(&self) -> Rank {
        (self.created.unwrap_or(Timestamp::MAX), self.key.clone())
    }

    fn before(&self, other: &Self) -> bool {
        let created = |entry: &Self| entry.created.unwrap_or(Timestamp::MAX);
        (created(self), &self.key) < (created(other), &other.key)
    }

    pub(super) fn frontends(&self) -> Vec<FrontendKey> {
        self.groups.iter().flat_map(|group| &group.frontends).map(|(key, _)| *key).collect()
    }
}

impl Group {
    pub(super) fn frontend(&self, flags: u32) -> Frontend {
        let count = self.targets.iter().filter(|target| target.usable()).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Frontend { service: self.id, epoch: self.epoch, count, flags, ..Frontend::default() }
    }
}

impl Compiler {
    fn before(&self, a: Place, b: Place) -> bool {
        matches!((self.entries.get(a), self.entries.get(b)), (Some(a), Some(b)) if a.before(b))
    }

    /// Takes an entry's claims away.
    pub(super) fn withdraw(&mut self, place: Place) {
        let keys = self.entries.get(place).map(Entry::frontends).unwrap_or_default();
        let mut claims = std::mem::take(&mut self.claims);
        for key in &keys {
            claims.remove(key, place, |a, b| self.before(a, b));
        }
        self.claims = claims;
    }

    /// Makes an entry's claims.
    pub(super) fn claim(&mut self, place: Place) {
        let keys = self.entries.get(place).map(Entry::frontends).unwrap_or_default();
        let mut claims = std::mem::take(&mut self.claims);
        for key in &keys {
            claims.add(*key, place, |a, b| self.before(a, b));
        }
        self.claims = claims;
    }

    /// Gives an entry other groups; a group that stays keeps its number and epoch.
    pub(super) fn replace(&mut self, place: Place, created: Option<Timestamp>, lowered: &[lower::Group]) {
        let mut groups = Vec::with_capacity(lowered.len());
        for group in lowered {
            let mut targets = Vec::with_capacity(group.backends.len());
            for (name, usable) in &group.backends {
                let used = self.backend_place(*name);
                if let Some(used) = self.backends.get_mut(used) {
                    used.groups += 1;
                }
                targets.push(Target::new(used, *usable));
            }
            let (port, protocol, family) = (group.port, group.protocol, group.family);
            let old = self.entries.get(place).into_iter().flat_map(|entry| &entry.groups);
            let old = old.into_iter().find(|old| (old.port, old.protocol, old.family) == (port, protocol, family));
            let (id, epoch) = old.map_or((0, 0), |old| (old.id, old.epoch));
            let (frontends, targets) = (group.frontends.clone().into(), targets.into());
            groups.push(Group { port, protocol, family, id, epoch, frontends, targets });
        }
        let Some(entry) = self.entries.get_mut(place) else { return };
        let old = std::mem::replace(&mut entry.groups, groups.into());
        let old =
            Entry { key: entry.key.clone(), created: std::mem::replace(&mut entry.created, created), groups: old };
        self.release(&old);
    }

    pub(super) fn backend_place(&mut self, name: BackendName) -> Place {
        match self.backends.find(name) {
            Some(place) => place,
            None => self.backends.insert(Used { name, id: 0, groups: 0, all: 0, usable: 0 }),
        }
    }

    /// What these groups had is theirs no more. A backend that was in the tables goes
    /// when the plan is made, any other at once.
    pub(super) fn release(&mut self, entry: &Entry) {
        for target in entry.groups.iter().flat_map(|group| &group.targets) {
            let Some(used) = self.backends.get_mut(target.place()) else { continue };
            used.groups = used.groups.saturating_sub(1);
            if used.groups == 0 && used.id == 0 {
                self.backends.remove(target.place());
            }
        }
    }

    /// Adds an entry's uses of backends, or takes them away. Only groups that are in
    /// the tables use anything.
    pub(super) fn count(&mut self, place: Place, add: bool) {
        let step = |number: &mut u32| *number = if add { *number + 1 } else { number.saturating_sub(1) };
        let Some(entry) = self.entries.get(place) else { return };
        for target in entry.groups.iter().filter(|group| group.id != 0).flat_map(|group| &group.targets) {
            let Some(used) = self.backends.get_mut(target.place()) else { continue };
            step(&mut used.all);
            if target.usable() {
                step(&mut used.usable);
            }
        }
    }

    /// Gives an entry's groups their numbers and epochs, from what the maps hold now,
    /// and counts what they use.
    pub(super) fn emit(&mut self, place: Place, present: &LbTables) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        let mut groups = std::mem::take(&mut entry.groups);
        for n in 0..groups.len() {
            let fresh = if groups[n].id == 0 { Some(self.following_service(&groups)) } else { None };
            let group = &mut groups[n];
            let won = group.frontends.iter().filter(|(key, _)| self.claims.winner(key) == Some(place));
            let won: Vec<FrontendKey> = won.map(|(key, _)| *key).collect();
            if won.is_empty() {
                (group.id, group.epoch) = (0, 0);
                continue;
            }
            if let Some(id) = fresh {
                (group.id, self.last_service) = (id, id);
            }
            let slots = self.number_targets(&group.targets);
            group.epoch = lower::epoch(present, (group.id, group.epoch), &won, &slots);
        }
        if let Some(entry) = self.entries.get_mut(place) {
            entry.groups = groups;
        }
        self.count(place, true);
    }

    /// Numbers for all of these; those of the usable ones, sorted.
    fn number_targets(&mut self, targets: &[Target]) -> Vec<u32> {
        let mut slots = Vec::with_capacity(targets.len());
        for target in targets {
            if self.backends.get(target.place()).is_some_and(|used| used.id == 0) {
                let id = self.next_backend();
                if let Some(used) = self.backends.get_mut(target.place()) {
                    used.id = id;
                }
            }
            let used = self.backends.get(target.place()).filter(|_| target.usable());
            slots.extend(used.map(|used| used.id));
        }
        slots.sort_unstable();
        slots
    }

    /// The next number of a Service port; `own` are groups that no entry holds just now.
    fn following_service(&self, own: &[Group]) -> u32 {
        following(self.last_service, |id| {
            let mut groups = self.entries.iter().flat_map(|(_, entry)| &entry.groups).chain(own);
            groups.any(|group| group.id == id)
        })
    }

    fn next_backend(&mut self) -> u32 {
        let id = following(self.last_backend, |id| self.backends.iter().any(|(_, used)| used.id == id));
        self.last_backend = id;
        id
    }

    /// Adds an entry's elements to tables.
    pub(super) fn contribute(&self, place: Place, entry: &Entry, tables: &mut LbTables) {
        for group in entry.groups.iter().filter(|group| group.id != 0) {
            let won = group.frontends.iter().filter(|(key, _)| self.claims.winner(key) == Some(place));
            tables.frontends.extend(won.map(|(key, flags)| (*key, group.frontend(*flags))));
            let mut slots = Vec::new();
            for target in &group.targets {
                let Some(used) = self.backends.get(target.place()) else { continue };
                tables.backends.insert(used.id, used.backend());
                if target.usable() {
                    slots.push(used.id);
                }
            }
            slots.sort_unstable();
            tables.slots.extend(blocks(group.id, group.epoch, &slots));
        }
    }
}
