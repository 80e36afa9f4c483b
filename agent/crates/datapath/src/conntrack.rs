//! The flow table from outside: forgetting flows that are over, and listing them.
//!
//! The programs forget nothing by themselves: a full table gives the place of the entry
//! that was used longest ago. Collecting keeps the table from being full of flows that are
//! over, and says how many live.

use orlop_ebpf_abi::{Addr, End, Flow, FlowFlags, FlowKey};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::table::Table;
use crate::{Datapath, Error, sys};

const BITS: u32 = FlowFlags::DNAT | FlowFlags::SNAT;

/// What is done to a flow's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowKind {
    /// Counted only.
    Plain,
    /// Sent to a backend.
    Service,
    /// Sent to a backend of another node with an address of this one as the source.
    ServiceSnat,
    /// Sent on as it is to the node that has the backend.
    DirectReturn,
    /// Opened by a pod here, and leaving with an address of the node.
    Masqueraded,
}

/// What [`Datapath::collect_flows`] met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Entries that were there; a translated flow has two.
    pub seen: usize,
    /// Entries that were removed.
    pub removed: usize,
    /// Entries that stay, by kind.
    pub kept: BTreeMap<FlowKind, usize>,
    /// Flows that stay and hold one of the node's source ports.
    pub snat_in_use: usize,
}

/// One entry of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowEntry {
    /// IP protocol number.
    pub protocol: u8,
    /// The end that opened the flow. ICMP echo: the identifier is its port.
    pub initiator: SocketAddr,
    /// The other end.
    pub responder: SocketAddr,
    /// What is done to its packets.
    pub kind: FlowKind,
    /// The entry of the responder's side: its ends are what the backend sees.
    pub is_reverse: bool,
    /// What the other entry has for the responder, where that is another end.
    pub nat: Option<SocketAddr>,
    /// What the other entry has for the initiator, where that is another end.
    pub snat: Option<SocketAddr>,
    /// Service number; 0: none.
    pub service: u32,
    /// Backend id; 0: none.
    pub backend: u32,
    /// The responder has answered.
    pub replied: bool,
    /// Seconds since the last packet.
    pub idle_s: u32,
}

/// Seconds of the clock that the programs go by.
#[must_use]
pub fn monotonic_s() -> u32 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. The clock is there on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u32
}

/// Seconds since the flow's last packet; one that came after `now_s` was read is new.
fn idle_s(flow: &Flow, now_s: u32) -> u32 {
    let idle = now_s.wrapping_sub(flow.seen_s);
    if idle > u32::MAX / 2 { 0 } else { idle }
}

fn is_over(key: &FlowKey, flow: &Flow, now_s: u32) -> bool {
    idle_s(flow, now_s) > flow.timeout_s(key.proto)
}

/// The ends of an entry: the initiator's, then the responder's.
fn ends(key: &FlowKey, flow: &Flow) -> [End; 2] {
    let lo = End { addr: key.lo, port: key.lo_port, pad: [0; 2] };
    let hi = End { addr: key.hi, port: key.hi_port, pad: [0; 2] };
    if flow.flags & FlowFlags::INITIATOR_HI != 0 { [hi, lo] } else { [lo, hi] }
}

/// Key of a translated flow's other entry.
fn partner(key: &FlowKey, flow: &Flow) -> Option<FlowKey> {
    if flow.flags & BITS == 0 {
        return None;
    }
    let [mut client, mut server] = ends(key, flow);
    if flow.flags & FlowFlags::SNAT != 0 {
        client = flow.snat;
    }
    if flow.flags & FlowFlags::DNAT != 0 {
        server = flow.nat;
    }
    Some(FlowKey::new(client.addr, client.port, server.addr, server.port, key.proto).0)
}

/// Is `other`, found under [`partner`]'s key, the other half of this flow?
fn belongs(key: &FlowKey, flow: &Flow, other: &Flow) -> bool {
    let [client, server] = ends(key, flow);
    (flow.flags ^ other.flags) & FlowFlags::REVERSE != 0 && other.nat == server && other.snat == client
}

fn kind(flow: &Flow) -> FlowKind {
    if flow.flags & FlowFlags::DSR != 0 {
        return FlowKind::DirectReturn;
    }
    match (flow.flags & FlowFlags::DNAT != 0, flow.flags & FlowFlags::SNAT != 0) {
        (true, true) => FlowKind::ServiceSnat,
        (true, false) => FlowKind::Service,
        (false, true) => FlowKind::Masqueraded,
        (false, false) => FlowKind::Plain,
    }
}

fn socket_addr(addr: Addr, port: [u8; 2]) -> SocketAddr {
    let addr = Ipv6Addr::from(addr);
    SocketAddr::new(addr.to_ipv4_mapped().map_or(IpAddr::V6(addr), IpAddr::V4), u16::from_be_bytes(port))
}

fn entry(key: &FlowKey, flow: &Flow, now_s: u32) -> FlowEntry {
    let [initiator, responder] = ends(key, flow).map(|end| socket_addr(end.addr, end.port));
    let other = |bits: u32, end: &End| (flow.flags & bits != 0).then(|| socket_addr(end.addr, end.port));
    FlowEntry {
        protocol: key.proto,
        initiator,
        responder,
        kind: kind(flow),
        is_reverse: flow.flags & FlowFlags::REVERSE != 0,
        nat: other(FlowFlags::DNAT | FlowFlags::DSR, &flow.nat),
        snat: other(FlowFlags::SNAT, &flow.snat),
        service: flow.service,
        backend: flow.backend,
        replied: flow.flags & FlowFlags::REPLIED != 0,
        idle_s: idle_s(flow, now_s),
    }
}

impl Datapath {
    fn flow_table(&self) -> Result<Table<FlowKey, Flow>, Error> {
        let path = self.layout.map("FLOWS");
        let pin = sys::open_pin(&path).map_err(|source| Error::Pin { operation: "open pin", path, source })?;
        Ok(Table::new("FLOWS", pin))
    }

    /// Removes the flows that were silent for longer than `Flow::timeout_s` says, both
    /// entries of a translated one or neither. `now_s` is [`monotonic_s`]'s. Reads the
    /// table once, some thousands of entries at a time; a flow whose first packet after that
    /// long comes in the moment between its last look and its removal is opened anew.
    ///
    /// # Errors
    /// A map that cannot be read or written; what was removed before is gone.
    pub fn collect_flows(&self, now_s: u32) -> Result<CollectReport, Error> {
        let table = self.flow_table()?;
        let mut report = CollectReport::default();
        table.each_entry(|key, flow| {
            report.seen += 1;
            if is_over(&key, &flow, now_s) && over_with_partner(&table, &key, &flow, now_s)? {
                table.remove(&key)?;
                report.removed += 1;
                return Ok(());
            }
            *report.kept.entry(kind(&flow)).or_default() += 1;
            report.snat_in_use +=
                usize::from(flow.flags & FlowFlags::SNAT != 0 && flow.flags & FlowFlags::REVERSE != 0);
            Ok(())
        })?;
        Ok(report)
    }

    /// Up to `limit` entries of the flow table, in no order.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn flows(&self, now_s: u32, limit: usize) -> Result<Vec<FlowEntry>, Error> {
        let mut flows = Vec::new();
        self.flow_table()?.each_entry(|key, flow| {
            if flows.len() < limit {
                flows.push(entry(&key, &flow, now_s));
            }
            Ok(())
        })?;
        Ok(flows)
    }
}

/// Looks again, at the entry itself and at its other half: packets of one direction
/// refresh one of them at first.
fn over_with_partner(table: &Table<FlowKey, Flow>, key: &FlowKey, flow: &Flow, now_s: u32) -> Result<bool, Error> {
    if let Some(partner) = partner(key, flow)
        && let Some(other) = table.get(&partner)?
        && belongs(key, flow, &other)
        && !is_over(&partner, &other, now_s)
    {
        return Ok(false);
    }
    Ok(table.get(key)?.is_none_or(|flow| is_over(key, &flow, now_s)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_lb::addr_bytes;

    fn end(text: &str) -> End {
        let addr: SocketAddr = text.parse().unwrap();
        End { addr: addr_bytes(addr.ip()), port: addr.port().to_be_bytes(), pad: [0; 2] }
    }

    fn flow([from, to]: [&str; 2], bits: u32, [nat, snat]: [&str; 2]) -> (FlowKey, Flow) {
        let [from, to] = [end(from), end(to)];
        let (key, hi) = FlowKey::new(from.addr, from.port, to.addr, to.port, 6);
        let flags = bits | if hi { FlowFlags::INITIATOR_HI } else { 0 };
        let (nat, snat) = (end(nat), end(snat));
        (key, Flow { service: 1, backend: 2, flags, isn: 0, seen_s: 100, nat, snat })
    }

    #[test]
    fn each_entry_names_the_other() {
        let [client, service, node, backend] = ["198.51.100.1:9", "10.96.0.1:80", "192.0.2.1:61000", "10.1.0.2:8080"];
        let check = |bits: u32, seen: [&str; 2]| {
            let (key, original) = flow([client, service], bits, [backend, seen[0]]);
            let (back_key, reverse) = flow([seen[0], seen[1]], bits | FlowFlags::REVERSE, [service, client]);
            assert_eq!(partner(&key, &original), Some(back_key));
            assert_eq!(partner(&back_key, &reverse), Some(key));
            assert!(belongs(&key, &original, &reverse) && belongs(&back_key, &reverse, &original));
        };
        check(FlowFlags::DNAT, [client, backend]);
        check(FlowFlags::DNAT | FlowFlags::SNAT, [node, backend]);
        let (key, plain) = flow([client, service], 0, [backend, node]);
        assert_eq!(partner(&key, &plain), None);
    }

    #[test]
    fn silence_is_counted_from_the_last_packet() {
        let (key, mut flow) = flow(["10.1.0.1:1", "10.1.0.2:2"], 0, ["10.1.0.1:1", "10.1.0.2:2"]);
        let mut check = |flags: u32, now_s: u32, over: bool| {
            flow.flags = flags;
            assert_eq!(is_over(&key, &flow, now_s), over, "{flags} at {now_s}");
        };
        check(0, 220, false);
        check(0, 221, true);
        check(0, 99, false);
        check(FlowFlags::REPLIED, 86_500, false);
        check(FlowFlags::REPLIED, 86_501, true);
        check(FlowFlags::RST, 111, true);
        check(FlowFlags::FIN_LO | FlowFlags::FIN_HI, 221, true);
    }
}
