//! All Services at once.

use crate::ids::{BackendName, GroupKey, Ids};
use crate::lower::{Claims, Group, Part, emit, groups};
use crate::{Endpoint, LbTables, Service};
use orlop_ebpf_abi::{Backend, BackendState};
use orlop_model::ServiceKey;
use std::collections::{BTreeMap, BTreeSet};

/// A Service with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The Service, address assigned.
    pub service: Service,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A Service in the compiler: as given, lowered, and what it has in the tables.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub input: Input,
    pub groups: Vec<Group>,
    pub part: Part,
}

impl Entry {
    pub(crate) fn new(input: Input) -> Self {
        let groups = groups(&input.service, &input.endpoints);
        Self { input, groups, part: Part::default() }
    }
}

/// The tables that serve these Services, keeping the numbers and epochs of
/// `present` and `ids` wherever nothing changed, so that [`diff`](crate::diff) is
/// short. Of two inputs with one key the later counts.
#[must_use]
pub fn compile(inputs: impl IntoIterator<Item = Input>, present: &LbTables, ids: &mut Ids) -> LbTables {
    let mut entries: BTreeMap<ServiceKey, Entry> = BTreeMap::new();
    for input in inputs {
        entries.insert(input.service.key.clone(), Entry::new(input));
    }
    let claims = claims(&entries);
    adopt(&entries, &claims, present, ids);
    emit_all(&mut entries, &claims, present, ids)
}

pub(crate) fn claims(entries: &BTreeMap<ServiceKey, Entry>) -> Claims {
    let mut claims = Claims::new();
    for entry in entries.values() {
        for (key, _) in entry.groups.iter().flat_map(|group| &group.frontends) {
            claims.entry(*key).or_default().insert(entry.input.service.rank());
        }
    }
    claims
}

pub(crate) fn emit_all(
    entries: &mut BTreeMap<ServiceKey, Entry>,
    claims: &Claims,
    present: &LbTables,
    ids: &mut Ids,
) -> LbTables {
    let mut tables = LbTables::default();
    let mut usable: BTreeSet<BackendName> = BTreeSet::new();
    let mut all: BTreeSet<BackendName> = BTreeSet::new();
    let mut numbered: BTreeSet<GroupKey> = BTreeSet::new();
    for entry in entries.values_mut() {
        let rank = entry.input.service.rank();
        let part = emit(&entry.groups, &rank, claims, present, ids);
        tables.frontends.extend(part.frontends.iter().copied());
        tables.slots.extend(part.slots.iter().copied());
        usable.extend(&part.usable);
        all.extend(&part.all);
        numbered.extend(part.numbers.iter().map(|(group, _)| group.clone()));
        entry.part = part;
    }
    for name in &all {
        tables.backends.insert(ids.backend(*name), backend(name, usable.contains(name)));
    }
    ids.retain(&numbered, &all);
    tables
}

/// A backend is active while a slot names it, and drains while it is only an
/// endpoint (terminating, or not ready): connections that it has go on.
pub(crate) fn backend(name: &BackendName, usable: bool) -> Backend {
    let state = if usable { BackendState::Active } else { BackendState::Draining };
    Backend { addr: name.0, port: name.1, proto: name.2, state: state as u8 }
}

/// Gives Service ports without a number the one that their frontends in `present`
/// have: who they were before a restart.
pub(crate) fn adopt(entries: &BTreeMap<ServiceKey, Entry>, claims: &Claims, present: &LbTables, ids: &mut Ids) {
    let mut held = ids.held();
    for entry in entries.values() {
        let rank = entry.input.service.rank();
        for group in &entry.groups {
            if ids.knows(&group.key) {
                continue;
            }
            let won = group.frontends.iter().filter(|(key, _)| crate::lower::wins(claims, key, &rank));
            let mut seen = won.filter_map(|(key, _)| present.frontends.get(key)).map(|frontend| frontend.service);
            if let Some(id) = seen.find(|id| !held.contains(id)) {
                ids.adopt(&group.key, id, &mut held);
            }
        }
    }
}
