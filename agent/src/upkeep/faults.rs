//! What the eBPF programs had no room for: which of it is news. Pure.

use orlop_datapath::{Fault, TableUse};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A fault that did not happen for so long is news when it happens again.
const QUIET: Duration = Duration::from_secs(300);

/// What was counted of each fault.
#[derive(Debug, Default)]
pub(super) struct FaultWatch(BTreeMap<Fault, Seen>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    count: u64,
    /// When it rose last.
    risen: Option<Instant>,
}

impl FaultWatch {
    /// Takes the counts of now; gives the faults that there is to tell of, and how often each happened since
    /// the last look. What happened before the first look is nobody's news.
    pub fn look(&mut self, counts: &[(Fault, u64)], now: Instant) -> Vec<(Fault, u64)> {
        let mut news = Vec::new();
        for (fault, count) in counts.iter().copied() {
            let seen = self.0.entry(fault).or_insert(Seen { count, risen: None });
            let more = count.saturating_sub(seen.count);
            if more > 0 {
                if seen.risen.is_none_or(|risen| now.duration_since(risen) >= QUIET) {
                    news.push((fault, more));
                }
                seen.risen = Some(now);
            }
            seen.count = count;
        }
        news
    }
}

/// Why, and what to do about it: an event's reason and message.
pub(super) fn words(fault: Fault, times: u64, tables: &[TableUse], snat_ports: &str) -> (&'static str, String) {
    if fault == Fault::SnatPorts {
        let message = format!(
            "no source port was free for {times} connections that leave with the node's address, and they were dropped: \
             give more ports with --snat-ports (now {snat_ports}), or let fewer clients share the node's address"
        );
        return ("SnatPortsExhausted", message);
    }
    let map = Fault::ALL.iter().find(|(one, _)| *one == fault).map_or("", |(_, map)| map);
    let what = match fault {
        Fault::FlowInsert => "flows were not remembered: what they carry is not counted, and not translated",
        Fault::SocketInsert => "sockets were not remembered: they show their backend as their peer",
        Fault::UdpPeerInsert => "flows of UDP sockets were not remembered: their datagrams may change the backend",
        Fault::AffinityInsert => "clients were not remembered: their next connection may go to another backend",
        Fault::CounterInsert => "backends were not counted",
        Fault::FragmentInsert => "fragmented datagrams were not remembered: their later fragments are dropped",
        Fault::SnatPorts => "",
    };
    ("TableFull", format!("{times} {what}; {}", more_room(map, tables)))
}

/// That a map is full, and how it is given more room.
pub(super) fn more_room(map: &str, tables: &[TableUse]) -> String {
    let entries = tables.iter().find(|table| table.name == map).map_or(0, |table| table.max_entries);
    format!(
        "the eBPF map {map} has no room beyond its {entries} entries: give it more with `mapEntries: {{{map}: {}}}` in \
         OrlopConfiguration, which counts when the map is made anew, after a reboot or `orlop reset`",
        entries.saturating_mul(2)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_told_once_until_it_was_quiet() {
        let start = Instant::now();
        let mut watch = FaultWatch::default();
        let mut look = |seconds: u64, flows: u64, ports: u64| {
            let now = start + Duration::from_secs(seconds);
            watch.look(&[(Fault::FlowInsert, flows), (Fault::SnatPorts, ports)], now)
        };
        assert_eq!(look(0, 7, 0), []);
        assert_eq!(look(5, 7, 3), [(Fault::SnatPorts, 3)]);
        assert_eq!(look(10, 9, 8), [(Fault::FlowInsert, 2)]);
        // It goes on, and is not told again.
        assert_eq!(look(200, 9, 9), []);
        assert_eq!(look(499, 9, 12), []);
        assert_eq!(look(799, 9, 13), [(Fault::SnatPorts, 1)]);
        // Maps made anew count from 0.
        assert_eq!(look(2000, 0, 0), []);
        assert_eq!(look(2005, 1, 0), [(Fault::FlowInsert, 1)]);
    }

    #[test]
    fn every_fault_says_what_to_change() {
        let table = |name| TableUse { name, entries: 5, max_entries: 10 };
        let tables: Vec<TableUse> = Fault::ALL.iter().map(|(_, map)| table(*map)).collect();
        for (fault, map) in Fault::ALL {
            let (reason, message) = words(*fault, 3, &tables, "61000-65535");
            let (want, part) = match fault {
                Fault::SnatPorts => ("SnatPortsExhausted", "--snat-ports (now 61000-65535)".to_owned()),
                _ => (
                    "TableFull",
                    format!(
                        "the eBPF map {map} has no room beyond its 10 entries: give it more with `mapEntries: {{{map}: 20}}`"
                    ),
                ),
            };
            assert_eq!(reason, want);
            assert!(message.contains(" 3 ") | message.starts_with("3 ") && message.contains(&part), "{message}");
        }
    }
}
