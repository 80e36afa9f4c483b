//! Services against kube-proxy's rules, in one run: connect, requests and bytes from a pod,
//! and NodePorts from outside, with ever more Services.

mod fleet;
mod remote;
mod turns;
mod worlds;

pub use remote::run as run_remote;

use crate::Effort;
use crate::clock::load;
use crate::figure::{Figure, Report, Table, median, percentile};
use fleet::Fleet;
use std::time::Duration;
use turns::{Contestant, Measured, Portions, measure, reached};
use worlds::{Orlop, Plain, Rules, progress};

/// A connect through a Service, by a connect to the pod itself.
const RATIO_MOST: f64 = 1.05;
/// The pod itself, on a node without any proxy.
const DIRECT: &str = "direct";
/// The pod itself, on Orlop's node.
const ORLOP_DIRECT: &str = "orlop, to the pod";
/// Through the Service.
const ORLOP: &str = "orlop";

/// What there is with one number of Services.
struct Nodes<'a> {
    fleet: Fleet,
    plain: &'a Plain,
    rules: Vec<(Rules, Plain, Duration)>,
    orlop: Orlop,
}

pub fn run(effort: &Effort, report: &mut Report) {
    let sizes = match effort.sizes.as_slice() {
        [] if effort.quick => &[1, 10_000],
        [] => &[1, 1_000, 10_000, 50_000][..],
        sizes => sizes,
    };
    let plain = Plain::new();
    let mut ratios = Vec::new();
    for &size in sizes {
        match Nodes::new(size, &plain, effort, report) {
            Ok(nodes) => {
                ratios.push(nodes.measure_in_a_pod(effort, report));
                nodes.measure_outside(effort, report);
            }
            Err(problem) => report.missing(&format!("services/{size}"), &problem),
        }
    }
    if let [first, .., last] = ratios.as_slice() {
        let figure = Figure::new("services/flat/orlop-connect-ratio", *last, "");
        report.add(figure.against("with the fewest Services", *first).ratio_at_most(RATIO_MOST));
    }
    report.note(format!("services: the one measured is in the middle of the list; {}", load()));
}

impl<'a> Nodes<'a> {
    /// Rules that cannot be loaded are told of as missing.
    fn new(size: usize, plain: &'a Plain, effort: &Effort, report: &mut Report) -> Result<Self, String> {
        let fleet = Fleet::new(size);
        let limit = Duration::from_secs(if effort.quick { 120 } else { 900 });
        let mut rules = Vec::new();
        for kind in Rules::ALL {
            let name = format!("services/{size}/loaded/{}", kind.name());
            progress(&format!("{}: {size} Services are being loaded, for {limit:?} at most", kind.name()));
            match kind.node(&fleet, limit) {
                Ok((node, took)) => {
                    report.add(Figure::new(name, took.as_secs_f64(), "s"));
                    rules.push((kind, node, took));
                }
                Err(problem) => report.missing(&name, &problem),
            }
        }
        progress(&format!("orlop: {size} Services are being loaded"));
        let orlop = Orlop::new(&fleet)?;
        report.add(Figure::new(format!("services/{size}/loaded/orlop"), orlop.loaded.as_secs_f64(), "s"));
        report.add(Figure::new(format!("services/{size}/agent-rss"), orlop.agent_mib, "MiB"));
        Ok(Self { fleet, plain, rules, orlop })
    }

    /// Through the ClusterIP; gives Orlop's connect by the one to the pod itself.
    fn measure_in_a_pod(&self, effort: &Effort, report: &mut Report) -> f64 {
        let size = self.fleet.services.len();
        progress(&format!("{size} Services, from a pod"));
        let (rounds, stream_ms) = if effort.quick { (10, 50) } else { (40, 100) };
        let (plain, orlop, address) = (self.plain, &self.orlop, self.fleet.cluster_ip());
        let mut contestants = vec![
            Contestant { name: DIRECT, worker: plain.client(), address: plain.direct() },
            Contestant { name: ORLOP_DIRECT, worker: orlop.client(), address: orlop.direct },
            Contestant { name: ORLOP, worker: orlop.client(), address },
        ];
        let rules = self.rules.iter();
        contestants.extend(rules.map(|(kind, node, _)| Contestant {
            name: kind.name(),
            worker: node.client(),
            address,
        }));
        let portions = Portions { rounds, connects: 100, shorts: 400, kept: 200, stream_ms };
        let mut contestants = reached(contestants, &format!("services/{size}"), report);
        let measured = measure(&mut contestants, portions);
        let names: Vec<&str> = contestants.iter().map(|one| one.name).collect();
        report.table(table(&format!("{size} Services, from a pod"), &names, &measured, |name| self.loaded(name)));
        figures(&format!("services/{size}"), &names, &measured, report);
        let p50 = |wanted: &str| {
            names.iter().position(|name| *name == wanted).map_or(f64::NAN, |at| median(&measured[at].connect_us))
        };
        p50(ORLOP) / p50(ORLOP_DIRECT)
    }

    /// Through the NodePort, to a pod of the node: on Orlop's translated by tc. The bench `remote` has the other ways.
    fn measure_outside(&self, effort: &Effort, report: &mut Report) {
        let size = self.fleet.services.len();
        progress(&format!("{size} Services, from outside to a NodePort"));
        let (plain, address) = (self.plain, self.fleet.node_port());
        let mut contestants = vec![
            Contestant { name: DIRECT, worker: plain.outside(), address: plain.direct() },
            Contestant { name: ORLOP, worker: self.orlop.outside(), address },
        ];
        let rules = self.rules.iter();
        contestants.extend(rules.map(|(kind, node, _)| Contestant {
            name: kind.name(),
            worker: node.outside(),
            address,
        }));
        let rounds = if effort.quick { 10 } else { 40 };
        let portions = Portions { rounds, connects: 100, shorts: 400, kept: 100, stream_ms: 50 };
        let mut contestants = reached(contestants, &format!("node-port/{size}"), report);
        let measured = measure(&mut contestants, portions);
        let names: Vec<&str> = contestants.iter().map(|one| one.name).collect();
        let title = format!("{size} Services, from outside to a NodePort");
        report.table(table(&title, &names, &measured, |_| String::new()));
        figures(&format!("node-port/{size}"), &names, &measured, report);
    }

    /// How long it took to load a contestant's Services.
    fn loaded(&self, name: &str) -> String {
        let mut rules = self.rules.iter().map(|(kind, _, took)| (kind.name(), *took));
        let took = if name == ORLOP {
            Some(self.orlop.loaded)
        } else {
            rules.find(|(kind, _)| *kind == name).map(|(_, took)| took)
        };
        took.map_or(String::new(), |took| format!("{:.2} s", took.as_secs_f64()))
    }
}

fn figures(prefix: &str, names: &[&str], measured: &[Measured], report: &mut Report) {
    let of = |wanted: &str| names.iter().position(|name| *name == wanted).map(|at| &measured[at]);
    let Some(direct) = of(DIRECT) else { return };
    let inside = prefix.starts_with("services");
    for (name, one) in names.iter().zip(measured).filter(|(name, _)| **name != DIRECT) {
        // A node's own way to the pod is what its Services are measured by.
        let own = of(ORLOP_DIRECT).filter(|_| *name == ORLOP);
        let (peer, by) = own.map_or((DIRECT, direct), |own| (ORLOP_DIRECT, own));
        let short = name.replace(", to the pod", "-direct");
        let p50 = Figure::new(format!("{prefix}/connect-p50/{short}"), median(&one.connect_us), "us")
            .against(peer, median(&by.connect_us));
        report.add(if *name == ORLOP && inside { p50.ratio_at_most(RATIO_MOST) } else { p50 });
        for (what, unit, value) in [
            ("connect-p99", "us", (|m: &Measured| percentile(&m.connect_us, 99)) as fn(&Measured) -> f64),
            ("requests", "/s", |m| median(&m.short_rate)),
            ("kept-p50", "us", |m| median(&m.kept_us)),
            ("kept-p99", "us", |m| percentile(&m.kept_us, 99)),
            ("stream", "MiB/s", |m| median(&m.stream_mib)),
        ] {
            report.add(Figure::new(format!("{prefix}/{what}/{short}"), value(one), unit).against(peer, value(by)));
        }
    }
    let Some(orlop) = of(ORLOP) else { return };
    for name in ["iptables-nft", "iptables-legacy", "nftables"] {
        if let Some(peer) = of(name) {
            report.add(
                Figure::new(format!("{prefix}/orlop-by-{name}"), median(&orlop.connect_us), "us")
                    .against(name, median(&peer.connect_us))
                    .ratio_at_most(1.0),
            );
        }
    }
}

fn table(title: &str, names: &[&str], measured: &[Measured], loaded: impl Fn(&str) -> String) -> Table {
    let head = ["", "connect p50", "p99", "× direct", "requests/s", "kept p50", "p99", "MiB/s", "loaded in"];
    let by = names.iter().position(|name| *name == DIRECT).map_or(f64::NAN, |at| median(&measured[at].connect_us));
    let row = |(name, one): (&&str, &Measured)| {
        vec![
            (*name).to_owned(),
            format!("{:.1} µs", median(&one.connect_us)),
            format!("{:.1} µs", percentile(&one.connect_us, 99)),
            format!("{:.2}", median(&one.connect_us) / by),
            format!("{:.0}", median(&one.short_rate)),
            format!("{:.1} µs", median(&one.kept_us)),
            format!("{:.1} µs", percentile(&one.kept_us, 99)),
            format!("{:.0}", median(&one.stream_mib)),
            loaded(name),
        ]
    };
    Table {
        title: title.into(),
        head: head.map(str::to_owned).to_vec(),
        rows: names.iter().zip(measured).map(row).collect(),
    }
}
