//! The order in which one state of the maps becomes another.

use crate::{LbPlan, LbTables, MapOp};
use orlop_ebpf_abi::{Backend, BackendState};

/// The operations that turn `current` into `wanted`, ordered so that after each of
/// them every frontend finds all its slots and every slot an active backend:
///
/// 1. backends that are new or become active,
/// 2. slots and source ranges,
/// 3. frontends set, 4. frontends removed,
/// 5. slots and source ranges removed,
/// 6. backends that only drain from now on, and backends removed.
///
/// This holds when `wanted` never changes a slot under an epoch that a frontend
/// of `current` names, nor the address of a backend id; [`Compiler`](crate::Compiler)
/// takes care of both. A set of ranges that changes holds both for a moment: no client
/// of either is turned away. `diff(x, x)` is empty.
pub fn diff(current: &LbTables, wanted: &LbTables) -> LbPlan {
    let mut ops = Vec::new();
    let active = |backend: &Backend| backend.state == BackendState::Active as u8;
    let changed = || wanted.backends.iter().filter(|(id, backend)| current.backends.get(id) != Some(backend));
    // A new backend that only drains is nobody's target yet: it may come early.
    let early = |id: &u32, backend: &Backend| active(backend) || !current.backends.contains_key(id);

    ops.extend(changed().filter(|(id, be)| early(id, be)).map(|(&id, &backend)| MapOp::PutBackend { id, backend }));
    ops.extend(
        wanted
            .slots
            .iter()
            .filter(|(key, block)| current.slots.get(key) != Some(block))
            .map(|(&key, &block)| MapOp::PutSlot { key, block }),
    );
    ops.extend(wanted.source_ranges.difference(&current.source_ranges).map(|&key| MapOp::PutSourceRange { key }));
    ops.extend(
        wanted
            .frontends
            .iter()
            .filter(|(key, frontend)| current.frontends.get(key) != Some(frontend))
            .map(|(&key, &frontend)| MapOp::PutFrontend { key, frontend }),
    );
    ops.extend(
        current
            .frontends
            .keys()
            .filter(|key| !wanted.frontends.contains_key(key))
            .map(|&key| MapOp::RemoveFrontend { key }),
    );
    ops.extend(
        current.slots.keys().filter(|key| !wanted.slots.contains_key(key)).map(|&key| MapOp::RemoveSlot { key }),
    );
    ops.extend(current.source_ranges.difference(&wanted.source_ranges).map(|&key| MapOp::RemoveSourceRange { key }));
    ops.extend(changed().filter(|(id, be)| !early(id, be)).map(|(&id, &backend)| MapOp::PutBackend { id, backend }));
    ops.extend(
        current.backends.keys().filter(|id| !wanted.backends.contains_key(id)).map(|&id| MapOp::RemoveBackend { id }),
    );
    LbPlan(ops, Vec::new())
}
