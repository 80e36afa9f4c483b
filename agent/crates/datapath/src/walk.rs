//! The service tables element by element, so that nobody has to hold all of them.

use orlop_ebpf_abi::{Backend, Frontend, FrontendKey, SlotBlock, SlotKey, SourceRangeKey};

use crate::table::{Plain, Table};
use crate::{Datapath, Error};

/// One element of the service tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableElement {
    /// Of `BACKENDS`.
    Backend(u32, Backend),
    /// Of `SLOTS`.
    Slots(SlotKey, SlotBlock),
    /// Of `SOURCE_RANGES`.
    SourceRange(SourceRangeKey),
    /// Of `FRONTENDS`.
    Frontend(FrontendKey, Frontend),
}

/// How far a walk is. The default is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableCursor(Place);

/// A map, and the last key of it that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Backends(Option<u32>),
    Slots(Option<SlotKey>),
    SourceRanges(Option<SourceRangeKey>),
    Frontends(Option<FrontendKey>),
}

impl Default for TableCursor {
    fn default() -> Self {
        Self(Place::Backends(None))
    }
}

impl Datapath {
    /// Shows `at_most` further elements, of one map, and gives how far the walk is then; `None` at the end of the
    /// last map. When the element where it stands was removed meanwhile, the kernel begins anew with that map:
    /// elements may be shown twice.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn walk_tables(
        &self,
        from: TableCursor,
        at_most: usize,
        mut each: impl FnMut(TableElement),
    ) -> Result<Option<TableCursor>, Error> {
        let next = match from.0 {
            Place::Backends(last) => {
                let last = walk(&self.backends, last, at_most, |id, value| each(TableElement::Backend(id, value)))?;
                last.map_or(Place::Slots(None), |last| Place::Backends(Some(last)))
            }
            Place::Slots(last) => {
                let last = walk(&self.slots, last, at_most, |key, value| each(TableElement::Slots(key, value)))?;
                last.map_or(Place::SourceRanges(None), |last| Place::Slots(Some(last)))
            }
            Place::SourceRanges(last) => {
                let last = walk(&self.source_ranges, last, at_most, |key, _| each(TableElement::SourceRange(key)))?;
                last.map_or(Place::Frontends(None), |last| Place::SourceRanges(Some(last)))
            }
            Place::Frontends(last) => {
                let show = |key, value| each(TableElement::Frontend(key, value));
                let Some(last) = walk(&self.frontends, last, at_most, show)? else { return Ok(None) };
                Place::Frontends(Some(last))
            }
        };
        Ok(Some(TableCursor(next)))
    }
}

/// Shows elements after `last`; gives the key of the last one, `None` at the end of the map.
fn walk<K: Plain, V: Plain>(
    table: &Table<K, V>,
    mut last: Option<K>,
    at_most: usize,
    mut each: impl FnMut(K, V),
) -> Result<Option<K>, Error> {
    for _ in 0..at_most {
        last = table.next_key(last.as_ref())?;
        let Some(key) = last else { return Ok(None) };
        if let Some(value) = table.get(&key)? {
            each(key, value);
        }
    }
    Ok(last)
}
