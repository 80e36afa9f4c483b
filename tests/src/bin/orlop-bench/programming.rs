//! From the API server's list to the last entry of the maps, and from one changed endpoint
//! to the map, with the real agent. The API server is in this process.

use crate::Effort;
use crate::clock::load;
use crate::figure::{Figure, Report, median, percentile};
use crate::memory::{peak_mib, rss_mib};
use crate::pinned::{self, Frontends, Watcher};
use orlop_tests::{Cluster, ClusterOptions, Options};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Seconds until 10,000 Services with ten endpoints each are in the maps.
const LIST_SECONDS_MOST: f64 = 2.0;
/// Seconds and MiB for 250,000 endpoints.
const LARGE_SECONDS_MOST: f64 = 5.0;
const LARGE_MIB_MOST: f64 = 200.0;
/// Milliseconds from a changed endpoint to the map, 99 of 100.
const CHANGE_MS_MOST: f64 = 10.0;
/// The same with few Services and with many: differences below this are noise.
const CHANGE_RATIO_MOST: f64 = 1.25;
/// After so long without work the agent counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(3);
/// How long anything may take: far more than it ever does.
const WITHIN: Duration = Duration::from_secs(120);
/// The first Service's address; the others follow.
const FIRST_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 1, 0);
/// The first endpoint's address; the others follow.
const FIRST_ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);
/// Endpoints that come in the place of others.
const NEW_ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 192, 0, 1);
/// Services' port.
const PORT: u16 = 80;

pub fn run(effort: &Effort, report: &mut Report) {
    let changes = if effort.quick { 50 } else { 500 };
    if !effort.sizes.is_empty() {
        for &services in &effort.sizes {
            size(&Size { services, endpoints: 10, changes }, report);
        }
        return;
    }
    let few = size(&Size { services: 1_000, endpoints: 10, changes }, report);
    let many = size(&Size { services: 10_000, endpoints: 10, changes }, report);
    if let (Some(few), Some(many)) = (few, many) {
        let figure = Figure::new("programming/change-p50/10000-by-1000", many, "ms");
        report.add(figure.against("1000 Services", few).ratio_at_most(CHANGE_RATIO_MOST));
    }
    size(&Size { services: 10_000, endpoints: 25, changes: 0 }, report);
    report.note(format!("programming: {}", load()));
}

/// What the API server has.
struct Size {
    services: usize,
    endpoints: usize,
    /// How many changes are measured, one after the other.
    changes: usize,
}

impl Size {
    fn ip(&self, service: usize) -> SocketAddrV4 {
        assert!(service < self.services, "there is no such Service");
        SocketAddrV4::new((u32::from(FIRST_IP) + service as u32).into(), PORT)
    }

    fn service(&self, number: usize) -> Value {
        let ip = self.ip(number).ip().to_string();
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{number}"), "namespace": "default"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": PORT, "targetPort": 8080}]},
        })
    }

    fn slice(&self, number: usize) -> Value {
        let endpoint = |at: usize| {
            let address = Ipv4Addr::from(u32::from(FIRST_ENDPOINT) + (number * self.endpoints + at) as u32);
            json!({
                "addresses": [address.to_string()],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("n{}", 2 + at), "zone": "z",
                "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("s{number}-{at}")},
            })
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("s{number}-a"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": format!("s{number}")},
            },
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": (0..self.endpoints).map(endpoint).collect::<Vec<_>>(),
        })
    }
}

/// Gives the median of the changes, in milliseconds.
fn size(size: &Size, report: &mut Report) -> Option<f64> {
    let name = format!("programming/{}x{}", size.services, size.endpoints);
    println!("  {name}: the API server gets its objects ({})", load());
    let options = Options { log_level: "info", ..Options::default() };
    let mut cluster = Cluster::without_agent(ClusterOptions { node: options, ..ClusterOptions::default() });
    for number in 0..size.services {
        cluster.server.create("services", size.service(number)).expect("create a Service");
        cluster.server.create("endpointslices", size.slice(number)).expect("create an EndpointSlice");
    }
    let asked = first_list(&cluster);
    println!("  {name}: the agent starts ({})", load());
    let watcher = Watcher::start(&cluster, size.ip(0), size.services);
    cluster.begin();
    let Some(ended) = watcher.ended(WITHIN) else {
        report.missing(&name, &format!("after {WITHIN:?} not all Services are in the maps"));
        return None;
    };
    let began = *asked.get().expect("the agent has asked for Services");
    let took = Figure::new(format!("{name}/list-to-maps"), (ended - began).as_secs_f64(), "s");
    std::thread::sleep(IDLE_AFTER);
    let rss = Figure::new(format!("{name}/agent-rss"), rss_mib(cluster.agent_pid()), "MiB");
    match size.services * size.endpoints {
        250_000 => {
            report.add(took.at_most(LARGE_SECONDS_MOST));
            report.add(rss.at_most(LARGE_MIB_MOST));
        }
        100_000 => {
            report.add(took.at_most(LIST_SECONDS_MOST));
            report.add(rss);
        }
        _ => {
            report.add(took);
            report.add(rss);
        }
    }
    report.add(Figure::new(format!("{name}/agent-rss-peak"), peak_mib(cluster.agent_pid()), "MiB"));
    changes(size, &cluster, &name, report)
}

/// When the agent first asks for Services or EndpointSlices, whose first byte then follows.
fn first_list(cluster: &Cluster) -> Arc<OnceLock<Duration>> {
    let asked = Arc::new(OnceLock::new());
    let first = Arc::clone(&asked);
    let look = move |request: &orlop_apiserver::Request| {
        if ["services", "endpointslices"].contains(&request.resource.as_str()) {
            first.get_or_init(pinned::monotonic);
        }
        false
    };
    cluster.server.faults().add(orlop_apiserver::Fault::Drop, None, look);
    asked
}

fn changes(size: &Size, cluster: &Cluster, name: &str, report: &mut Report) -> Option<f64> {
    let frontends = Frontends::of(cluster);
    let mut times = Vec::new();
    for change in 0..size.changes {
        // Services far from each other, each once or twice.
        let number = change * 7_919 % size.services;
        let at = size.ip(number);
        let was = frontends.get(at).expect("the Service is in the maps");
        let slice = cluster.server.get("endpointslices", "default", &format!("s{number}-a"));
        let mut slice = slice.expect("the Service has a slice");
        let address = Ipv4Addr::from(u32::from(NEW_ENDPOINT) + change as u32);
        slice["endpoints"][change % size.endpoints]["addresses"] = json!([address.to_string()]);
        let began = Instant::now();
        cluster.server.update("endpointslices", slice).expect("change the EndpointSlice");
        let Some(ended) = frontends.wait_change(at, &was, WITHIN) else {
            report.missing(&format!("{name}/change"), &format!("change {change} did not come into the map"));
            return None;
        };
        times.push((ended - began).as_secs_f64() * 1e3);
    }
    if times.is_empty() {
        return None;
    }
    let p50 = median(&times);
    report.add(Figure::new(format!("{name}/change-p50"), p50, "ms"));
    report.add(Figure::new(format!("{name}/change-p99"), percentile(&times, 99), "ms").at_most(CHANGE_MS_MOST));
    report.add(Figure::new(format!("{name}/agent-rss-after-changes"), rss_mib(cluster.agent_pid()), "MiB"));
    Some(p50)
}
