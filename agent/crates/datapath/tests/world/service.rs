//! Service tables written by hand.

use orlop_datapath::Datapath;
use orlop_ebpf_abi::{Backend, Frontend, FrontendFlags, FrontendKey, SLOTS_A_BLOCK, SlotKey, SourceRangeKey};
use orlop_lb::{LbTables, addr_bytes, diff, frontend_key, port_bytes};
use orlop_model::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One service port, where it is reached and where it goes.
#[derive(Clone)]
pub struct Service {
    pub number: u32,
    pub epoch: u32,
    pub proto: Protocol,
    /// Addresses and `FrontendFlags`.
    pub frontends: Vec<(SocketAddr, u32)>,
    /// In the order of their slots.
    pub backends: Vec<(u32, SocketAddr)>,
    /// The local set is the slots before this.
    pub local: u32,
    /// The cluster set is the slots from this on.
    pub first: u32,
    pub affinity_s: u32,
    /// Backend ids of the Maglev table.
    pub maglev: Vec<u32>,
    /// Networks as (address, bits).
    pub ranges: Vec<(IpAddr, u8)>,
    /// Backends that take no new connections; they have no slot.
    pub draining: Vec<(u32, SocketAddr)>,
}

impl Service {
    pub fn new(number: u32, proto: Protocol, addr: &str, backends: &[(u32, &str)]) -> Self {
        Self {
            number,
            epoch: 1,
            proto,
            frontends: vec![(addr.parse().unwrap(), 0)],
            backends: parse(backends),
            local: 0,
            first: 0,
            affinity_s: 0,
            maglev: Vec::new(),
            ranges: Vec::new(),
            draining: Vec::new(),
        }
    }

    /// Reached by one more address.
    pub fn at(mut self, addr: &str, flags: u32) -> Self {
        self.frontends.push((addr.parse().unwrap(), flags));
        self
    }

    pub fn node_port(self, port: u16) -> Self {
        self.node_port_with(port, 0)
    }

    pub fn node_port_with(mut self, port: u16, flags: u32) -> Self {
        let any: IpAddr =
            if self.frontends[0].0.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.frontends.push((SocketAddr::new(any, port), FrontendFlags::NODE_PORT | flags));
        self
    }

    /// Flags of its first address.
    pub fn flags(mut self, flags: u32) -> Self {
        self.frontends[0].1 = flags;
        self
    }

    /// The local set is the slots before `local`, the cluster set those from `first` on.
    pub fn sets(mut self, local: u32, first: u32) -> Self {
        (self.local, self.first) = (local, first);
        self
    }

    pub fn affinity(mut self, seconds: u32) -> Self {
        self.affinity_s = seconds;
        self
    }

    pub fn maglev(mut self, ids: &[u32]) -> Self {
        self.maglev = ids.to_vec();
        self
    }

    pub fn range(mut self, addr: &str, bits: u8) -> Self {
        self.ranges.push((addr.parse().unwrap(), bits));
        self
    }

    pub fn draining(mut self, backends: &[(u32, &str)]) -> Self {
        self.draining = parse(backends);
        self
    }

    pub fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = epoch;
        self
    }

    fn value(&self, flags: u32) -> Frontend {
        let count = self.backends.len() as u32 - self.first;
        let (maglev, ranges) = (self.maglev.len() as u32, FrontendFlags::SOURCE_RANGES);
        let flags = flags | if self.ranges.is_empty() { 0 } else { ranges };
        let Self { number, epoch, local, first, affinity_s, .. } = *self;
        Frontend { service: number, epoch, first, count, local, maglev, affinity_s, flags }
    }

    fn key(&self, addr: SocketAddr) -> FrontendKey {
        frontend_key(addr.ip(), addr.port(), self.proto)
    }

    fn write(&self, tables: &mut LbTables) {
        tables.frontends.extend(self.frontends.iter().map(|(addr, flags)| (self.key(*addr), self.value(*flags))));
        let listed = self.backends.iter().map(|(id, _)| *id).enumerate();
        let table = self.maglev.iter().copied().enumerate();
        let first = self.value(0).maglev_first() as usize;
        for (index, id) in listed.chain(table.map(|(index, id)| (first + index, id))) {
            let (service, epoch, index) = (self.number, self.epoch, index as u32);
            let block = SlotKey { service, epoch, block: index / SLOTS_A_BLOCK };
            tables.slots.entry(block).or_default()[(index % SLOTS_A_BLOCK) as usize] = id;
        }
        for (list, state) in [(&self.backends, 0), (&self.draining, 1)] {
            for (id, addr) in list {
                let (addr, port) = (addr_bytes(addr.ip()), port_bytes(addr.port()));
                tables.backends.insert(*id, Backend { addr, port, proto: self.proto.number(), state });
            }
        }
        tables.source_ranges.extend(self.ranges.iter().map(|(addr, bits)| SourceRangeKey {
            bits: SourceRangeKey::SERVICE_BITS + u32::from(*bits) + if addr.is_ipv4() { 96 } else { 0 },
            service: self.number.to_be_bytes(),
            addr: addr_bytes(*addr),
        }));
    }
}

fn parse(backends: &[(u32, &str)]) -> Vec<(u32, SocketAddr)> {
    backends.iter().map(|(id, addr)| (*id, addr.parse().unwrap())).collect()
}

pub fn tables(services: &[Service]) -> LbTables {
    let mut tables = LbTables::default();
    for service in services {
        service.write(&mut tables);
    }
    tables
}

/// Plans from what the maps hold to these services, and carries it out.
pub fn apply(datapath: &Datapath, services: &[Service]) {
    let wanted = tables(services);
    let plan = diff(&datapath.dump().unwrap(), &wanted);
    datapath.apply(&plan.0).unwrap();
    assert_eq!(datapath.dump().unwrap(), wanted);
}
