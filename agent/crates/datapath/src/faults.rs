//! What was not done for want of room, and how full the tables are.

use orlop_ebpf_abi::{Fault, MAPS, MapKind, MapSpec};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::table::BATCH_ENTRIES;
use crate::{Datapath, Error, sys};

/// How full a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableUse {
    /// Name of the map.
    pub name: &'static str,
    /// Elements that it holds. A table that forgets what was used least (`LruHash`) is full
    /// most of the time; one that is not refuses more when it is.
    pub entries: u32,
    /// Elements that it has room for.
    pub max_entries: u32,
}

/// Tables whose elements are there from the start.
const fn has_room(kind: MapKind) -> bool {
    !matches!(kind, MapKind::Array | MapKind::PerCpuArray)
}

const fn is_per_cpu(kind: MapKind) -> bool {
    matches!(kind, MapKind::PerCpuHash | MapKind::PerCpuArray)
}

/// Counts elements, in some thousands at a time.
fn count(map: BorrowedFd<'_>, spec: &MapSpec, max_entries: u32, cpus: usize) -> io::Result<u32> {
    // The kernel rounds per-CPU values up to eight bytes.
    let value_bytes = spec.value_size as usize;
    let value_bytes = if is_per_cpu(spec.kind) { value_bytes.next_multiple_of(8) * cpus } else { value_bytes };
    let room = max_entries.min(BATCH_ENTRIES);
    let mut keys = vec![0_u8; room as usize * spec.key_size as usize];
    let mut values = vec![0_u8; room as usize * value_bytes];
    let (mut entries, mut last) = (0, None);
    for _ in 0..=max_entries {
        let mut next = [0; size_of::<sys::Batch>()];
        // SAFETY: there is room for as many keys and values as are asked for.
        let read = unsafe {
            sys::map_lookup_batch(map, last.as_ref(), &mut next, keys.as_mut_ptr(), values.as_mut_ptr(), room)
        };
        let (read, done) = read?;
        entries += read;
        if done {
            break;
        }
        last = Some(next);
    }
    Ok(entries)
}

impl Datapath {
    /// How often each thing could not be done since the maps were made, the sum over all CPUs.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn faults(&self) -> Result<Vec<(Fault, u64)>, Error> {
        let count = |&(fault, _): &(Fault, &str)| {
            let cpus = self.faults.get_per_cpu(&(fault as u32), self.cpus)?;
            Ok((fault, cpus.into_iter().flatten().sum()))
        };
        Fault::ALL.iter().map(count).collect()
    }

    /// How full each table is. Reads them whole: for a look now and then.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn table_use(&self) -> Result<Vec<TableUse>, Error> {
        let look = |spec: &'static MapSpec| {
            let path = self.layout.map(spec.name);
            let map = sys::open_pin(&path).map_err(|source| Error::Pin { operation: "open pin", path, source })?;
            let failed = |source| Error::Map { operation: "count", map: spec.name, source };
            let max_entries = sys::map_info(map.as_fd()).map_err(failed)?.max_entries;
            let entries = count(map.as_fd(), spec, max_entries, self.cpus).map_err(failed)?;
            Ok(TableUse { name: spec.name, entries, max_entries })
        };
        MAPS.iter().filter(|spec| has_room(spec.kind)).map(look).collect()
    }
}
