//! One Service lowered to sets of frontends and backends, numbers not yet given.

use crate::ids::BackendName;
use crate::tables::blocks;
use crate::{Endpoint, IpFamily, LbTables, Service, ServicePort, addr_bytes, frontend_key, port_bytes};
use orlop_ebpf_abi::{FrontendFlags, FrontendKey};
use orlop_model::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// A Service port in one family: its frontends share one set of slots.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub port: u16,
    pub protocol: Protocol,
    pub family: IpFamily,
    /// Frontends and their flags.
    pub frontends: Vec<(FrontendKey, u32)>,
    /// All backends, and whether new connections go there.
    pub backends: BTreeMap<BackendName, bool>,
}

/// The groups of a Service; none when it is headless or an external name. Of two
/// ports that ask for the same the first has it.
pub(crate) fn groups(service: &Service, endpoints: &[Endpoint]) -> Vec<Group> {
    if !service.wants_cluster_ip() {
        return Vec::new();
    }
    // No hook of ours sees SCTP; the manifest's warnings say so.
    let ports = service.ports.iter().filter(|port| port.protocol != Protocol::Sctp);
    let (mut groups, mut seen): (Vec<Group>, BTreeSet<FrontendKey>) = (Vec::new(), BTreeSet::new());
    for port in ports {
        if groups.iter().any(|group| (group.port, group.protocol) == (port.port, port.protocol)) {
            continue;
        }
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            let mut frontends = frontends(service, port, family);
            frontends.retain(|(key, _)| seen.insert(*key));
            if !frontends.is_empty() {
                let backends = backends(port, family, endpoints);
                groups.push(Group { port: port.port, protocol: port.protocol, family, frontends, backends });
            }
        }
    }
    groups
}

fn frontends(service: &Service, port: &ServicePort, family: IpFamily) -> Vec<(FrontendKey, u32)> {
    let own = service.cluster_ips.iter().filter(|ip| IpFamily::of(**ip) == family);
    let mut frontends: Vec<_> = own.map(|&ip| (frontend_key(ip, port.port, port.protocol), 0)).collect();
    if let (false, true, Some(node_port)) = (frontends.is_empty(), service.wants_node_ports(), port.node_port) {
        let key = frontend_key(family.unspecified(), node_port, port.protocol);
        frontends.push((key, FrontendFlags::NODE_PORT));
    }
    frontends
}

/// The backends of a port, and whether each is usable. As kube-proxy has it
/// (KEP-1669), terminating endpoints that still serve are used only when none is
/// ready. Of two endpoints with one address the better counts.
fn backends(port: &ServicePort, family: IpFamily, endpoints: &[Endpoint]) -> BTreeMap<BackendName, bool> {
    let own = || endpoints.iter().filter(|endpoint| IpFamily::of(endpoint.addr) == family);
    let targets = || {
        own().filter_map(|endpoint| {
            let target = port_bytes(endpoint.target(port)?);
            Some((endpoint, (addr_bytes(endpoint.addr), target, port.protocol.number())))
        })
    };
    let some_ready = targets().any(|(endpoint, _)| endpoint.ready);
    let mut backends = BTreeMap::new();
    for (endpoint, name) in targets() {
        let usable = endpoint.ready || (!some_ready && endpoint.serving && endpoint.terminating);
        *backends.entry(name).or_default() |= usable;
    }
    backends
}

/// The epoch for these slots: one that a frontend of the Service port names already
/// and that holds just these, else one that was never used. Slots that a plan left
/// behind unfinished are thus never completed in place.
pub(crate) fn epoch(present: &LbTables, (id, last): (u32, u32), won: &[FrontendKey], slots: &[u32]) -> u32 {
    let named = || {
        let frontends = won.iter().filter_map(|key| present.frontends.get(key));
        frontends.filter(|frontend| frontend.service == id)
    };
    let holds = |epoch: u32| {
        let held = present.slots_of(id).filter(|(key, _)| key.epoch == epoch);
        held.eq(blocks(id, epoch, slots))
    };
    let fitting = named().filter(|frontend| frontend.count as usize == slots.len() && holds(frontend.epoch));
    if let Some(epoch) = fitting.map(|frontend| frontend.epoch).max() {
        return epoch;
    }
    let used = named().map(|frontend| frontend.epoch).chain(present.slots_of(id).map(|(key, _)| key.epoch));
    used.max().unwrap_or(0).max(last).wrapping_add(1)
}
