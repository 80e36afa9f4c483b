//! What must hold of the tables at any moment.

use orlop_ebpf_abi::{Frontend, FrontendKey, SlotKey};
use orlop_lb::{LbTables, addr_ip, port_number};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Every slot of every frontend leads to an active backend.
pub fn check_whole(tables: &LbTables) {
    for (key, frontend) in &tables.frontends {
        let Frontend { service, epoch, count, .. } = *frontend;
        for index in 0..count {
            let slot = SlotKey { service, epoch, index };
            let id = tables.slots.get(&slot).unwrap_or_else(|| panic!("{key:?} lacks {slot:?}\n{tables}"));
            let backend = tables.backends.get(id).unwrap_or_else(|| panic!("{slot:?} lacks backend {id}\n{tables}"));
            assert_eq!(backend.state, 0, "{slot:?} leads to a draining backend\n{tables}");
            assert_eq!(backend.proto, key.proto);
        }
    }
}

/// Where the frontends lead, by address.
pub fn targets(tables: &LbTables) -> BTreeMap<FrontendKey, BTreeSet<(IpAddr, u16)>> {
    let follow = |frontend: &Frontend| {
        let Frontend { service, epoch, count, .. } = *frontend;
        let ids = (0..count).map(|index| tables.slots[&SlotKey { service, epoch, index }]);
        ids.map(|id| (addr_ip(tables.backends[&id].addr), port_number(tables.backends[&id].port))).collect()
    };
    tables.frontends.iter().map(|(key, frontend)| (*key, follow(frontend))).collect()
}
