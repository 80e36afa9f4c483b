//! Are the maps what the plans have led to? Asked element by element, so that nobody
//! has to hold all of them.

use super::Compiler;
use super::emit::range_keys;
use super::entry::Group;
use crate::ids::backend_name;
use crate::tables::blocks;
use hashbrown::HashMap;
use orlop_ebpf_abi::{Backend, Frontend, FrontendKey, SLOTS_A_BLOCK, SlotBlock, SlotKey, SourceRangeKey};

/// One look at the kernel's maps, element by element in any order. Read and tell each
/// while nothing is being changed (hold the lock that changes take, for as many
/// elements as you like at a time). When [`finish`](Self::finish) finds anything, dump
/// the maps and ask [`Compiler::resync`].
#[derive(Debug, Default)]
pub struct Audit {
    seen: u64,
    wrong: u64,
    /// [`Compiler::changes`] at the first element; `None` before it.
    began: Option<u64>,
    disturbed: bool,
    /// Lists of more than one block, because they are long to make: by number. No more
    /// than what `SLOTS` holds, 64 bytes an element.
    lists: HashMap<u32, Vec<u32>>,
}

/// What an audit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditReport {
    /// Elements seen.
    pub seen: u64,
    /// Of those, the ones that ought not to be there, or not with that value.
    pub wrong: u64,
    /// Elements that ought to be there and were not seen; 0 when plans were made
    /// meanwhile, because then nobody can tell.
    pub missing: u64,
}

impl AuditReport {
    /// Whether the maps are as they ought to be, as far as was seen.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.wrong == 0 && self.missing == 0
    }
}

impl Audit {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn note(&mut self, good: bool) -> bool {
        self.seen += 1;
        self.wrong += u64::from(!good);
        good
    }

    fn follow(&mut self, compiler: &Compiler) {
        let began = *self.began.get_or_insert(compiler.changes);
        if began != compiler.changes {
            (self.began, self.disturbed) = (Some(compiler.changes), true);
            self.lists.clear();
        }
    }

    /// An element of `FRONTENDS`; whether it is as it ought to be.
    pub fn frontend(&mut self, compiler: &Compiler, key: &FrontendKey, value: &Frontend) -> bool {
        self.follow(compiler);
        self.note(compiler.frontend(key).is_some_and(|(_, wanted)| wanted == *value))
    }

    /// An element of `BACKENDS`; whether it is as it ought to be.
    pub fn backend(&mut self, compiler: &Compiler, id: u32, value: &Backend) -> bool {
        self.follow(compiler);
        let used = compiler.backends.find(backend_name(value)).and_then(|place| compiler.backends.get(place));
        self.note(used.is_some_and(|used| used.all > 0 && used.id == id && used.backend() == *value))
    }

    /// An element of `SLOTS`; whether it is as it ought to be.
    pub fn slots(&mut self, compiler: &Compiler, key: &SlotKey, value: &SlotBlock) -> bool {
        self.follow(compiler);
        let Some(group) = compiler.group(key.service).filter(|group| group.epoch == key.epoch) else {
            return self.note(false);
        };
        if !self.lists.contains_key(&key.service) {
            let slots = compiler.list(group).slots;
            if slots.len() <= SLOTS_A_BLOCK as usize {
                let good = blocks(key.service, key.epoch, &slots).any(|wanted| wanted == (*key, *value));
                return self.note(good);
            }
            self.lists.insert(key.service, slots);
        }
        let slots = self.lists.get(&key.service).map(Vec::as_slice).unwrap_or_default();
        let start = key.block as usize * SLOTS_A_BLOCK as usize;
        let own = slots.get(start..).unwrap_or_default();
        let own = &own[..own.len().min(SLOTS_A_BLOCK as usize)];
        let good = !own.is_empty() && value.starts_with(own) && value[own.len()..].iter().all(|id| *id == 0);
        self.note(good)
    }

    /// An element of `SOURCE_RANGES`; whether it ought to be there.
    pub fn source_range(&mut self, compiler: &Compiler, key: &SourceRangeKey) -> bool {
        self.follow(compiler);
        let group = compiler.group(u32::from_be_bytes(key.service));
        self.note(group.is_some_and(|group| range_keys(group).any(|wanted| wanted == *key)))
    }

    /// What was found, after the last element of all four maps.
    #[must_use]
    pub fn finish(mut self, compiler: &Compiler) -> AuditReport {
        self.follow(compiler);
        let wanted = if self.disturbed { 0 } else { compiler.elements() };
        let missing = wanted.saturating_sub(self.seen - self.wrong);
        AuditReport { seen: self.seen, wrong: self.wrong, missing }
    }
}

impl Compiler {
    fn group(&self, number: u32) -> Option<&Group> {
        let entry = self.entries.get(*self.numbers.get(&number)?)?;
        entry.groups.iter().find(|group| group.id == number)
    }

    /// How many elements the four maps ought to hold.
    fn elements(&self) -> u64 {
        let mut elements = self.backends.iter().filter(|(_, used)| used.all > 0).count() as u64;
        for (place, entry) in self.entries.iter() {
            for group in entry.groups.iter().filter(|group| group.id != 0) {
                let won = group.frontends.iter().filter(|frontend| self.has(place, frontend)).count();
                elements += (won + group.ranges.len()) as u64 + u64::from(self.frontend_of(group, 0).blocks());
            }
        }
        elements
    }
}
