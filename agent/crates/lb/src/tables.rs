//! The service maps as values, and the plan that changes one state into
//! another.

use crate::address::{flag_names, socket_text};
use crate::{addr_ip, address::range_text};
use orlop_ebpf_abi::{Backend, BackendState, Frontend, FrontendKey, SLOTS_A_BLOCK, SlotBlock, SlotKey, SourceRangeKey};
use orlop_model::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::SocketAddr;

/// What the maps hold, entry for entry: made by the compiler, or read from
/// the kernel as a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LbTables {
    /// Map `FRONTENDS`.
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// Map `SLOTS`: 16 backend ids each.
    pub slots: BTreeMap<SlotKey, SlotBlock>,
    /// Map `BACKENDS`, by backend id.
    pub backends: BTreeMap<u32, Backend>,
    /// Map `SOURCE_RANGES`; the value of each is 1.
    pub source_ranges: BTreeSet<SourceRangeKey>,
}

/// One operation on one map element. Each is idempotent: a put replaces, and a
/// removal of what is not there is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapOp {
    /// Set an element of `BACKENDS`.
    PutBackend {
        /// Backend id, never 0.
        id: u32,
        /// New value.
        backend: Backend,
    },
    /// Set an element of `SLOTS`.
    PutSlot {
        /// Its key.
        key: SlotKey,
        /// Backend ids, 0 after the last.
        block: SlotBlock,
    },
    /// Set an element of `SOURCE_RANGES` to 1.
    PutSourceRange {
        /// Its key.
        key: SourceRangeKey,
    },
    /// Set an element of `FRONTENDS`: readers see the old value or the new.
    PutFrontend {
        /// Its key.
        key: FrontendKey,
        /// New value.
        frontend: Frontend,
    },
    /// Remove an element of `FRONTENDS`.
    RemoveFrontend {
        /// Its key.
        key: FrontendKey,
    },
    /// Remove an element of `SLOTS`.
    RemoveSlot {
        /// Its key.
        key: SlotKey,
    },
    /// Remove an element of `SOURCE_RANGES`.
    RemoveSourceRange {
        /// Its key.
        key: SourceRangeKey,
    },
    /// Remove an element of `BACKENDS`.
    RemoveBackend {
        /// Backend id.
        id: u32,
    },
}

/// Operations in the order in which they must be carried out. When one fails, stop,
/// dump the maps and ask [`Compiler::resync`](crate::Compiler::resync) for a new plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "the maps do not follow until the plan is carried out"]
pub struct LbPlan(pub Vec<MapOp>, pub(crate) Vec<SocketAddr>);

impl LbPlan {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How many operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// UDP backends that answer no more, each once: those that no Service names any
    /// longer, and those that are neither ready nor serving. Sockets that are
    /// connected to them wait for nothing and are to be destroyed, whether the plan
    /// could be carried out or not. A backend that terminates and still serves is
    /// none of them. After a restart those that the dump had are told of again.
    pub fn dead_udp_backends(&self) -> impl Iterator<Item = SocketAddr> {
        self.1.iter().copied()
    }
}

impl LbTables {
    /// Carries out one operation on these tables.
    pub fn apply(&mut self, op: &MapOp) {
        match *op {
            MapOp::PutBackend { id, backend } => drop(self.backends.insert(id, backend)),
            MapOp::PutSlot { key, block } => drop(self.slots.insert(key, block)),
            MapOp::PutFrontend { key, frontend } => drop(self.frontends.insert(key, frontend)),
            MapOp::RemoveFrontend { ref key } => drop(self.frontends.remove(key)),
            MapOp::RemoveSlot { ref key } => drop(self.slots.remove(key)),
            MapOp::PutSourceRange { key } => drop(self.source_ranges.insert(key)),
            MapOp::RemoveSourceRange { ref key } => drop(self.source_ranges.remove(key)),
            MapOp::RemoveBackend { ref id } => drop(self.backends.remove(id)),
        }
    }

    /// The slots of one service number, all epochs, in key order.
    pub fn slots_of(&self, service: u32) -> impl Iterator<Item = (SlotKey, SlotBlock)> {
        let key = |bound| SlotKey { service, epoch: bound, block: bound };
        self.slots.range(key(0)..=key(u32::MAX)).map(|(key, block)| (*key, *block))
    }

    /// The backend of one slot.
    #[must_use]
    pub fn slot(&self, service: u32, epoch: u32, index: u32) -> Option<u32> {
        let block = self.slots.get(&SlotKey { service, epoch, block: index / SLOTS_A_BLOCK })?;
        Some(block[(index % SLOTS_A_BLOCK) as usize]).filter(|id| *id != 0)
    }
}

/// A list of slots as elements of `SLOTS`.
pub(crate) fn blocks(service: u32, epoch: u32, slots: &[u32]) -> impl Iterator<Item = (SlotKey, SlotBlock)> {
    (0..).zip(slots.chunks(SLOTS_A_BLOCK as usize)).map(move |(block, ids)| {
        let mut filled: SlotBlock = [0; SLOTS_A_BLOCK as usize];
        filled[..ids.len()].copy_from_slice(ids);
        (SlotKey { service, epoch, block }, filled)
    })
}

/// The socket address of a UDP backend.
pub(crate) fn udp_socket(&(addr, port, proto): &crate::ids::BackendName) -> Option<SocketAddr> {
    (proto == Protocol::Udp.number()).then(|| SocketAddr::new(addr_ip(addr), u16::from_be_bytes(port)))
}

fn ids_text(block: &SlotBlock) -> String {
    let ids: Vec<String> = block.iter().filter(|id| **id != 0).map(ToString::to_string).collect();
    ids.join(" ")
}

/// What a frontend leads to.
fn target_text(frontend: &Frontend) -> String {
    let Frontend { service, epoch, first, count, local, maglev, affinity_s, flags } = *frontend;
    let mut text = format!("{service}.{epoch} count={count}");
    let numbers = [("first", first), ("local", local), ("maglev", maglev), ("affinity", affinity_s)];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        let _ = write!(text, " {name}={number}");
    }
    for name in flag_names(flags) {
        let _ = write!(text, " {name}");
    }
    text
}

fn state_text(state: u8) -> &'static str {
    if state == BackendState::Active as u8 { "active" } else { "draining" }
}

fn backend_text(backend: &Backend) -> String {
    format!("{} {}", socket_text(backend.addr, backend.port, backend.proto), state_text(backend.state))
}

fn slot_text(key: &SlotKey) -> String {
    format!("{}.{}.{}", key.service, key.epoch, key.block)
}

fn frontend_text(key: &FrontendKey) -> String {
    socket_text(key.addr, key.port, key.proto)
}

impl fmt::Display for MapOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutBackend { id, backend } => write!(f, "put backend {id} {}", backend_text(backend)),
            Self::PutSlot { key, block } => write!(f, "put slot {} -> {}", slot_text(key), ids_text(block)),
            Self::PutFrontend { key, frontend } => {
                write!(f, "put frontend {} -> {}", frontend_text(key), target_text(frontend))
            }
            Self::RemoveFrontend { key } => write!(f, "remove frontend {}", frontend_text(key)),
            Self::RemoveSlot { key } => write!(f, "remove slot {}", slot_text(key)),
            Self::PutSourceRange { key } => write!(f, "put range {}", range_text(key)),
            Self::RemoveSourceRange { key } => write!(f, "remove range {}", range_text(key)),
            Self::RemoveBackend { id } => write!(f, "remove backend {id}"),
        }
    }
}

/// One line an element, in key order: `fe`, `slot`, `be`, `range`.
impl fmt::Display for LbTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, frontend) in &self.frontends {
            writeln!(f, "fe {} -> {}", frontend_text(key), target_text(frontend))?;
        }
        for (key, block) in &self.slots {
            writeln!(f, "slot {} -> {}", slot_text(key), ids_text(block))?;
        }
        for (id, Backend { addr, port, proto, state }) in &self.backends {
            writeln!(f, "be {id} {} state={}", socket_text(*addr, *port, *proto), state_text(*state))?;
        }
        for key in &self.source_ranges {
            writeln!(f, "range {}", range_text(key))?;
        }
        Ok(())
    }
}
