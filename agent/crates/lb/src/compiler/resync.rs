//! All at once: after a start, and after a plan failed.

use super::Compiler;
use super::entry::{Entry, Used};
use crate::diff::diff;
use crate::ids::backend_name;
use crate::lower::groups;
use crate::slab::Place;
use crate::{Input, LbPlan, LbTables};
use hashbrown::HashSet;

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
        diff(&dump, &self.tables())
    }

    /// Takes note of numbers in a dump, so that none of them is given out anew.
    fn observe(&mut self, dump: &LbTables) {
        let services = dump.frontends.values().map(|frontend| frontend.service);
        let newest = services.chain(dump.slots.keys().next_back().map(|key| key.service)).max();
        self.last_service = self.last_service.max(newest.unwrap_or(0));
        let newest = dump.slots.values().chain(dump.backends.keys()).max();
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
