//! One Service lowered to sets of frontends and backends, numbers not yet given.

use crate::ids::{BackendName, GroupKey, Ids};
use crate::service::Rank;
use crate::{Endpoint, IpFamily, LbTables, Service, ServicePort, addr_bytes, frontend_key, port_bytes};
use orlop_ebpf_abi::{Frontend, FrontendFlags, FrontendKey, SlotKey};
use orlop_model::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// A Service port in one family: its frontends share one set of slots.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub key: GroupKey,
    /// Frontends and their flags.
    pub frontends: Vec<(FrontendKey, u32)>,
    /// Backends that take new connections.
    pub usable: BTreeSet<BackendName>,
    /// All backends, those included.
    pub all: BTreeSet<BackendName>,
}

/// Who asks for which frontend, first come first.
pub(crate) type Claims = BTreeMap<FrontendKey, BTreeSet<Rank>>;

/// What one Service puts into the tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub frontends: Vec<(FrontendKey, Frontend)>,
    pub slots: Vec<(SlotKey, u32)>,
    pub numbers: Vec<(GroupKey, u32)>,
    pub usable: BTreeSet<BackendName>,
    pub all: BTreeSet<BackendName>,
}

/// The groups of a Service; none when it is headless or an external name.
pub(crate) fn groups(service: &Service, endpoints: &[Endpoint]) -> Vec<Group> {
    if !service.wants_cluster_ip() {
        return Vec::new();
    }
    // No hook of ours sees SCTP; the manifest's warnings say so.
    let ports = service.ports.iter().filter(|port| port.protocol != Protocol::Sctp);
    let mut groups = Vec::new();
    for port in ports {
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            let frontends = frontends(service, port, family);
            if !frontends.is_empty() {
                let (usable, all) = backends(port, family, endpoints);
                let key = GroupKey { service: service.key.clone(), port: port.port, protocol: port.protocol, family };
                groups.push(Group { key, frontends, usable, all });
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

/// Usable and all backends of a port. As kube-proxy has it (KEP-1669), terminating
/// endpoints that still serve are used only when none is ready.
fn backends(
    port: &ServicePort,
    family: IpFamily,
    endpoints: &[Endpoint],
) -> (BTreeSet<BackendName>, BTreeSet<BackendName>) {
    let set = |choose: fn(&Endpoint) -> bool| -> BTreeSet<BackendName> {
        endpoints
            .iter()
            .filter(|endpoint| IpFamily::of(endpoint.addr) == family && choose(endpoint))
            .filter_map(|endpoint| Some((endpoint.addr, endpoint.target(port)?)))
            .map(|(addr, target)| (addr_bytes(addr), port_bytes(target), port.protocol.number()))
            .collect()
    };
    let ready = set(|endpoint| endpoint.ready);
    let usable = if ready.is_empty() { set(|endpoint| endpoint.serving && endpoint.terminating) } else { ready };
    (usable, set(|_| true))
}

/// The entries of one Service: numbers given, epochs chosen, frontends that an
/// earlier Service claims left out.
pub(crate) fn emit(groups: &[Group], rank: &Rank, claims: &Claims, present: &LbTables, ids: &mut Ids) -> Part {
    let mut part = Part::default();
    for group in groups {
        let won = group.frontends.iter().filter(|(key, _)| wins(claims, key, rank));
        let won: Vec<(FrontendKey, u32)> = won.copied().collect();
        if won.is_empty() {
            continue;
        }
        let number = ids.service(&group.key);
        for name in &group.all {
            ids.backend(*name);
        }
        let mut slots: Vec<u32> = group.usable.iter().map(|name| ids.backend(*name)).collect();
        slots.sort_unstable();
        let keys: Vec<FrontendKey> = won.iter().map(|(key, _)| *key).collect();
        let epoch = epoch(present, (number.id, number.epoch), &keys, &slots);
        ids.set_epoch(&group.key, epoch);
        let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        part.frontends
            .extend(won.into_iter().map(|(key, flags)| (key, Frontend { service: number.id, epoch, count, flags })));
        part.slots
            .extend((0..).zip(slots).map(|(index, backend)| (SlotKey { service: number.id, epoch, index }, backend)));
        part.numbers.push((group.key.clone(), number.id));
        part.usable.extend(&group.usable);
        part.all.extend(&group.all);
    }
    part
}

pub(crate) fn wins(claims: &Claims, key: &FrontendKey, rank: &Rank) -> bool {
    claims.get(key).and_then(BTreeSet::first) == Some(rank)
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
        held.eq((0..).zip(slots).map(|(index, &backend)| (SlotKey { service: id, epoch, index }, backend)))
    };
    let fitting = named().filter(|frontend| frontend.count as usize == slots.len() && holds(frontend.epoch));
    if let Some(epoch) = fitting.map(|frontend| frontend.epoch).max() {
        return epoch;
    }
    let used = named().map(|frontend| frontend.epoch).chain(present.slots_of(id).map(|(key, _)| key.epoch));
    used.max().unwrap_or(0).max(last).wrapping_add(1)
}
