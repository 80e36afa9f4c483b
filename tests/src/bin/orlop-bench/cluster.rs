//! A node of a cluster: from a pod's binding to Running at the API server, what the
//! node writes for it, and what the agent weighs. The API server is in this process.

use crate::Effort;
use crate::clock::load;
use crate::figure::{Figure, Report, median, percentile};
use crate::memory::{private_kib, rss_mib};
use orlop_apiserver::{ApiServer, Controllers};
use orlop_tests::{IMAGE, Options, World};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Milliseconds from binding to Running of one pod, in the middle.
const ONE_MS_MOST: f64 = 100.0;
/// Pods bound at once.
const BURST: usize = 50;
/// Seconds until the last of them runs.
const BURST_SECONDS_MOST: f64 = 2.0;
/// Pods on a full node.
const FULL: usize = 110;
/// Resident memory of the agent of a full node, in MiB.
const AGENT_MIB_MOST: f64 = 60.0;
/// Services, each with ten endpoints.
const SERVICES: usize = 10_000;
/// After so long without work the agent counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(3);

pub fn run(effort: &Effort, report: &mut Report) {
    let (api, world) = cluster();
    report.add(agent(&world, "cluster/agent-rss-with-0-pods"));
    // The first pod is not counted: it fills caches that later ones find.
    one_by_one(&api, &world, 1, "first");
    let times = one_by_one(&api, &world, if effort.quick { 10 } else { 40 }, "one");
    report.add(Figure::new("cluster/bound-to-running-p50", median(&times), "ms").at_most(ONE_MS_MOST));
    report.add(Figure::new("cluster/bound-to-running-p99", percentile(&times, 99), "ms"));
    let last: Vec<f64> = (0..if effort.quick { 2 } else { 5 }).map(|round| burst(&api, &world, round)).collect();
    report.add(Figure::new("cluster/last-of-50", median(&last), "s").at_most(BURST_SECONDS_MOST));

    api.forget_requests();
    let names: Vec<String> = (0..BURST).map(|n| format!("full-{n}")).collect();
    names.iter().for_each(|name| bound(&api, name));
    names.iter().for_each(|name| running(&api, name));
    std::thread::sleep(IDLE_AFTER);
    let a_pod = |count: usize| count as f64 / BURST as f64;
    report.add(Figure::new("cluster/status-patches-a-start", a_pod(api.count_of("patch", "pods/status")), ""));
    report.add(Figure::new("cluster/events-a-start", a_pod(api.count_of("create", "events")), ""));
    report.add(agent(&world, "cluster/agent-rss-with-50-pods"));
    let more: Vec<String> = (BURST..FULL).map(|n| format!("full-{n}")).collect();
    more.iter().for_each(|name| bound(&api, name));
    more.iter().for_each(|name| running(&api, name));
    std::thread::sleep(IDLE_AFTER);
    report.add(agent(&world, "cluster/agent-rss-with-110-pods").at_most(AGENT_MIB_MOST));
    let monitors: f64 = world.monitor_pids().iter().map(|pid| private_kib(*pid)).sum();
    report.add(Figure::new("cluster/110-monitors-private", monitors / 1024.0, "MiB"));
    let all: Vec<String> = (0..FULL).map(|n| format!("full-{n}")).collect();
    end(&api, &world, &all);
    drop(world);
    drop(api);
    services(report);
    report.note(format!("cluster: {}", load()));
}

fn cluster() -> (ApiServer, World) {
    let controllers = Controllers { pod_cidr: Some("10.244.0.0/16".into()), ..Controllers::default() };
    let server = orlop_apiserver::Options { controllers, ..orlop_apiserver::Options::default() };
    let (api, world) = World::joined(server, Options { log_level: "info", ..Options::default() });
    api.wait_for("nodes", "", "n1", |node| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    });
    (api, world)
}

fn agent(world: &World, name: &str) -> Figure {
    Figure::new(name, rss_mib(world.agent_pid()), "MiB")
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": "n1", "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": IMAGE, "imagePullPolicy": "Never",
                "command": ["/bin/busybox", "sleep", "3600"],
            }],
        },
    })
}

fn bound(api: &ApiServer, name: &str) {
    api.create("pods", pod(name)).expect("create a pod");
}

fn running(api: &ApiServer, name: &str) {
    api.wait_for("pods", "default", name, |pod| pod["status"]["phase"] == "Running");
}

/// Milliseconds each.
fn one_by_one(api: &ApiServer, world: &World, count: usize, prefix: &str) -> Vec<f64> {
    let one = |n: usize| {
        let name = format!("{prefix}-{n}");
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        bound(api, &name);
        running(api, &name);
        let took = began.elapsed().as_secs_f64() * 1e3;
        end(api, world, &[name]);
        took
    };
    (0..count).map(one).collect()
}

/// Without grace they leave the API server before the node: what is still being taken
/// down there counts against its 110 pods.
fn end(api: &ApiServer, world: &World, names: &[String]) {
    for name in names {
        api.delete("pods", "default", name, None).expect("delete a pod");
    }
    names.iter().for_each(|name| api.wait_gone("pods", "default", name));
    world.wait_until("the pods are gone", || world.pods().is_empty().then_some(()));
}

/// Seconds until the last one runs.
fn burst(api: &ApiServer, world: &World, round: usize) -> f64 {
    let names: Vec<String> = (0..BURST).map(|n| format!("burst-{round}-{n}")).collect();
    let began = Instant::now();
    names.iter().for_each(|name| bound(api, name));
    names.iter().for_each(|name| running(api, name));
    let took = began.elapsed().as_secs_f64();
    end(api, world, &names);
    took
}

/// The agent with 10,000 Services and 100,000 endpoints.
fn services(report: &mut Report) {
    let (api, world) = cluster();
    let before = rss_mib(world.agent_pid());
    for n in 0..SERVICES {
        let name = format!("s{n}");
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}]},
        });
        api.create("services", service).expect("create a Service");
        let endpoint = |at: usize| {
            let (n, at) = (n * 10 + at, at);
            let addr = format!("10.{}.{}.{}", 128 + n / 65_536, n / 256 % 256, n % 256);
            json!({
                "addresses": [addr], "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("n{}", 2 + at), "zone": "z",
                "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("{name}-{at}")},
            })
        };
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{name}-a"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": (0..10).map(endpoint).collect::<Vec<_>>(),
        });
        api.create("endpointslices", slice).expect("create an EndpointSlice");
    }
    world.wait_until("all Services are in the tables", || {
        let services = world.ask("services")?;
        let full = |service: &&Value| service["ports"][0]["backends"].as_array().is_some_and(|all| all.len() == 10);
        (services["services"].as_array()?.iter().filter(full).count() == SERVICES).then_some(())
    });
    std::thread::sleep(IDLE_AFTER);
    report.add(Figure::new("cluster/agent-rss-without-services", before, "MiB"));
    let name = "cluster/agent-rss-with-100000-endpoints-after-changes";
    report.add(Figure::new(name, rss_mib(world.agent_pid()), "MiB"));
    // As a node that joins such a cluster, or restarts in it.
    let log = world.agent_log();
    let mut world = world;
    let began = Instant::now();
    world.restart();
    world.wait_until("the tables are opened", || world.log_since(&log).contains("are in the tables").then_some(()));
    let took = began.elapsed().as_secs_f64();
    std::thread::sleep(IDLE_AFTER);
    report.add(Figure::new("cluster/restart-to-tables-with-10000-services", took, "s"));
    report.add(
        Figure::new("cluster/agent-rss-with-100000-endpoints", rss_mib(world.agent_pid()), "MiB")
            .at_most(AGENT_MIB_MOST),
    );
}
