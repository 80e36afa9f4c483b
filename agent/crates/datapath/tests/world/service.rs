//! Service tables written by hand.

use orlop_datapath::Datapath;
use orlop_ebpf_abi::{Backend, Frontend, FrontendFlags, SLOTS_A_BLOCK, SlotKey};
use orlop_lb::{LbTables, addr_bytes, diff, frontend_key, port_bytes};
use orlop_model::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One service port and where it goes.
#[derive(Clone)]
pub struct Service {
    pub number: u32,
    pub epoch: u32,
    pub proto: Protocol,
    pub addr: SocketAddr,
    pub node_port: Option<u16>,
    pub backends: Vec<(u32, SocketAddr)>,
}

impl Service {
    pub fn new(number: u32, proto: Protocol, addr: &str, backends: &[(u32, &str)]) -> Self {
        let backends = backends.iter().map(|(id, addr)| (*id, addr.parse().unwrap())).collect();
        Self { number, epoch: 1, proto, addr: addr.parse().unwrap(), node_port: None, backends }
    }

    pub fn node_port(mut self, port: u16) -> Self {
        self.node_port = Some(port);
        self
    }

    pub fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = epoch;
        self
    }
}

pub fn tables(services: &[Service]) -> LbTables {
    let mut tables = LbTables::default();
    for service in services {
        let count = service.backends.len() as u32;
        let mut frontend =
            Frontend { service: service.number, epoch: service.epoch, count, ..Frontend::default() };
        tables.frontends.insert(frontend_key(service.addr.ip(), service.addr.port(), service.proto), frontend);
        if let Some(port) = service.node_port {
            frontend.flags = FrontendFlags::NODE_PORT;
            let any: IpAddr =
                if service.addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            tables.frontends.insert(frontend_key(any, port, service.proto), frontend);
        }
        for (index, (id, _)) in service.backends.iter().enumerate() {
            let (service, epoch, index) = (service.number, service.epoch, index as u32);
            let block = SlotKey { service, epoch, block: index / SLOTS_A_BLOCK };
            tables.slots.entry(block).or_default()[(index % SLOTS_A_BLOCK) as usize] = *id;
        }
        for (id, addr) in &service.backends {
            let (addr, port) = (addr_bytes(addr.ip()), port_bytes(addr.port()));
            tables.backends.insert(*id, Backend { addr, port, proto: service.proto.number(), state: 0 });
        }
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
