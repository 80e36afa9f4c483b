//! A Service, or a pod's host ports, lowered to sets of frontends and backends,
//! numbers not yet given.

use crate::ids::BackendName;
use crate::tables::blocks;
use crate::topology::{Part, categorize};
use crate::{
    Endpoint, HostPort, HostPorts, IpFamily, LbTables, Service, ServicePort, ServiceSettings, addr_bytes, frontend_key,
    port_bytes,
};
use ipnet::IpNet;
use orlop_ebpf_abi::{Addr, FrontendFlags, FrontendKey};
use orlop_model::Protocol;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A Service port in one family, or a host port: its frontends share one list of slots.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub port: u16,
    pub protocol: Protocol,
    pub family: IpFamily,
    /// Frontends and their flags.
    pub frontends: Vec<(FrontendKey, u32)>,
    /// All backends in the order of names, and what each is for.
    pub backends: Vec<(BackendName, Use)>,
    pub affinity_s: u32,
    /// Some frontend is open outside the cluster.
    pub outside: bool,
    /// Clients of a load balancer's address; empty for all.
    pub ranges: Vec<Range>,
}

/// What a backend is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub part: Part,
    /// Would answer: packets of connectionless flows are not lost there.
    pub serving: bool,
}

/// A network of clients: bits of the mapped address that count, and the address.
pub(crate) type Range = (u32, Addr);

/// The flags of frontends that are open outside.
const OUTSIDE: u32 = FrontendFlags::NODE_PORT | FrontendFlags::EXTERNAL;

/// The groups of a Service; none when it is headless, an external name or another
/// proxy's. Of two ports that ask for the same the first has it.
pub(crate) fn groups(service: &Service, endpoints: &[Endpoint], settings: &ServiceSettings) -> Vec<Group> {
    if !service.is_served() {
        return Vec::new();
    }
    let (mut groups, mut seen): (Vec<Group>, BTreeSet<FrontendKey>) = (Vec::new(), BTreeSet::new());
    for port in &service.ports {
        if groups.iter().any(|group| (group.port, group.protocol) == (port.port, port.protocol)) {
            continue;
        }
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            let mut frontends = frontends(service, port, family, settings);
            frontends.retain(|(key, _)| seen.insert(*key));
            if frontends.is_empty() {
                continue;
            }
            let any = |flags: u32| frontends.iter().any(|(_, own)| own & flags != 0);
            let local = any(FrontendFlags::INTERNAL_LOCAL | FrontendFlags::EXTERNAL_LOCAL | FrontendFlags::DSR);
            groups.push(Group {
                port: port.port,
                protocol: port.protocol,
                family,
                backends: backends(port, family, endpoints, local),
                affinity_s: service.more().affinity_s.unwrap_or(0),
                outside: any(OUTSIDE),
                ranges: if any(FrontendFlags::SOURCE_RANGES) { ranges(service, family) } else { Vec::new() },
                frontends,
            });
        }
    }
    groups
}

/// What a Service asks for in one family. Without a cluster IP in it there is nothing
/// in it, as with kube-proxy.
pub(crate) fn frontends(
    service: &Service,
    port: &ServicePort,
    family: IpFamily,
    settings: &ServiceSettings,
) -> Vec<(FrontendKey, u32)> {
    let more = service.more();
    let own = |ip: &IpAddr| IpFamily::of(*ip) == family;
    let internal = if more.internal_local { FrontendFlags::INTERNAL_LOCAL } else { 0 };
    let key = |ip: IpAddr| frontend_key(ip, port.port, port.protocol);
    let mut frontends: Vec<_> = service.cluster_ips.iter().copied().filter(own).map(|ip| (key(ip), internal)).collect();
    if frontends.is_empty() {
        return frontends;
    }
    let policy = match (service.external_local(), settings.dsr) {
        (true, _) => FrontendFlags::EXTERNAL_LOCAL,
        (false, true) => FrontendFlags::DSR,
        (false, false) => 0,
    };
    if let (true, Some(node_port)) = (service.wants_node_ports(), port.node_port) {
        let key = frontend_key(family.unspecified(), node_port, port.protocol);
        frontends.push((key, FrontendFlags::NODE_PORT | policy));
    }
    let limited = if ranges(service, family).is_empty() { 0 } else { FrontendFlags::SOURCE_RANGES };
    // A balancer's address comes first: one that is an external address too stays limited.
    let balancers = more.load_balancer_ips.iter().filter(|one| !one.proxy).map(|one| one.ip);
    let outside = balancers.map(|ip| (ip, limited)).chain(more.external_ips.iter().map(|ip| (*ip, 0)));
    let mut seen: BTreeSet<FrontendKey> = frontends.iter().map(|(key, _)| *key).collect();
    let outside =
        outside.filter(|(ip, _)| own(ip)).map(|(ip, more)| (key(ip), FrontendFlags::EXTERNAL | policy | more));
    frontends.extend(outside.filter(|(key, _)| seen.insert(*key)));
    frontends
}

/// The networks whose clients are let in; none when all are: as with kube-proxy, a
/// family without a range of its own is open, and so is one with a range of no bits.
pub(crate) fn ranges(service: &Service, family: IpFamily) -> Vec<Range> {
    let own = |range: &&IpNet| IpFamily::of(range.addr()) == family;
    let range = |range: &IpNet| {
        let before = if range.addr().is_ipv4() { 96 } else { 0 };
        (before + u32::from(range.prefix_len()), addr_bytes(range.network()))
    };
    let own: Vec<&IpNet> = service.more().source_ranges.iter().filter(own).collect();
    if own.iter().any(|range| range.prefix_len() == 0) {
        return Vec::new();
    }
    let unique: BTreeSet<Range> = own.into_iter().map(range).collect();
    unique.into_iter().collect()
}

/// The better first: of two endpoints with one address the better counts.
fn quality(endpoint: &Endpoint) -> impl Ord {
    let rank = match (endpoint.ready, endpoint.serving, endpoint.terminating) {
        (true, ..) => 0,
        (false, true, true) => 1,
        (false, true, false) => 2,
        (false, false, _) => 3,
    };
    (rank, !endpoint.local)
}

/// The endpoints of a Service port in one family, each address once, with what they
/// are for. `local` says whether anyone asks for the local set.
pub(crate) fn targets<'a>(
    port: &ServicePort,
    family: IpFamily,
    endpoints: &'a [Endpoint],
    local: bool,
) -> Vec<(BackendName, &'a Endpoint, Part)> {
    let named = endpoints.iter().filter(|endpoint| IpFamily::of(endpoint.addr) == family).filter_map(|endpoint| {
        let target = endpoint.target(port)?;
        Some(((addr_bytes(endpoint.addr), port_bytes(target), port.protocol.number()), endpoint))
    });
    let mut best: Vec<(BackendName, &Endpoint)> = named.collect();
    best.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| quality(one).cmp(&quality(other))));
    best.dedup_by_key(|(name, _)| *name);
    let all: Vec<&Endpoint> = best.iter().map(|(_, endpoint)| *endpoint).collect();
    let parts = categorize(&all).into_iter().map(|part| Part { local: part.local && local, ..part });
    best.into_iter().zip(parts).map(|((name, endpoint), part)| (name, endpoint, part)).collect()
}

fn backends(port: &ServicePort, family: IpFamily, endpoints: &[Endpoint], local: bool) -> Vec<(BackendName, Use)> {
    let targets = targets(port, family, endpoints, local).into_iter();
    targets.map(|(name, one, part)| (name, Use { part, serving: one.ready || one.serving })).collect()
}

/// The groups of a pod's host ports, one a port and family.
pub(crate) fn host_groups(pod: &HostPorts) -> Vec<Group> {
    let (mut groups, mut seen) = (Vec::new(), BTreeSet::new());
    for port in &pod.ports {
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            let Some(&target) = pod.ips.iter().find(|ip| IpFamily::of(**ip) == family) else { continue };
            let Some(host_ip) = host_ip(port, family) else { continue };
            let key = frontend_key(host_ip, port.port, port.protocol);
            if !seen.insert(key) {
                continue;
            }
            let name = (addr_bytes(target), port_bytes(port.target), port.protocol.number());
            let part = Part { cluster: true, local: false };
            groups.push(Group {
                port: port.port,
                protocol: port.protocol,
                family,
                frontends: vec![(key, FrontendFlags::HOST_PORT)],
                backends: vec![(name, Use { part, serving: true })],
                affinity_s: 0,
                outside: false,
                ranges: Vec::new(),
            });
        }
    }
    groups
}

/// The address of a family on which a host port is open, if it is.
fn host_ip(port: &HostPort, family: IpFamily) -> Option<IpAddr> {
    match port.host_ip.map(|ip| ip.to_canonical()) {
        None => Some(family.unspecified()),
        Some(ip) => Some(ip).filter(|ip| IpFamily::of(*ip) == family),
    }
}

/// The epoch for a new list: one that a frontend of the Service port names already and
/// that holds just this, else one that was never used. Slots that an earlier list left
/// behind are thus never taken for its own.
pub(crate) fn epoch(present: &LbTables, (id, last): (u32, u32), won: &[FrontendKey], slots: &[u32]) -> u32 {
    let named = || {
        let frontends = won.iter().filter_map(|key| present.frontends.get(key));
        frontends.filter(|frontend| frontend.service == id)
    };
    let holds = |epoch: u32| {
        let held = present.slots_of(id).filter(|(key, _)| key.epoch == epoch);
        held.eq(blocks(id, epoch, slots))
    };
    if let Some(epoch) = named().map(|frontend| frontend.epoch).filter(|epoch| holds(*epoch)).max() {
        return epoch;
    }
    let used = named().map(|frontend| frontend.epoch).chain(present.slots_of(id).map(|(key, _)| key.epoch));
    used.max().unwrap_or(0).max(last).wrapping_add(1)
}
