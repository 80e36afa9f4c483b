//! The service tables: carrying out a plan, and reading back what is there.

use orlop_ebpf_abi::{Addr, FrontendFlags, FrontendKey, NODE_PORT_WORD_BITS, entries};
use orlop_lb::{LbTables, MapOp, addr_ip};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use crate::{Datapath, Error};

/// Frontends as far as other tables follow from them.
#[derive(Debug, Default)]
pub struct Followed {
    /// Those that stand for every address of the node, by port.
    node_ports: BTreeMap<u16, BTreeSet<FrontendKey>>,
    /// Those on addresses that are a Service's alone.
    inside: BTreeSet<FrontendKey>,
}

/// Flags of frontends whose address may be somebody else's, too.
const OUTER: u32 = FrontendFlags::NODE_PORT | FrontendFlags::EXTERNAL | FrontendFlags::HOST_PORT;

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

impl Followed {
    /// One word of `NODE_PORTS`.
    fn node_port_word(&self, word: u32) -> u64 {
        let first = (word * NODE_PORT_WORD_BITS) as u16;
        let last = first + (NODE_PORT_WORD_BITS - 1) as u16;
        self.node_ports.range(first..=last).fold(0, |bits, (port, _)| bits | 1 << (port - first))
    }

    /// Whether the address has a frontend of its own.
    fn has(&self, addr: Addr) -> bool {
        let key = |byte| FrontendKey { addr, port: [byte; 2], proto: byte, pad: byte };
        self.inside.range(key(0)..=key(u8::MAX)).next().is_some()
    }
}

impl Datapath {
    /// Carries out a plan in its order. Readers see each service whole, before or
    /// after. One caller at a time has the tables; others wait.
    ///
    /// # Errors
    /// [`Error::Apply`] names the operation; read [`dump`](Self::dump) and plan again.
    pub fn apply(&self, ops: &[MapOp]) -> Result<ApplyReport, Error> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if ops.is_empty() {
            return Ok(ApplyReport::default());
        }
        let generation = self.generation.get(&0)?.unwrap_or(0);
        self.generation.put(&0, &generation.wrapping_add(1))?;
        let mut report = ApplyReport::default();
        let mut result = Ok(());
        for (index, op) in ops.iter().enumerate() {
            if let Err(err) = self.apply_one(op, &mut followed, &mut report) {
                result = Err(Error::Apply { index, op: *op, source: Box::new(err) });
                break;
            }
        }
        self.generation.put(&0, &generation.wrapping_add(2))?;
        result.map(|()| report)
    }

    fn apply_one(&self, op: &MapOp, followed: &mut Followed, report: &mut ApplyReport) -> Result<(), Error> {
        match op {
            MapOp::PutBackend { id, backend } => self.backends.put(id, backend)?,
            MapOp::PutSlot { key, block } => self.slots.put(key, block)?,
            MapOp::PutFrontend { key, frontend } => {
                if is_wildcard(key) {
                    // The bit first: it is only a hint where to look.
                    self.add_node_port(followed, *key)?;
                }
                self.frontends.put(key, frontend)?;
                if frontend.flags & OUTER == 0 {
                    self.add_inside(followed, *key)?;
                }
            }
            MapOp::PutSourceRange { key } => self.source_ranges.put(key, &1)?,
            MapOp::RemoveSourceRange { key } => self.source_ranges.remove(key)?,
            MapOp::RemoveFrontend { key } => {
                self.frontends.remove(key)?;
                self.remove_node_port(followed, key)?;
                self.remove_inside(followed, key)?;
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

    fn add_node_port(&self, followed: &mut Followed, key: FrontendKey) -> Result<(), Error> {
        let port = u16::from_be_bytes(key.port);
        let first = followed.node_ports.entry(port).or_default().insert(key);
        if first { self.write_node_port_word(followed, port) } else { Ok(()) }
    }

    fn remove_node_port(&self, followed: &mut Followed, key: &FrontendKey) -> Result<(), Error> {
        let port = u16::from_be_bytes(key.port);
        let Some(keys) = followed.node_ports.get_mut(&port) else { return Ok(()) };
        keys.remove(key);
        if !keys.is_empty() {
            return Ok(());
        }
        followed.node_ports.remove(&port);
        self.write_node_port_word(followed, port)
    }

    /// The address after its first frontend: until then its ports would be refused.
    fn add_inside(&self, followed: &mut Followed, key: FrontendKey) -> Result<(), Error> {
        let known = followed.has(key.addr);
        followed.inside.insert(key);
        if known { Ok(()) } else { self.cluster_ips.put(&key.addr, &1) }
    }

    fn remove_inside(&self, followed: &mut Followed, key: &FrontendKey) -> Result<(), Error> {
        let last = followed.inside.remove(key) && !followed.has(key.addr);
        if last { self.cluster_ips.remove(&key.addr) } else { Ok(()) }
    }

    fn write_node_port_word(&self, followed: &Followed, port: u16) -> Result<(), Error> {
        let word = u32::from(port) / NODE_PORT_WORD_BITS;
        self.node_port_bits.put(&word, &followed.node_port_word(word))
    }

    /// Writes what follows from the frontends (`NODE_PORTS`, `CLUSTER_IPS`) again where somebody else
    /// changed it, and says how many elements that were.
    ///
    /// # Errors
    /// A map that cannot be read or written.
    pub fn restore_followed(&self) -> Result<usize, Error> {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = 0;
        for word in 0..entries::NODE_PORTS {
            let wanted = followed.node_port_word(word);
            if self.node_port_bits.get(&word)? != Some(wanted) {
                self.node_port_bits.put(&word, &wanted)?;
                wrong += 1;
            }
        }
        let there: BTreeSet<Addr> = self.cluster_ips.keys()?.into_iter().collect();
        let wanted: BTreeSet<Addr> = followed.inside.iter().map(|key| key.addr).collect();
        for addr in wanted.difference(&there) {
            self.cluster_ips.put(addr, &1)?;
            wrong += 1;
        }
        for addr in there.difference(&wanted) {
            self.cluster_ips.remove(addr)?;
            wrong += 1;
        }
        Ok(wrong)
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
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, frontend) in self.frontends.entries()? {
            if is_wildcard(&key) {
                self.add_node_port(&mut followed, key)?;
            } else if frontend.flags & OUTER == 0 {
                self.add_inside(&mut followed, key)?;
            }
        }
        for addr in self.cluster_ips.keys()?.into_iter().filter(|addr| !followed.has(*addr)) {
            self.cluster_ips.remove(&addr)?;
        }
        let generation = self.generation.get(&0)?.unwrap_or(0);
        if generation % 2 == 1 {
            self.generation.put(&0, &generation.wrapping_add(1))?;
        }
        Ok(())
    }
}
