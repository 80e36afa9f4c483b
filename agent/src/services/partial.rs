//! What of a plan can still be carried out when one of its operations failed. Pure.

use orlop_lb::MapOp;
use std::collections::BTreeSet;

/// The operations after `failed` that do not hang on it, in their order. The Service that it was
/// for stays as it was, with all that it uses; every other one gets what the plan has for it.
pub(super) fn after(failed: &MapOp, rest: &[MapOp]) -> Vec<MapOp> {
    let held = held(failed, rest);
    let removal = |op: &MapOp| {
        matches!(
            op,
            MapOp::RemoveFrontend { .. }
                | MapOp::RemoveSlot { .. }
                | MapOp::RemoveSourceRange { .. }
                | MapOp::RemoveBackend { .. }
        )
    };
    // A plan adds first. What comes after a removal has begun is about backends that are needed no more.
    let mut removing = removal(failed);
    let mut left = Vec::new();
    for op in rest {
        removing |= removal(op);
        let good = match op {
            MapOp::PutBackend { .. } => held.is_empty() || !removing,
            MapOp::PutSlot { key, .. } | MapOp::RemoveSlot { key } => !held.contains(&key.service),
            MapOp::PutSourceRange { key } | MapOp::RemoveSourceRange { key } => {
                !held.contains(&u32::from_be_bytes(key.service))
            }
            MapOp::PutFrontend { frontend, .. } => !held.contains(&frontend.service),
            MapOp::RemoveFrontend { .. } => true,
            // A Service that stays as it was may lead to it.
            MapOp::RemoveBackend { .. } => held.is_empty(),
        };
        if good {
            left.push(*op);
        }
    }
    left
}

/// Numbers of the Services that stay as they were.
fn held(failed: &MapOp, rest: &[MapOp]) -> BTreeSet<u32> {
    match failed {
        MapOp::PutBackend { id, .. } => {
            let leads_there = |op: &MapOp| match op {
                MapOp::PutSlot { key, block } if block.contains(id) => Some(key.service),
                _ => None,
            };
            rest.iter().filter_map(leads_there).collect()
        }
        MapOp::PutSlot { key, .. } => BTreeSet::from([key.service]),
        MapOp::PutSourceRange { key } => BTreeSet::from([u32::from_be_bytes(key.service)]),
        MapOp::PutFrontend { frontend, .. } => BTreeSet::from([frontend.service]),
        MapOp::RemoveFrontend { .. }
        | MapOp::RemoveSlot { .. }
        | MapOp::RemoveSourceRange { .. }
        | MapOp::RemoveBackend { .. } => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_ebpf_abi::{Backend, Frontend, FrontendKey, SlotKey, SourceRangeKey};

    fn put_backend(id: u32) -> MapOp {
        MapOp::PutBackend { id, backend: Backend { addr: [0; 16], port: [0; 2], proto: 6, state: 0 } }
    }

    fn slot(service: u32, epoch: u32) -> SlotKey {
        SlotKey { service, epoch, block: 0 }
    }

    fn put_slot(service: u32, backend: u32) -> MapOp {
        let mut block = [0; 16];
        block[0] = backend;
        MapOp::PutSlot { key: slot(service, 2), block }
    }

    fn frontend(service: u32) -> FrontendKey {
        FrontendKey { addr: [service as u8; 16], port: [0, 80], proto: 6, pad: 0 }
    }

    fn put_frontend(service: u32) -> MapOp {
        MapOp::PutFrontend { key: frontend(service), frontend: Frontend { service, ..Frontend::default() } }
    }

    fn range(service: u32) -> SourceRangeKey {
        SourceRangeKey { bits: 32, service: service.to_be_bytes(), addr: [0; 16] }
    }

    /// Two Services with backends 1 and 2 get new lists; 3 is removed with its backend 9.
    fn plan() -> Vec<MapOp> {
        vec![
            put_backend(1),
            put_backend(2),
            put_slot(1, 1),
            put_slot(2, 2),
            MapOp::PutSourceRange { key: range(2) },
            put_frontend(1),
            put_frontend(2),
            MapOp::RemoveFrontend { key: frontend(3) },
            MapOp::RemoveSlot { key: slot(1, 1) },
            MapOp::RemoveSlot { key: slot(2, 1) },
            MapOp::RemoveSlot { key: slot(3, 1) },
            MapOp::RemoveSourceRange { key: range(3) },
            put_backend(8),
            MapOp::RemoveBackend { id: 9 },
        ]
    }

    /// Places of the plan that are still carried out when the one at `failed` was not.
    #[track_caller]
    fn check(failed: usize, want: &[usize]) {
        let plan = plan();
        let left = after(&plan[failed], &plan[failed + 1..]);
        let places: Vec<usize> = left.iter().map(|op| plan.iter().position(|one| one == op).unwrap()).collect();
        assert_eq!(places, want, "after {failed}");
    }

    #[test]
    fn only_what_hangs_on_it_waits() {
        // Backend 1 is for Service 1, whose old list stays whole: its backends, too.
        check(0, &[1, 3, 4, 6, 7, 9, 10, 11]);
        check(2, &[3, 4, 6, 7, 9, 10, 11]);
        check(4, &[5, 7, 8, 10, 11]);
        check(5, &[6, 7, 9, 10, 11]);
        // A removal that failed holds up nothing.
        check(7, &[8, 9, 10, 11, 12, 13]);
        check(13, &[]);
    }
}
