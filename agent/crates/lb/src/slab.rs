//! Items in one vector, found by name through an index of numbers: a name is kept
//! once, inside its item, and an item costs itself and some bytes.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hash};

/// What has a name.
pub(crate) trait Named {
    type Name<'a>: Hash + Eq + Copy
    where
        Self: 'a;
    fn name(&self) -> Self::Name<'_>;
}

/// Where an item is; given out anew after it was removed.
pub(crate) type Place = u32;

#[derive(Debug, Clone)]
pub(crate) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<Place>,
    index: HashTable<Place>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new(), index: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Named> Slab<T> {
    pub(crate) fn find<'a>(&'a self, name: T::Name<'a>) -> Option<Place> {
        let hash = self.hasher.hash_one(name);
        self.index.find(hash, |&place| self.get(place).is_some_and(|item| item.name() == name)).copied()
    }

    pub(crate) fn get(&self, place: Place) -> Option<&T> {
        self.items.get(place as usize)?.as_ref()
    }

    /// The caller leaves the item's name as it is.
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.items.get_mut(place as usize)?.as_mut()
    }

    /// Adds an item whose name is not there yet.
    pub(crate) fn insert(&mut self, item: T) -> Place {
        let hash = self.hasher.hash_one(item.name());
        let place = match self.free.pop() {
            Some(place) => {
                self.items[place as usize] = Some(item);
                place
            }
            None => {
                self.items.push(Some(item));
                // Four thousand million items do not fit into memory.
                u32::try_from(self.items.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (items, hasher) = (&self.items, &self.hasher);
        let rehash = |&other: &Place| items[other as usize].as_ref().map_or(0, |item| hasher.hash_one(item.name()));
        self.index.insert_unique(hash, place, rehash);
        place
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<T> {
        let item = self.items.get_mut(place as usize)?.take()?;
        let hash = self.hasher.hash_one(item.name());
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == place) {
            entry.remove();
        }
        self.free.push(place);
        Some(item)
    }

    /// In the order of places, which says nothing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        (0..).zip(&self.items).filter_map(|(place, item)| Some((place, item.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().flatten()
    }
}
