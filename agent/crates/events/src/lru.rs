//! A map of limited size that forgets what was not used for longest.

use crate::digest::Digest;
use std::collections::{BTreeMap, HashMap};

/// At most `max` values.
#[derive(Debug)]
pub(crate) struct Lru<V> {
    max: usize,
    clock: u64,
    values: HashMap<Digest, (u64, V)>,
    /// By when they were last used.
    order: BTreeMap<u64, Digest>,
}

impl<V> Lru<V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max: max.max(1), clock: 0, values: HashMap::new(), order: BTreeMap::new() }
    }

    /// The value, used now; made if there is none, in place of the oldest when there is no room.
    pub(crate) fn entry(&mut self, key: Digest, make: impl FnOnce() -> V) -> &mut V {
        self.clock += 1;
        let clock = self.clock;
        if let Some((used, _)) = self.values.get(&key) {
            self.order.remove(used);
        } else if self.values.len() == self.max {
            let oldest = self.order.pop_first();
            oldest.and_then(|(_, key)| self.values.remove(&key));
        }
        self.order.insert(clock, key);
        let (used, value) = self.values.entry(key).or_insert_with(|| (clock, make()));
        *used = clock;
        value
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.values.len(), self.order.len());
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;

    #[test]
    fn the_one_not_used_for_longest_goes() {
        let key = |text: &str| digest(&[text]);
        let mut lru = Lru::new(2);
        *lru.entry(key("a"), || 0) = 1;
        *lru.entry(key("b"), || 0) = 2;
        assert_eq!(*lru.entry(key("a"), || 0), 1);
        *lru.entry(key("c"), || 0) = 3;
        assert_eq!(lru.len(), 2);
        assert_eq!(*lru.entry(key("a"), || 0), 1);
        assert_eq!(*lru.entry(key("b"), || 0), 0, "b had to make room");
    }
}
