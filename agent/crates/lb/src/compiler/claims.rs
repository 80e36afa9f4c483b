//! Who asks for which frontend. Nearly always there is one, so only that one is
//! kept beside the frontend.

use crate::slab::Place;
use hashbrown::HashMap;
use orlop_ebpf_abi::FrontendKey;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Who has it: the first by rank of those who ask.
    first: HashMap<FrontendKey, Place>,
    /// Who else asks.
    others: BTreeMap<FrontendKey, Vec<Place>>,
    /// By the node port that would take them over: host ports on one address of the
    /// node, and who asks for them.
    watchers: BTreeMap<FrontendKey, Vec<(FrontendKey, Place)>>,
}

impl Claims {
    pub(super) fn winner(&self, key: &FrontendKey) -> Option<Place> {
        self.first.get(key).copied()
    }

    /// All who ask for it.
    pub(super) fn of(&self, key: &FrontendKey) -> impl Iterator<Item = Place> {
        self.winner(key).into_iter().chain(self.others.get(key).into_iter().flatten().copied())
    }

    /// Frontends that more than one asks for, and who.
    pub(super) fn contested(&self) -> impl Iterator<Item = (FrontendKey, Vec<Place>)> {
        self.others.keys().map(|key| (*key, self.of(key).collect()))
    }

    /// All who ask for it, or yield to who has it.
    pub(super) fn concerned(&self, key: &FrontendKey) -> impl Iterator<Item = Place> {
        self.of(key).chain(self.watchers.get(key).into_iter().flatten().map(|(_, place)| *place))
    }

    /// Host ports on one address that yield to a node port of the same number.
    pub(super) fn watched(&self) -> impl Iterator<Item = (FrontendKey, FrontendKey, Place)> {
        self.watchers.iter().flat_map(|(node, all)| all.iter().map(|(own, place)| (*node, *own, *place)))
    }

    pub(super) fn watch(&mut self, node: FrontendKey, own: FrontendKey, place: Place) {
        self.watchers.entry(node).or_default().push((own, place));
    }

    pub(super) fn unwatch(&mut self, node: &FrontendKey, place: Place) {
        let Some(all) = self.watchers.get_mut(node) else { return };
        all.retain(|(_, other)| *other != place);
        if all.is_empty() {
            self.watchers.remove(node);
        }
    }

    pub(super) fn add(&mut self, key: FrontendKey, place: Place, before: impl Fn(Place, Place) -> bool) {
        match self.first.get_mut(&key) {
            None => drop(self.first.insert(key, place)),
            Some(first) if *first == place => {}
            Some(first) => {
                let other = if before(place, *first) { std::mem::replace(first, place) } else { place };
                let others = self.others.entry(key).or_default();
                if !others.contains(&other) {
                    others.push(other);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, key: &FrontendKey, place: Place, before: impl Fn(Place, Place) -> bool) {
        let others = self.others.get_mut(key);
        if self.first.get(key) != Some(&place) {
            if let Some(others) = others {
                others.retain(|other| *other != place);
                if others.is_empty() {
                    self.others.remove(key);
                }
            }
            return;
        }
        let Some(others) = others else {
            self.first.remove(key);
            return;
        };
        let mut next = 0;
        for n in 1..others.len() {
            if before(others[n], others[next]) {
                next = n;
            }
        }
        self.first.insert(*key, others.swap_remove(next));
        if others.is_empty() {
            self.others.remove(key);
        }
    }
}
