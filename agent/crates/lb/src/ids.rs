//! Numbers for what has a name: Service ports and backends.
//!
//! Nothing is written to a disk. A backend's name is its address, port and
//! protocol, which `BACKENDS` itself holds, so a dump gives every number back. A
//! Service port has no name in the maps; after a restart it is known again by the
//! frontends that it had. While the agent runs, names are remembered, so a Service
//! that changes its address keeps its number (and its counters).
//!
//! A number is never given out twice before all 2^32 have been, so that no reader
//! mistakes a new entry for an old one.

use orlop_ebpf_abi::{Addr, Backend, Port};

/// Address, port and protocol.
pub(crate) type BackendName = (Addr, Port, u8);

pub(crate) fn backend_name(backend: &Backend) -> BackendName {
    (backend.addr, backend.port, backend.proto)
}

/// The number after `last`; from 1 again, looking for a free one, when all are spent.
pub(crate) fn following(last: u32, taken: impl Fn(u32) -> bool) -> u32 {
    match last.checked_add(1) {
        Some(id) => id,
        None => (1..=u32::MAX).find(|&id| !taken(id)).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::following;

    #[test]
    fn numbers_begin_again_when_all_are_spent() {
        assert_eq!(following(7, |_| true), 8);
        assert_eq!(following(u32::MAX, |id| id < 5), 5);
    }
}
