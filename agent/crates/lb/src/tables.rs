//! The three service maps as values, and the plan that changes one state into
//! another.

use crate::address::{is_node_port, socket_text};
use orlop_ebpf_abi::{Backend, BackendState, Frontend, FrontendKey, SlotKey};
use std::collections::BTreeMap;
use std::fmt;

/// What the three maps hold, entry for entry: made by the compiler, or read from
/// the kernel as a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LbTables {
    /// Map `FRONTENDS`.
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// Map `SLOTS`: to a backend id.
    pub slots: BTreeMap<SlotKey, u32>,
    /// Map `BACKENDS`, by backend id.
    pub backends: BTreeMap<u32, Backend>,
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
        /// Backend id.
        backend: u32,
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
pub struct LbPlan(pub Vec<MapOp>);

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
}

impl LbTables {
    /// Carries out one operation on these tables.
    pub fn apply(&mut self, op: &MapOp) {
        match *op {
            MapOp::PutBackend { id, backend } => drop(self.backends.insert(id, backend)),
            MapOp::PutSlot { key, backend } => drop(self.slots.insert(key, backend)),
            MapOp::PutFrontend { key, frontend } => drop(self.frontends.insert(key, frontend)),
            MapOp::RemoveFrontend { ref key } => drop(self.frontends.remove(key)),
            MapOp::RemoveSlot { ref key } => drop(self.slots.remove(key)),
            MapOp::RemoveBackend { ref id } => drop(self.backends.remove(id)),
        }
    }

    /// The slots of one service number, all epochs, in key order.
    pub fn slots_of(&self, service: u32) -> impl Iterator<Item = (SlotKey, u32)> {
        let key = |bound| SlotKey { service, epoch: bound, index: bound };
        self.slots.range(key(0)..=key(u32::MAX)).map(|(key, backend)| (*key, *backend))
    }
}

fn state_text(state: u8) -> &'static str {
    if state == BackendState::Active as u8 { "active" } else { "draining" }
}

fn backend_text(backend: &Backend) -> String {
    format!("{} {}", socket_text(backend.addr, backend.port, backend.proto), state_text(backend.state))
}

fn slot_text(key: &SlotKey) -> String {
    format!("{}.{}.{}", key.service, key.epoch, key.index)
}

fn frontend_text(key: &FrontendKey) -> String {
    socket_text(key.addr, key.port, key.proto)
}

impl fmt::Display for MapOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutBackend { id, backend } => write!(f, "put backend {id} {}", backend_text(backend)),
            Self::PutSlot { key, backend } => write!(f, "put slot {} -> {backend}", slot_text(key)),
            Self::PutFrontend { key, frontend } => {
                let Frontend { service, epoch, count, flags } = *frontend;
                let node_port = if is_node_port(flags) { " nodeport" } else { "" };
                write!(f, "put frontend {} -> {service}.{epoch} count={count}{node_port}", frontend_text(key))
            }
            Self::RemoveFrontend { key } => write!(f, "remove frontend {}", frontend_text(key)),
            Self::RemoveSlot { key } => write!(f, "remove slot {}", slot_text(key)),
            Self::RemoveBackend { id } => write!(f, "remove backend {id}"),
        }
    }
}

/// One line an element, in key order: `fe`, `slot`, `be`.
impl fmt::Display for LbTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, frontend) in &self.frontends {
            let Frontend { service, epoch, count, flags } = *frontend;
            let node_port = if is_node_port(flags) { " nodeport" } else { "" };
            writeln!(f, "fe {} -> {service}.{epoch} count={count}{node_port}", frontend_text(key))?;
        }
        for (key, backend) in &self.slots {
            writeln!(f, "slot {} -> {backend}", slot_text(key))?;
        }
        for (id, Backend { addr, port, proto, state }) in &self.backends {
            writeln!(f, "be {id} {} state={}", socket_text(*addr, *port, *proto), state_text(*state))?;
        }
        Ok(())
    }
}
