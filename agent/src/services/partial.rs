//! What of a plan can still be carried out when one of its operations failed. Pure.

use orlop_lb::MapOp;
use std::collections::{BTreeMap, BTreeSet};

/// What waits for the repair: Services of which an operation failed stay as they were, with all that
/// they use; every other one gets what the plan has for it.
#[derive(Debug)]
pub(super) struct Held {
    services: BTreeSet<u32>,
    /// Services that the plan leads to each backend.
    users: BTreeMap<u32, BTreeSet<u32>>,
    /// The plan adds first. What comes after a removal is about backends that are needed no more.
    removing: bool,
}

impl Held {
    /// Nothing of this plan has failed yet.
    pub fn none(plan: &[MapOp]) -> Self {
        let mut users: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for op in plan {
            if let MapOp::PutSlot { key, block } = op {
                for id in block.iter().filter(|id| **id != 0) {
                    users.entry(*id).or_default().insert(key.service);
                }
            }
        }
        Self { services: BTreeSet::new(), users, removing: false }
    }

    /// An operation failed.
    pub fn failed(&mut self, op: &MapOp) {
        match op {
            MapOp::PutBackend { id, .. } => self.services.extend(self.users.get(id).into_iter().flatten()),
            MapOp::PutSlot { key, .. } => drop(self.services.insert(key.service)),
            MapOp::PutSourceRange { key } => drop(self.services.insert(u32::from_be_bytes(key.service))),
            MapOp::PutFrontend { frontend, .. } => drop(self.services.insert(frontend.service)),
            MapOp::RemoveFrontend { .. }
            | MapOp::RemoveSlot { .. }
            | MapOp::RemoveSourceRange { .. }
            | MapOp::RemoveBackend { .. } => self.removing = true,
        }
    }

    /// Whether an operation may be carried out all the same; to be asked in their order.
    pub fn lets(&mut self, op: &MapOp) -> bool {
        self.removing |= matches!(
            op,
            MapOp::RemoveFrontend { .. }
                | MapOp::RemoveSlot { .. }
                | MapOp::RemoveSourceRange { .. }
                | MapOp::RemoveBackend { .. }
        );
        match op {
            MapOp::PutBackend { .. } => self.services.is_empty() || !self.removing,
            MapOp::PutSlot { key, .. } | MapOp::RemoveSlot { key } => !self.services.contains(&key.service),
            MapOp::PutSourceRange { key } | MapOp::RemoveSourceRange { key } => {
                !self.services.contains(&u32::from_be_bytes(key.service))
            }
            MapOp::PutFrontend { frontend, .. } => !self.services.contains(&frontend.service),
            MapOp::RemoveFrontend { .. } => true,
            // A Service that stays as it was may lead to it.
            MapOp::RemoveBackend { .. } => self.services.is_empty(),
        }
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
        let mut held = Held::none(&plan);
        assert!(plan[..failed].iter().all(|op| held.lets(op)));
        held.failed(&plan[failed]);
        let places: Vec<usize> = (failed + 1..plan.len()).filter(|place| held.lets(&plan[*place])).collect();
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
