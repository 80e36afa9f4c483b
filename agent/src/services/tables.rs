//! The eBPF tables of the Services: written, and repaired when a write failed.

use super::Services;
use super::partial::Held;
use crate::events::{EventLog, NODE};
use crate::health::TableHealth;
use crate::pod::chain;
use jiff::Timestamp;
use orlop_datapath::Error;
use orlop_lb::{LbPlan, MapOp};
use orlop_model::EventKind;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{MutexGuard, PoisonError};

/// After an operation of a plan failed, so many are tried at a time.
const PART: usize = 1_024;

/// Why the tables are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WriteProblem {
    /// A map has no room.
    Full(&'static str),
    /// Anything else, in words.
    Other(String),
}

impl WriteProblem {
    fn of(error: &Error) -> Self {
        // Which operation it was says little: thousands of them may fail for one reason.
        let cause = if let Error::Apply { source, .. } = error { source } else { error };
        full_map(cause).map_or_else(|| Self::Other(chain(cause)), Self::Full)
    }
}

/// The map that had no room, when that is what went wrong.
fn full_map(error: &Error) -> Option<&'static str> {
    // Of a hash map and of a trie (kernel/bpf/hashtab.c, lpm_trie.c).
    const FULL: [nix::errno::Errno; 2] = [nix::errno::Errno::E2BIG, nix::errno::Errno::ENOSPC];
    match error {
        Error::Map { map, source, .. } => {
            let number = source.raw_os_error()?;
            FULL.iter().any(|errno| *errno as i32 == number).then_some(map)
        }
        _ => None,
    }
}

impl Services {
    /// Whether the tables are what they should be.
    pub fn table_health(&self) -> TableHealth {
        *self.health()
    }

    fn health(&self) -> MutexGuard<'_, TableHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a plan out. What of it fails is told and repaired after a while.
    pub(super) fn write(&self, plan: &LbPlan, events: &EventLog) {
        let problems = self.carry_out(plan);
        // After it: a socket that is ended connects again at once, and is to find another. A backend that was
        // draining may die without anything to write.
        self.bury(plan.dead_udp_backends());
        if plan.is_empty() {
            return;
        }
        if problems.is_empty() {
            return self.health().written(Timestamp::now());
        }
        self.health().failed(Timestamp::now());
        self.complain(problems, events);
        self.repair.notify_one();
    }

    /// Carries out all that can be; gives what went wrong. One Service that cannot be written
    /// holds up no other.
    fn carry_out(&self, plan: &LbPlan) -> BTreeSet<WriteProblem> {
        let Err(error) = self.datapath.apply(&plan.0) else { return BTreeSet::new() };
        let mut problems = BTreeSet::from([WriteProblem::of(&error)]);
        let Error::Apply { index, op, .. } = error else { return problems };
        let (done, later) = plan.0.split_at(index);
        let mut held = Held::none(&plan.0);
        for op in done {
            let _ = held.lets(op);
        }
        held.failed(&op);
        for part in later[1..].chunks(PART) {
            let mut ops: Vec<MapOp> = part.iter().filter(|op| held.lets(op)).copied().collect();
            while let Err(error) = self.datapath.apply(&ops) {
                problems.insert(WriteProblem::of(&error));
                let Error::Apply { index, op, .. } = error else { return problems };
                held.failed(&op);
                ops.drain(..=index);
                ops.retain(|op| held.lets(op));
            }
        }
        problems
    }

    /// Tells of each problem once, until all is well again.
    fn complain(&self, problems: BTreeSet<WriteProblem>, events: &EventLog) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems {
            let (reason, message) = match &problem {
                WriteProblem::Full(map) => ("TableFull", self.full(map)),
                WriteProblem::Other(problem) => {
                    let what = "service map operations failed and are repaired from what the maps hold";
                    ("ServiceMapWriteFailed", format!("{what}: {problem}"))
                }
            };
            if told.insert(problem) {
                events.record(NODE, EventKind::Warning, reason, message);
            }
        }
    }

    /// What to do about a map without room.
    fn full(&self, map: &str) -> String {
        let more = crate::upkeep::more_room(&self.datapath, map);
        format!("{more}; Services that did not fit stay as they were, and it is tried again")
    }

    /// Waits until a write has failed.
    pub async fn some_failed(&self) {
        self.repair.notified().await;
    }

    /// Makes the tables what they should be, from what they hold; whether that worked. Takes about a second a
    /// million elements.
    pub fn repair(&self, events: &EventLog) -> bool {
        let mut inner = self.lock();
        if !inner.open {
            return true;
        }
        let plan = match self.datapath.dump() {
            Ok(dump) => inner.compiler.resync(dump),
            Err(error) => {
                events.record(NODE, EventKind::Warning, "ServiceMapReadFailed", chain(&error));
                return false;
            }
        };
        let problems = self.carry_out(&plan);
        self.bury(plan.dead_udp_backends());
        if problems.is_empty() {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.health().repaired(Timestamp::now());
            return true;
        }
        self.complain(problems, events);
        false
    }

    /// UDP backends that answer no more: their clients' sockets are to hear of it.
    fn bury(&self, dead: impl Iterator<Item = SocketAddr>) {
        let mut all = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.extend(dead);
        if all.len() > before {
            self.died.notify_one();
        }
    }

    /// Waits until UDP backends have died, and gives all that have since the last time.
    pub async fn died(&self) -> BTreeSet<SocketAddr> {
        loop {
            let dead = std::mem::take(&mut *self.dead.lock().unwrap_or_else(PoisonError::into_inner));
            if !dead.is_empty() {
                return dead;
            }
            self.died.notified().await;
        }
    }
}
