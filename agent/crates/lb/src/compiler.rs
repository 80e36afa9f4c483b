//! One change at a time.

use crate::compile::{Entry, Input, adopt, backend, claims, conflicts, emit_all};
use crate::diff::diff;
use crate::ids::{BackendName, Ids};
use crate::lower::{Claims, Part, emit};
use crate::{Conflict, Endpoint, LbPlan, LbTables, Service};
use orlop_model::ServiceKey;
use std::collections::{BTreeMap, BTreeSet};

/// How many Services use a backend.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    /// As an endpoint of any kind.
    all: u32,
    /// For new connections.
    usable: u32,
}

/// The Services, and the tables as they are once every plan given out has been
/// carried out. A change costs what its Service (and any that it contends with)
/// has in the tables, not what all have.
#[derive(Debug, Clone, Default)]
pub struct Compiler {
    entries: BTreeMap<ServiceKey, Entry>,
    claims: Claims,
    uses: BTreeMap<BackendName, Uses>,
    ids: Ids,
    tables: LbTables,
}

impl Compiler {
    /// No Services, empty maps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// After a start: the maps as dumped, and all Services with their endpoints. The
    /// plan is empty when nothing changed meanwhile. Give all Services here: entries
    /// of a Service that is not among them are removed.
    pub fn restore(dump: LbTables, inputs: impl IntoIterator<Item = Input>) -> (Self, LbPlan) {
        let mut compiler = Self { ids: Ids::from_tables(&dump), ..Self::default() };
        for input in inputs {
            compiler.entries.insert(input.service.key.clone(), Entry::new(input));
        }
        let plan = compiler.resync(dump);
        (compiler, plan)
    }

    /// After a plan failed: the plan from the maps as dumped to the Services as known.
    pub fn resync(&mut self, dump: LbTables) -> LbPlan {
        self.ids.observe(&dump);
        self.claims = claims(&self.entries);
        adopt(&self.entries, &self.claims, &dump, &mut self.ids);
        let wanted = emit_all(&mut self.entries, &self.claims, &dump, &mut self.ids);
        self.uses.clear();
        for entry in self.entries.values() {
            count(&mut self.uses, &entry.part, true);
        }
        let plan = diff(&dump, &wanted);
        self.tables = wanted;
        plan
    }

    /// A Service is new or changed; its endpoints come along because named ports
    /// and selectors belong to both.
    pub fn upsert_service(&mut self, service: Service, endpoints: Vec<Endpoint>) -> LbPlan {
        let key = service.key.clone();
        self.change(&key, Some(Input { service, endpoints }))
    }

    /// A Service is gone; nothing happens when it was not known.
    pub fn remove_service(&mut self, key: &ServiceKey) -> LbPlan {
        self.change(key, None)
    }

    /// The endpoints of a Service changed; nothing happens when it is not known.
    pub fn set_endpoints(&mut self, key: &ServiceKey, endpoints: Vec<Endpoint>) -> LbPlan {
        match self.entries.get(key) {
            None => LbPlan::default(),
            Some(entry) => {
                let service = entry.input.service.clone();
                self.change(key, Some(Input { service, endpoints }))
            }
        }
    }

    /// The tables that the plans so far lead to.
    #[must_use]
    pub fn tables(&self) -> &LbTables {
        &self.tables
    }

    /// The numbers in use.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The Services with their endpoints, by name.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.entries.values().map(|entry| &entry.input)
    }

    /// The Service of this name.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&Input> {
        self.entries.get(key).map(|entry| &entry.input)
    }

    /// Frontends that more than one Service asks for.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        conflicts(&self.claims)
    }

    /// The Service that has this frontend.
    pub(crate) fn owner(&self, key: &orlop_ebpf_abi::FrontendKey) -> Option<&ServiceKey> {
        self.claims.get(key)?.first().map(|(_, service)| service)
    }

    fn change(&mut self, key: &ServiceKey, input: Option<Input>) -> LbPlan {
        let old = self.entries.remove(key);
        let mut affected = BTreeSet::from([key.clone()]);
        if let Some(entry) = &old {
            self.claim(entry, false, &mut affected);
        }
        if let Some(input) = input {
            let entry = Entry::new(input);
            self.claim(&entry, true, &mut affected);
            self.entries.insert(key.clone(), entry);
        }

        let mut before = Vec::new();
        before.extend(old.map(|entry| entry.part));
        let mut after = Vec::new();
        for key in &affected {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let rank = entry.input.service.rank();
            let part = emit(&entry.groups, &rank, &self.claims, &self.tables, &mut self.ids);
            before.push(std::mem::replace(&mut entry.part, part.clone()));
            after.push(part);
        }
        self.switch(&before, &after)
    }

    /// Adds or withdraws an entry's claims; whoever also claims one is affected.
    fn claim(&mut self, entry: &Entry, add: bool, affected: &mut BTreeSet<ServiceKey>) {
        let rank = entry.input.service.rank();
        for (key, _) in entry.groups.iter().flat_map(|group| &group.frontends) {
            let ranks = self.claims.entry(*key).or_default();
            if add {
                ranks.insert(rank.clone());
            } else {
                ranks.remove(&rank);
            }
            affected.extend(ranks.iter().map(|(_, service)| service.clone()));
            if ranks.is_empty() {
                self.claims.remove(key);
            }
        }
    }

    /// The plan from the old parts to the new ones; the tables follow.
    fn switch(&mut self, before: &[Part], after: &[Part]) -> LbPlan {
        for part in before {
            count(&mut self.uses, part, false);
        }
        for part in after {
            count(&mut self.uses, part, true);
        }
        let mut current = LbTables::default();
        let mut wanted = LbTables::default();
        for part in before.iter().chain(after) {
            for (key, _) in &part.frontends {
                current.frontends.extend(self.tables.frontends.get(key).map(|frontend| (*key, *frontend)));
            }
            for (_, id) in &part.numbers {
                current.slots.extend(self.tables.slots_of(*id));
            }
            for name in &part.all {
                let Some(id) = self.ids.backend_of(name) else { continue };
                current.backends.extend(self.tables.backends.get(&id).map(|backend| (id, *backend)));
                let uses = self.uses.get(name).filter(|uses| uses.all > 0);
                wanted.backends.extend(uses.map(|uses| (id, backend(name, uses.usable > 0))));
            }
        }
        for part in after {
            wanted.frontends.extend(part.frontends.iter().copied());
            wanted.slots.extend(part.slots.iter().copied());
        }
        self.forget(before, after);
        let plan = diff(&current, &wanted);
        plan.0.iter().for_each(|op| self.tables.apply(op));
        plan
    }

    /// Gives up the numbers that nobody uses any more.
    fn forget(&mut self, before: &[Part], after: &[Part]) {
        let kept: BTreeSet<u32> = after.iter().flat_map(|part| &part.numbers).map(|(_, id)| *id).collect();
        for (group, id) in before.iter().flat_map(|part| &part.numbers) {
            if !kept.contains(id) {
                self.ids.forget_service(group);
            }
        }
        for name in before.iter().flat_map(|part| &part.all) {
            if self.uses.get(name).is_none_or(|uses| uses.all == 0) {
                self.uses.remove(name);
                self.ids.forget_backend(name);
            }
        }
    }
}

/// Adds a part's uses of backends, or takes them away.
fn count(uses: &mut BTreeMap<BackendName, Uses>, part: &Part, add: bool) {
    let step = |number: &mut u32| *number = if add { *number + 1 } else { number.saturating_sub(1) };
    for name in &part.all {
        step(&mut uses.entry(*name).or_default().all);
    }
    for name in &part.usable {
        step(&mut uses.entry(*name).or_default().usable);
    }
}
