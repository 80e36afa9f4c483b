//! One change at a time.

mod claims;
mod entry;
mod resync;

use crate::diff::diff;
use crate::ids::BackendName;
use crate::lower::groups;
use crate::service::Rank;
use crate::slab::{Place, Slab};
use crate::{Conflict, Input, LbPlan, LbTables};
use claims::Claims;
use entry::{Entry, Used};
use orlop_ebpf_abi::{Frontend, FrontendKey};
use orlop_model::ServiceKey;
use std::collections::BTreeSet;

/// The numbers of what has a place in the tables, and who asks for what: as much as
/// is needed to say again what every plan so far has led to. Services and endpoints
/// themselves stay with whoever gave them. A change costs what its Service (and any
/// that it contends with) has in the tables, not what all have.
#[derive(Debug, Default)]
pub struct Compiler {
    entries: Slab<Entry>,
    backends: Slab<Used>,
    claims: Claims,
    last_service: u32,
    last_backend: u32,
}

impl Compiler {
    /// No Services, empty maps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A Service, or its endpoints, are new or changed.
    pub fn set_service(&mut self, input: &Input) -> LbPlan {
        self.change(&input.service.key, Some(input))
    }

    /// A Service is gone; nothing happens when it was not known.
    pub fn remove_service(&mut self, key: &ServiceKey) -> LbPlan {
        self.change(key, None)
    }

    /// The tables that the plans so far lead to, made on the spot.
    #[must_use]
    pub fn tables(&self) -> LbTables {
        let mut tables = LbTables::default();
        self.entries.iter().for_each(|(place, entry)| self.contribute(place, entry, &mut tables));
        tables
    }

    /// Numbers that a Service's ports have in the tables and in the counters.
    pub fn numbers(&self, key: &ServiceKey) -> impl Iterator<Item = u32> {
        let entry = self.entries.find(key).and_then(|place| self.entries.get(place));
        entry.into_iter().flat_map(|entry| &entry.groups).map(|group| group.id).filter(|id| *id != 0)
    }

    /// Frontends that more than one Service asks for.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        let named = |place: Place| self.entries.get(place).map(|entry| entry.key.clone());
        let mut conflicts = Vec::new();
        for (key, places) in self.claims.contested() {
            let mut ranks: Vec<Rank> =
                places.into_iter().filter_map(|place| Some(self.entries.get(place)?.rank())).collect();
            ranks.sort();
            let Some(winner) = self.claims.winner(&key).and_then(named) else { continue };
            let frontend = crate::address::socket_text(key.addr, key.port, key.proto);
            let losers = ranks.into_iter().map(|(_, loser)| loser).filter(|loser| *loser != winner);
            conflicts.extend(losers.map(|loser| Conflict {
                frontend: frontend.clone(),
                winner: winner.clone(),
                loser,
            }));
        }
        conflicts
    }

    /// The Service that has this frontend, and what the tables have for it.
    pub(crate) fn frontend(&self, key: &FrontendKey) -> Option<(&ServiceKey, Frontend)> {
        let entry = self.entries.get(self.claims.winner(key)?)?;
        let mut groups = entry.groups.iter().filter(|group| group.id != 0);
        let (group, flags) = groups.find_map(|group| {
            let own = group.frontends.iter().find(|(own, _)| own == key)?;
            Some((group, own.1))
        })?;
        Some((&entry.key, group.frontend(flags)))
    }

    /// A backend's number and whether it takes new connections.
    pub(crate) fn backend(&self, name: BackendName) -> Option<(u32, bool)> {
        let used = self.backends.get(self.backends.find(name)?)?;
        (used.all > 0).then_some((used.id, used.usable > 0))
    }

    fn change(&mut self, key: &ServiceKey, input: Option<&Input>) -> LbPlan {
        let lowered = input.map(|input| (input.service.created, groups(&input.service, &input.endpoints)));
        let old = self.entries.find(key);
        let mut affected: BTreeSet<Place> = old.into_iter().collect();
        let claimed = old.and_then(|place| self.entries.get(place)).map(Entry::frontends).unwrap_or_default();
        let claiming = lowered.iter().flat_map(|(_, groups)| groups).flat_map(|group| &group.frontends);
        for key in claimed.iter().chain(claiming.map(|(key, _)| key)) {
            affected.extend(self.claims.of(key));
        }

        let mut current = LbTables::default();
        // Backends that others brought into the tables are there for these too.
        let names = lowered.iter().flat_map(|(_, groups)| groups).flat_map(|group| group.backends.keys());
        let mut places: Vec<Place> = names.filter_map(|name| self.backends.find(*name)).collect();
        for entry in affected.iter().filter_map(|place| self.entries.get(*place)) {
            places.extend(entry.groups.iter().flat_map(|group| &group.targets).map(|target| target.place()));
        }
        let used = places.into_iter().filter_map(|place| self.backends.get(place)).filter(|used| used.all > 0);
        current.backends.extend(used.map(|used| (used.id, used.backend())));
        for &place in &affected {
            if let Some(entry) = self.entries.get(place) {
                self.contribute(place, entry, &mut current);
            }
        }
        affected.iter().for_each(|place| self.count(*place, false));
        let place = match (old, lowered) {
            (old, Some((created, groups))) => {
                let place = old.unwrap_or_else(|| self.entries.insert(Entry::named(key.clone())));
                self.withdraw(place);
                self.replace(place, created, &groups);
                self.claim(place);
                affected.insert(place);
                None
            }
            (Some(place), None) => {
                self.withdraw(place);
                Some(place)
            }
            (None, None) => None,
        };
        if let Some(entry) = place.and_then(|place| self.entries.remove(place)) {
            self.release(&entry);
        }

        for place in self.by_name(affected.iter().copied()) {
            self.emit(place, &current);
        }
        let mut wanted = LbTables::default();
        for &place in &affected {
            if let Some(entry) = self.entries.get(place) {
                self.contribute(place, entry, &mut wanted);
            }
        }
        self.settle(&current, &mut wanted);
        diff(&current, &wanted)
    }

    /// Backends of the old state that others still use stay; those of nobody go.
    fn settle(&mut self, current: &LbTables, wanted: &mut LbTables) {
        for (&id, backend) in &current.backends {
            let Some(place) = self.backends.find(crate::ids::backend_name(backend)) else { continue };
            let Some(used) = self.backends.get(place) else { continue };
            if used.all > 0 {
                wanted.backends.insert(id, used.backend());
            } else {
                self.retire(place);
            }
        }
    }

    /// A backend that is in the tables no more: who still names it may show it again,
    /// under another number.
    fn retire(&mut self, place: Place) {
        match self.backends.get_mut(place) {
            Some(used) if used.groups > 0 => used.id = 0,
            _ => drop(self.backends.remove(place)),
        }
    }

    fn by_name(&self, places: impl Iterator<Item = Place>) -> Vec<Place> {
        let mut places: Vec<Place> = places.filter(|place| self.entries.get(*place).is_some()).collect();
        let key = |place: &Place| self.entries.get(*place).map(|entry| &entry.key);
        places.sort_by(|a, b| key(a).cmp(&key(b)));
        places
    }
}
