//! One change at a time.

mod audit;
mod claims;
mod emit;
mod entry;
mod health;
mod resync;

pub use audit::{Audit, AuditReport};
pub use health::HealthCheck;

use crate::diff::diff;
use crate::ids::BackendName;
use crate::lower::{Group, groups, host_groups};
use crate::owner::{Owner, OwnerName};
use crate::slab::{Place, Slab};
use crate::tables::udp_socket;
use crate::{Conflict, HostPorts, Input, LbPlan, LbTables, ServiceSettings};
use claims::Claims;
use entry::{Entry, Used};
use hashbrown::HashMap;
use health::Health;
use jiff::Timestamp;
use orlop_ebpf_abi::{Frontend, FrontendKey};
use orlop_model::{PodKey, PodUid, ServiceKey};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The numbers of what has a place in the tables, and who asks for what: as much as
/// is needed to say again what every plan so far has led to. Services and endpoints
/// themselves stay with whoever gave them. A change costs what its Service (and any
/// that it contends with) has in the tables, not what all have.
#[derive(Debug, Default)]
pub struct Compiler {
    settings: ServiceSettings,
    entries: Slab<Entry>,
    backends: Slab<Used>,
    claims: Claims,
    /// Who has which Service number.
    numbers: HashMap<u32, Place>,
    last_service: u32,
    last_backend: u32,
    /// Changes so far.
    changes: u64,
}

/// What a Service or a pod asks for.
struct Lowered {
    created: Option<Timestamp>,
    groups: Vec<Group>,
    health: Option<Health>,
}

impl Compiler {
    /// No Services, empty maps, nothing set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with settings.
    #[must_use]
    pub fn with_settings(settings: ServiceSettings) -> Self {
        let maglev = settings.maglev.map(crate::maglev::prime_from);
        Self { settings: ServiceSettings { maglev, ..settings }, ..Self::default() }
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &ServiceSettings {
        &self.settings
    }

    /// A Service, or its endpoints, are new or changed.
    pub fn set_service(&mut self, input: &Input) -> LbPlan {
        let lowered = self.lower(input);
        self.change(OwnerName::Service(&input.service.key), Some(lowered), || Owner::Service(input.service.key.clone()))
    }

    /// A Service is gone; nothing happens when it was not known.
    pub fn remove_service(&mut self, key: &ServiceKey) -> LbPlan {
        self.change(OwnerName::Service(key), None, || Owner::Service(key.clone()))
    }

    /// A pod's host ports are new or changed. A Service's node port of the same number
    /// goes first, then the older pod.
    pub fn set_host_ports(&mut self, pod: &HostPorts) -> LbPlan {
        let owner = || Owner::Pod(Box::new((pod.uid.clone(), pod.pod.clone())));
        self.change(OwnerName::Pod(&pod.uid), Some(lower_host_ports(pod)), owner)
    }

    /// A pod is gone; nothing happens when it had no host ports.
    pub fn remove_host_ports(&mut self, pod: &PodUid) -> LbPlan {
        let Some(place) = self.entries.find(OwnerName::Pod(pod)) else { return LbPlan::default() };
        let Some(owner) = self.entries.get(place).map(|entry| entry.owner.clone()) else { return LbPlan::default() };
        self.change(OwnerName::Pod(pod), None, || owner)
    }

    fn lower(&self, input: &Input) -> Lowered {
        Lowered {
            created: input.service.created,
            groups: groups(&input.service, &input.endpoints, &self.settings),
            health: Health::of(input),
        }
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
        self.numbers_of(OwnerName::Service(key))
    }

    /// Numbers that a pod's host ports have in the tables and in the counters.
    pub fn host_port_numbers(&self, pod: &PodUid) -> impl Iterator<Item = u32> {
        self.numbers_of(OwnerName::Pod(pod))
    }

    fn numbers_of(&self, name: OwnerName<'_>) -> impl Iterator<Item = u32> + use<'_> {
        let entry = self.entries.find(name).and_then(|place| self.entries.get(place));
        entry.into_iter().flat_map(|entry| &entry.groups).map(|group| group.id).filter(|id| *id != 0)
    }

    /// Frontends that more than one asks for.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        let conflict = |key: &FrontendKey, winner: &Entry, loser: &Entry| Conflict {
            frontend: crate::address::socket_text(key.addr, key.port, key.proto),
            winner: winner.owner.public(),
            loser: loser.owner.public(),
        };
        let mut conflicts = Vec::new();
        for (key, places) in self.claims.contested() {
            let Some(winner) = self.claims.winner(&key).and_then(|place| self.entries.get(place)) else { continue };
            let entries = places.into_iter().filter_map(|place| self.entries.get(place));
            let mut losers: Vec<&Entry> = entries.filter(|one| one.owner.name() != winner.owner.name()).collect();
            losers.sort_by(|a, b| a.order(b));
            conflicts.extend(losers.into_iter().map(|loser| conflict(&key, winner, loser)));
        }
        for (node_port, key, place) in self.claims.watched() {
            let winner = self.claims.winner(&node_port).and_then(|place| self.entries.get(place));
            let Some(winner) = winner.filter(|winner| winner.owner.service().is_some()) else { continue };
            conflicts.extend(self.entries.get(place).map(|loser| conflict(&key, winner, loser)));
        }
        conflicts
    }

    /// Who has this frontend, and what the tables have for it.
    pub(crate) fn frontend(&self, key: &FrontendKey) -> Option<(&Owner, Frontend)> {
        let place = self.claims.winner(key)?;
        let entry = self.entries.get(place)?;
        let mut groups = entry.groups.iter().filter(|group| group.id != 0);
        let (group, own) = groups.find_map(|group| {
            let own = group.frontends.iter().find(|(own, _)| own == key)?;
            Some((group, own))
        })?;
        self.has(place, own).then(|| (&entry.owner, self.frontend_of(group, own.1)))
    }

    /// All host ports: pod, frontend, backend, and who else has it.
    pub(crate) fn host_ports(&self) -> Vec<(&PodKey, FrontendKey, BackendName, Option<&Owner>)> {
        let mut all = Vec::new();
        for (place, entry) in self.entries.iter() {
            let Owner::Pod(pod) = &entry.owner else { continue };
            for group in &entry.groups {
                let target = group.targets.first().and_then(|target| self.backends.get(target.place()));
                let (Some(own), Some(target)) = (group.frontends.first(), target) else { continue };
                let winner = self.claims.winner(&own.0).filter(|winner| *winner != place).or_else(|| {
                    let node_port = entry::node_port_of(&own.0, own.1).filter(|_| !self.has(place, own))?;
                    self.claims.winner(&node_port)
                });
                let winner = winner.and_then(|place| self.entries.get(place)).map(|entry| &entry.owner);
                all.push((&pod.1, own.0, target.name, winner));
            }
        }
        all
    }

    /// A backend's number and whether it takes new connections.
    pub(crate) fn backend(&self, name: BackendName) -> Option<(u32, bool)> {
        let used = self.backends.get(self.backends.find(name)?)?;
        (used.all > 0).then_some((used.id, used.usable > 0))
    }

    fn change(&mut self, name: OwnerName<'_>, lowered: Option<Lowered>, owner: impl FnOnce() -> Owner) -> LbPlan {
        self.changes += 1;
        let old = self.entries.find(name);
        let affected = self.affected(old, lowered.as_ref());
        let mut places = self.concerned(&affected, lowered.as_ref());
        let (current, served) = self.current(&affected, &places);
        affected.iter().for_each(|place| self.count(*place, false));
        let mut affected = affected;
        match (old, lowered) {
            (old, Some(lowered)) => {
                let place = old.unwrap_or_else(|| self.entries.insert(Entry::named(owner())));
                self.withdraw(place);
                self.replace(place, &lowered);
                self.claim(place);
                affected.insert(place);
            }
            (Some(place), None) => {
                self.withdraw(place);
                if let Some(entry) = self.entries.remove(place) {
                    self.release(&entry.groups);
                }
            }
            (None, None) => {}
        }

        for place in self.by_name(affected.iter().copied()) {
            self.emit(place, &current);
        }
        let dead =
            served.into_iter().filter(|(place, _)| self.backends.get(*place).is_none_or(|used| used.serving == 0));
        let dead: Vec<SocketAddr> = dead.filter_map(|(_, name)| udp_socket(&name)).collect();
        places.extend(self.targets(&affected));
        let wanted = self.now(&affected, &mut places);
        for place in places {
            if self.backends.get(place).is_some_and(|used| used.all == 0 && used.id != 0) {
                self.retire(place);
            }
        }
        LbPlan(diff(&current, &wanted).0, dead)
    }

    /// Whose entries a change may touch: its own, and of those who ask for the same.
    fn affected(&self, old: Option<Place>, lowered: Option<&Lowered>) -> BTreeSet<Place> {
        let mut affected: BTreeSet<Place> = old.into_iter().collect();
        let claimed = old.and_then(|place| self.entries.get(place)).map(Entry::frontends).unwrap_or_default();
        let claiming = lowered.iter().flat_map(|lowered| &lowered.groups).flat_map(|group| &group.frontends);
        for key in claimed.iter().chain(claiming.map(|(key, _)| key)) {
            affected.extend(self.claims.concerned(key));
        }
        affected
    }

    /// The backends of these entries.
    fn targets(&self, entries: &BTreeSet<Place>) -> impl Iterator<Item = Place> {
        let entries = entries.iter().filter_map(|place| self.entries.get(*place));
        entries.flat_map(|entry| &entry.groups).flat_map(|group| &group.targets).map(|target| target.place())
    }

    /// Backends that a change may touch. What others brought into the tables is there
    /// for it too.
    fn concerned(&self, affected: &BTreeSet<Place>, lowered: Option<&Lowered>) -> Vec<Place> {
        let groups = lowered.iter().flat_map(|lowered| &lowered.groups);
        let named = groups.flat_map(|group| &group.backends).filter_map(|(name, _)| self.backends.find(*name));
        named.chain(self.targets(affected)).collect()
    }

    /// What the maps hold of these, and which of the UDP backends among them serve.
    fn current(&self, affected: &BTreeSet<Place>, places: &[Place]) -> (LbTables, Vec<(Place, BackendName)>) {
        let mut places = places.to_vec();
        let current = self.now(affected, &mut places);
        let used = places.into_iter().filter_map(|place| Some((place, self.backends.get(place)?)));
        let served = used.filter(|(_, used)| used.serving > 0 && udp_socket(&used.name).is_some());
        (current, served.map(|(place, used)| (place, used.name)).collect())
    }

    /// The elements of these entries and backends as they are now. Each backend once.
    fn now(&self, affected: &BTreeSet<Place>, places: &mut Vec<Place>) -> LbTables {
        let mut tables = LbTables::default();
        for (place, entry) in affected.iter().filter_map(|place| Some((*place, self.entries.get(*place)?))) {
            self.contribute_lists(place, entry, &mut tables);
        }
        places.sort_unstable();
        places.dedup();
        let used = places.iter().filter_map(|place| self.backends.get(*place)).filter(|used| used.all > 0);
        tables.backends = used.map(|used| (used.id, used.backend())).collect();
        tables
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
        let name = |place: &Place| self.entries.get(*place).map(|entry| entry.owner.name());
        places.sort_by(|a, b| name(a).cmp(&name(b)));
        places
    }
}

fn lower_host_ports(pod: &HostPorts) -> Lowered {
    Lowered { created: pod.created, groups: host_groups(pod), health: None }
}
