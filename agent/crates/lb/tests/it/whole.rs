//! What must hold of the tables at any moment.

use orlop_ebpf_abi::{Frontend, FrontendKey};
use orlop_lb::{LbTables, addr_ip, port_number};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Every slot of every frontend leads to an active backend.
pub fn check_whole(tables: &LbTables) {
    for (key, frontend) in &tables.frontends {
        let Frontend { service, epoch, .. } = *frontend;
        let maglev = frontend.maglev_first()..frontend.maglev_first() + frontend.maglev;
        for index in (0..frontend.listed()).chain(maglev) {
            let id = tables.slot(service, epoch, index);
            let id = id.unwrap_or_else(|| panic!("{key:?} lacks slot {service}.{epoch} {index}\n{tables}"));
            let backend = tables.backends.get(&id);
            let backend = backend.unwrap_or_else(|| panic!("{service}.{epoch} {index} lacks backend {id}\n{tables}"));
            assert_eq!(backend.state, 0, "{service}.{epoch} {index} leads to a draining backend\n{tables}");
            assert_eq!(backend.proto, key.proto);
        }
    }
}

/// Where the frontends lead, by address.
pub fn targets(tables: &LbTables) -> BTreeMap<FrontendKey, BTreeSet<(IpAddr, u16)>> {
    let follow = |frontend: &Frontend| {
        let Frontend { service, epoch, first, count, .. } = *frontend;
        let ids = (first..first + count).map(|index| tables.slot(service, epoch, index).expect("a whole table"));
        ids.map(|id| (addr_ip(tables.backends[&id].addr), port_number(tables.backends[&id].port))).collect()
    };
    tables.frontends.iter().map(|(key, frontend)| (*key, follow(frontend))).collect()
}
