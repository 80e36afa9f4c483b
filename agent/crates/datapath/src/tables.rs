//! The service tables: carrying out a plan, and reading back what is there.

use orlop_ebpf_abi::{FrontendKey, NODE_PORT_WORD_BITS};
use orlop_lb::{LbTables, MapOp, addr_ip};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use crate::{Datapath, Error};

/// Which frontends stand for every address of the node, by port.
pub type NodePorts = BTreeMap<u16, BTreeSet<FrontendKey>>;

/// What a plan did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyReport {
    /// Elements written.
    pub written: usize,
    /// Elements removed, also those that were gone already.
    pub removed: usize,
}

/// Does the frontend stand for every address of the node, as NodePorts and most host ports do?
fn is_wildcard(key: &FrontendKey) -> bool {
    addr_ip(key.addr).is_unspecified()
}

impl Datapath {
    /// Carries out a plan in its order. Readers see each service whole, before or
    /// after. One caller at a time has the tables; others wait.
    ///
    /// # Errors
    /// [`Error::Apply`] names the operation; read [`dump`](Self::dump) and plan again.
    pub fn apply(&self, ops: &[MapOp]) -> Result<ApplyReport, Error> {
        let mut node_ports = self.node_ports.lock().unwrap_or_else(PoisonError::into_inner);
        if ops.is_empty() {
            return Ok(ApplyReport::default());
        }
        let generation = self.generation.get(&0)?.unwrap_or(0);
        self.generation.put(&0, &generation.wrapping_add(1))?;
        let mut report = ApplyReport::default();
        let mut result = Ok(());
        for (index, op) in ops.iter().enumerate() {
            if let Err(err) = self.apply_one(op, &mut node_ports, &mut report) {
                result = Err(Error::Apply { index, op: *op, source: Box::new(err) });
                break;
            }
        }
        self.generation.put(&0, &generation.wrapping_add(2))?;
        result.map(|()| report)
    }

    fn apply_one(&self, op: &MapOp, node_ports: &mut NodePorts, report: &mut ApplyReport) -> Result<(), Error> {
        match op {
            MapOp::PutBackend { id, backend } => self.backends.put(id, backend)?,
            MapOp::PutSlot { key, block } => self.slots.put(key, block)?,
            MapOp::PutFrontend { key, frontend } => {
                if is_wildcard(key) {
                    // The bit first: it is only a hint where to look.
                    self.add_node_port(node_ports, *key)?;
                }
                self.frontends.put(key, frontend)?;
            }
            MapOp::PutSourceRange { key } => self.source_ranges.put(key, &1)?,
            MapOp::RemoveSourceRange { key } => self.source_ranges.remove(key)?,
            MapOp::RemoveFrontend { key } => {
                self.frontends.remove(key)?;
                self.remove_node_port(node_ports, key)?;
            }
            MapOp::RemoveSlot { key } => self.slots.remove(key)?,
            MapOp::RemoveBackend { id } => self.backends.remove(id)?,
        }
        match op {
            MapOp::PutBackend { .. }
            | MapOp::PutSlot { .. }
            | MapOp::PutSourceRange { .. }
            | MapOp::PutFrontend { .. } => report.written += 1,
            MapOp::RemoveFrontend { .. }
            | MapOp::RemoveSlot { .. }
            | MapOp::RemoveSourceRange { .. }
            | MapOp::RemoveBackend { .. } => {
                report.removed += 1;
            }
        }
        Ok(())
    }

    fn add_node_port(&self, node_ports: &mut NodePorts, key: FrontendKey) -> Result<(), Error> {
        let port = u16::from_be_bytes(key.port);
        let first = node_ports.entry(port).or_default().insert(key);
        if first { self.write_node_port_word(node_ports, port) } else { Ok(()) }
    }

    fn remove_node_port(&self, node_ports: &mut NodePorts, key: &FrontendKey) -> Result<(), Error> {
        let port = u16::from_be_bytes(key.port);
        let Some(keys) = node_ports.get_mut(&port) else { return Ok(()) };
        keys.remove(key);
        if !keys.is_empty() {
            return Ok(());
        }
        node_ports.remove(&port);
        self.write_node_port_word(node_ports, port)
    }

    fn write_node_port_word(&self, node_ports: &NodePorts, port: u16) -> Result<(), Error> {
        let word = u32::from(port) / NODE_PORT_WORD_BITS;
        let first = (word * NODE_PORT_WORD_BITS) as u16;
        let last = first + (NODE_PORT_WORD_BITS - 1) as u16;
        let bits = node_ports.range(first..=last).fold(0_u64, |bits, (port, _)| bits | 1 << (port - first));
        self.node_port_bits.put(&word, &bits)
    }

    /// What the service maps hold now.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn dump(&self) -> Result<LbTables, Error> {
        Ok(LbTables {
            frontends: self.frontends.entries()?.into_iter().collect(),
            slots: self.slots.entries()?.into_iter().collect(),
            backends: self.backends.entries()?.into_iter().collect(),
            source_ranges: self.source_ranges.keys()?.into_iter().collect(),
        })
    }

    /// After a start: an agent that died amid a change left the generation odd,
    /// and which ports are NodePorts or host ports is read from the frontends.
    pub(crate) fn adopt_tables(&self) -> Result<(), Error> {
        let mut node_ports = self.node_ports.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in self.frontends.entries()? {
            if is_wildcard(&key) {
                self.add_node_port(&mut node_ports, key)?;
            }
        }
        let generation = self.generation.get(&0)?.unwrap_or(0);
        if generation % 2 == 1 {
            self.generation.put(&0, &generation.wrapping_add(1))?;
        }
        Ok(())
    }
}
