//! Contestants take turns in small portions, so that a busy machine slows all of them alike.

use crate::figure::Report;
use crate::load::Order;
use crate::probe::Worker;
use std::net::SocketAddrV4;

/// One way to a pod.
pub struct Contestant {
    /// `direct`, `orlop`, …
    pub name: &'static str,
    /// In the client's namespaces.
    pub worker: Worker,
    /// What the client asks for.
    pub address: SocketAddrV4,
}

/// Those whose service answers; the others are told of as not measured.
pub fn reached(contestants: Vec<Contestant>, prefix: &str, report: &mut Report) -> Vec<Contestant> {
    let answers = |mut one: Contestant| {
        let reached = one.worker.reaches(one.address);
        if !reached {
            report.missing(&format!("{prefix}/{}", one.name), &format!("{} is not reached", one.address));
        }
        reached.then_some(one)
    };
    contestants.into_iter().filter_map(answers).collect()
}

/// Everything that one contestant was measured with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Microseconds of each connect.
    pub connect_us: Vec<f64>,
    /// Requests a second on connections of their own, of each portion.
    pub short_rate: Vec<f64>,
    /// Microseconds of each request on a kept connection.
    pub kept_us: Vec<f64>,
    /// MiB a second through one connection, of each portion.
    pub stream_mib: Vec<f64>,
}

/// How much of each.
#[derive(Debug, Clone, Copy)]
pub struct Portions {
    pub rounds: usize,
    pub connects: usize,
    pub shorts: usize,
    pub kept: usize,
    pub stream_ms: u64,
}

/// Measures all of them. The first round is not counted: caches are filled, neighbours are found.
pub fn measure(contestants: &mut [Contestant], portions: Portions) -> Vec<Measured> {
    let count = contestants.len();
    let mut all = vec![Measured::default(); count];
    for round in 0..=portions.rounds {
        for turn in 0..count {
            // Who comes first changes each round, and the direction, so that nobody always follows the same one.
            let which = (if round % 2 == 0 { turn } else { count - 1 - turn } + round / 2) % count;
            let one = portion(&mut contestants[which], portions);
            if round > 0 {
                all[which].add(one);
            }
        }
    }
    all
}

fn portion(contestant: &mut Contestant, portions: Portions) -> Measured {
    let Contestant { worker, address, name } = contestant;
    let mut ask = |order| worker.carry_out(order, *address, name);
    let us = |nanoseconds: Vec<f64>| nanoseconds.into_iter().map(|ns| ns / 1e3).collect();
    let mut one = Measured { connect_us: us(ask(Order::Connect(portions.connects))), ..Measured::default() };
    if portions.shorts > 0 {
        one.short_rate = vec![portions.shorts as f64 / (ask(Order::Short(portions.shorts))[0] / 1e9)];
    }
    if portions.kept > 0 {
        one.kept_us = us(ask(Order::Kept(portions.kept)));
    }
    if portions.stream_ms > 0 {
        let numbers = ask(Order::Stream(std::time::Duration::from_millis(portions.stream_ms)));
        one.stream_mib = vec![numbers[0] / (1 << 20) as f64 / (numbers[1] / 1e9)];
    }
    one
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.connect_us.extend(other.connect_us);
        self.short_rate.extend(other.short_rate);
        self.kept_us.extend(other.kept_us);
        self.stream_mib.extend(other.stream_mib);
    }
}
