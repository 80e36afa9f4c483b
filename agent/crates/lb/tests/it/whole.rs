//! What must hold of the tables at any moment.

use orlop_ebpf_abi::{Frontend, FrontendFlags, FrontendKey, SourceRangeKey};
use orlop_lb::{LbTables, addr_ip, port_number};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Every slot of every frontend leads to an active backend, the sets overlap as they
/// are said to, and a frontend that is limited to some clients knows which.
pub fn check_whole(tables: &LbTables) {
    for (key, frontend) in &tables.frontends {
        assert!(frontend.first <= frontend.local && frontend.local <= frontend.first + frontend.count, "{tables}");
        assert!(frontend.count > 0 || frontend.local == 0, "{key:?} has local backends only\n{tables}");
        let own = |range: &SourceRangeKey| range.service == frontend.service.to_be_bytes();
        let limited = frontend.flags & FrontendFlags::SOURCE_RANGES != 0;
        assert!(!limited || tables.source_ranges.iter().any(own), "{key:?} has no ranges\n{tables}");
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

/// What a client meets at a frontend: where it is led under each policy and by the
/// Maglev table (place by place), how long it is kept, who is let in, and the flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    pub cluster: BTreeSet<SocketAddr>,
    pub local: BTreeSet<SocketAddr>,
    pub maglev: Vec<SocketAddr>,
    pub affinity_s: u32,
    pub flags: u32,
    pub ranges: BTreeSet<(u32, [u8; 16])>,
}

/// By frontend, without any number that the compiler chose.
pub fn leads(tables: &LbTables) -> BTreeMap<FrontendKey, Lead> {
    let lead = |frontend: &Frontend| {
        let slots = |from: u32, count: u32| {
            (from..from + count).map(|index| {
                let id = tables.slot(frontend.service, frontend.epoch, index).expect("a whole table");
                let backend = &tables.backends[&id];
                SocketAddr::new(addr_ip(backend.addr), port_number(backend.port))
            })
        };
        let own = |key: &&SourceRangeKey| key.service == frontend.service.to_be_bytes();
        let limited = frontend.flags & FrontendFlags::SOURCE_RANGES != 0;
        let ranges = tables.source_ranges.iter().filter(own).filter(|_| limited);
        Lead {
            cluster: slots(frontend.first, frontend.count).collect(),
            local: slots(0, frontend.local).collect(),
            maglev: slots(frontend.maglev_first(), frontend.maglev).collect(),
            affinity_s: frontend.affinity_s,
            flags: frontend.flags,
            ranges: ranges.map(|key| (key.bits, key.addr)).collect(),
        }
    };
    tables.frontends.iter().map(|(key, frontend)| (*key, lead(frontend))).collect()
}

/// Where the frontends lead under the policy `Cluster`, by address.
pub fn targets(tables: &LbTables) -> BTreeMap<FrontendKey, BTreeSet<(IpAddr, u16)>> {
    let follow = |frontend: &Frontend| {
        let Frontend { service, epoch, first, count, .. } = *frontend;
        let ids = (first..first + count).map(|index| tables.slot(service, epoch, index).expect("a whole table"));
        ids.map(|id| (addr_ip(tables.backends[&id].addr), port_number(tables.backends[&id].port))).collect()
    };
    tables.frontends.iter().map(|(key, frontend)| (*key, follow(frontend))).collect()
}
