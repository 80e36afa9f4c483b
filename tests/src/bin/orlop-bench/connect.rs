//! `connect()` to a ClusterIP against `connect()` to the pod behind it, from another
//! pod, with one Service and with ten thousand.

use crate::clock::{Marks, load};
use crate::figure::{Figure, Report, median};
use crate::memory::rss_mib;
use crate::probe::{self, Server};
use crate::{Effort, node};
use orlop_tests::{World, object, wait_for};
use std::fmt::Write;
use std::net::SocketAddrV4;

/// At most so many times a connect to the pod itself.
const RATIO_MOST: f64 = 1.05;
/// Services beside the measured one.
const MANY: usize = 9_999;
/// Services in one file of manifests.
const A_FILE: usize = 2_000;
/// Where the server listens, and the Service with it.
const PORT: u16 = 8080;
/// The measured Service's address.
const CLUSTER_IP: &str = "10.96.255.1";

pub fn run(effort: &Effort, report: &mut Report) {
    let world = node::quiet();
    let mut marks = Marks::new(world.folder("marks"));
    for name in ["server", "client"] {
        let manifest = node::marking_pod(name, name, marks.folder());
        let labelled =
            manifest.replacen(&format!("{{name: {name},"), &format!("{{name: {name}, labels: {{app: {name}}},"), 1);
        node::appear(&world, &[(name.to_owned(), labelled)]);
        marks.wait(name);
    }
    let [server, client] = ["server", "client"].map(|name| world.wait_ready(name));
    let [server_pid, client_pid] = [&server, &client].map(|pod| pod.containers[0].pid.expect("a pid"));
    let direct = probe::at(&server.ips[0], PORT);
    let listening = Server::start(&world, server_pid, direct);
    node::appear(&world, &[("measured".to_owned(), service("measured", Some(CLUSTER_IP)))]);
    wait_services(&world, 1);
    let addresses = [probe::at(CLUSTER_IP, PORT), direct];
    report.add(compared(&world, client_pid, effort, addresses, "connect/1-service"));

    let began = node::appear(&world, &many());
    wait_services(&world, MANY + 1);
    report.add(Figure::new("connect/time-to-10000-services", began.elapsed().as_secs_f64(), "s"));
    report.add(compared(&world, client_pid, effort, addresses, "connect/10000-services"));
    report.add(Figure::new("connect/agent-rss-with-10000-services", rss_mib(world.agent_pid()), "MiB"));
    report.note(format!("connect: {}", load()));
    drop(listening);
}

/// The median of several medians, so that one busy moment does not count.
fn compared(world: &World, pid: u32, effort: &Effort, addresses: [SocketAddrV4; 2], name: &str) -> Figure {
    let (times, rounds) = if effort.quick { (5, 2_000) } else { (9, 4_000) };
    let pairs: Vec<[f64; 2]> = (0..times).map(|_| probe::connect(world, pid, rounds, addresses)).collect();
    let [service, direct] = [0, 1].map(|at| median(&pairs.iter().map(|pair| pair[at]).collect::<Vec<_>>()));
    Figure::new(name, service, "us").against("connect to the pod", direct).ratio_at_most(RATIO_MOST)
}

fn service(name: &str, cluster_ip: Option<&str>) -> String {
    let ip = cluster_ip.map(|ip| format!("clusterIP: {ip}, ")).unwrap_or_default();
    object(
        "Service",
        &format!("{{name: {name}}}"),
        &format!("spec: {{{ip}selector: {{app: server}}, ports: [{{port: {PORT}}}]}}\n"),
    )
}

fn many() -> Vec<(String, String)> {
    let numbers: Vec<usize> = (0..MANY).collect();
    let files = numbers.chunks(A_FILE).enumerate().map(|(file, numbers)| {
        let text = numbers.iter().fold(String::new(), |mut text, n| {
            let _ = write!(text, "{}", service(&format!("s{n}"), None));
            text
        });
        (format!("many-{file}"), text)
    });
    files.collect()
}

fn wait_services(world: &World, count: usize) {
    let there = wait_for(|| {
        let answer = world.ask("services")?;
        let services = answer["services"].as_array()?;
        let served =
            services.iter().filter(|s| s["ports"].as_array().is_some_and(|p| p.iter().any(has_backend))).count();
        (served >= count).then_some(())
    });
    assert!(there.is_some(), "{count} Services are not there");
}

fn has_backend(port: &serde_json::Value) -> bool {
    port["backends"].as_array().is_some_and(|backends| !backends.is_empty())
}
