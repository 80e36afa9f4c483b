//! What 25,000 Services with 250,000 endpoints cost. A program of its own, because
//! the process's memory is measured.

use orlop_lb::{Cluster, Compiler, LbTables, LeanEndpointSlice, LeanService};
use std::fmt::Write;
use std::time::Instant;

const SERVICES: u32 = 25_000;
const ENDPOINTS: u32 = 10;
/// All that an endpoint may cost, its part of Services, slices and tables with it:
/// 250,000 of them leave the agent far below 200 MiB.
const BYTES_AN_ENDPOINT_MAX: u64 = 350;

/// Of this process: resident now, and the most that it ever was, in bytes.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// As the API server writes it, some of what is not needed included.
fn service(n: u32) -> String {
    let (namespace, ip) = (n / 100, std::net::Ipv4Addr::from_bits(0x0a60_0001 + n));
    format!(
        r#"{{"metadata":{{"name":"service-{n:05}","namespace":"namespace-{namespace:03}","uid":"3f1d0f60-0000-4000-8000-{n:012}",
        "resourceVersion":"{n}","creationTimestamp":"2026-01-02T03:04:05Z","labels":{{"app":"service-{n:05}"}}}},
        "spec":{{"type":"ClusterIP","clusterIP":"{ip}","clusterIPs":["{ip}"],"ipFamilies":["IPv4"],"sessionAffinity":"None",
        "internalTrafficPolicy":"Cluster","selector":{{"app":"service-{n:05}"}},
        "ports":[{{"name":"http","port":80,"targetPort":8080,"protocol":"TCP"}}]}},"status":{{"loadBalancer":{{}}}}}}"#
    )
}

fn slice(n: u32, not_ready: u32) -> String {
    let mut endpoints = String::new();
    for m in 0..ENDPOINTS {
        let ip = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * ENDPOINTS + m);
        let (comma, node) = (if m == 0 { "" } else { "," }, (n * ENDPOINTS + m) % 100);
        let ready = m != not_ready;
        write!(
            endpoints,
            r#"{comma}{{"addresses":["{ip}"],"conditions":{{"ready":{ready},"serving":{ready},"terminating":false}},
            "nodeName":"node-{node:03}.example.internal","zone":"zone-{}","targetRef":{{"kind":"Pod",
            "name":"service-{n:05}-7d4b9c6f5-{m:05}","namespace":"namespace","uid":"3f1d0f60-0000-4000-8000-000000000000"}}}}"#,
            node % 3
        )
        .unwrap();
    }
    format!(
        r#"{{"metadata":{{"name":"service-{n:05}-x7k2p","namespace":"namespace-{:03}","labels":{{"kubernetes.io/service-name":
        "service-{n:05}"}}}},"addressType":"IPv4","ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":[{endpoints}]}}"#,
        n / 100
    )
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

/// One by one, as a watch of an agent that runs already gives them.
#[test]
fn a_quarter_of_a_million_endpoints() {
    let (before, _) = resident();
    let (mut cluster, mut compiler) = (Cluster::new("node-042.example.internal"), Compiler::new());
    let start = Instant::now();
    let mut follow = |cluster: &Cluster, touched: Vec<orlop_model::ServiceKey>| {
        let inputs = touched.iter().filter_map(|key| cluster.input(key));
        inputs.map(|input| compiler.set_service(&input).len()).sum::<usize>()
    };
    let mut operations = 0;
    for n in 0..SERVICES {
        let touched = cluster.apply_service(decode::<LeanService>(&service(n)));
        operations += follow(&cluster, touched);
    }
    let (services, _) = resident();
    for n in 0..SERVICES {
        let touched = cluster.apply_slice(decode::<LeanEndpointSlice>(&slice(n, u32::MAX)));
        operations += follow(&cluster, touched);
    }
    let (after, most) = resident();
    let endpoints = u64::from(SERVICES * ENDPOINTS);
    println!("{operations} operations in {:?}", start.elapsed());
    println!(
        "services {} KiB, all {} KiB, at most {} KiB; {} bytes an endpoint",
        (services - before) >> 10,
        (after - before) >> 10,
        (most - before) >> 10,
        (most - before) / endpoints
    );
    let mut times: Vec<_> = (0..200)
        .map(|n| {
            let lean = decode::<LeanEndpointSlice>(&slice(n * 7, 3));
            let start = Instant::now();
            let touched = cluster.apply_slice(lean);
            follow(&cluster, touched);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("one endpoint: median {:?}, p99 {:?}", times[100], times[198]);
    assert!((most - before) / endpoints <= BYTES_AN_ENDPOINT_MAX, "{} bytes an endpoint", (most - before) / endpoints);

    // An agent that starts and finds the maps as they are.
    let dump = compiler.tables();
    drop(compiler);
    let start = Instant::now();
    let (restored, plan) = Compiler::restore(dump, cluster.inputs());
    println!("restore: {:?}, resident at most {} KiB more", start.elapsed(), (resident().1 - before) >> 10);
    assert!(plan.is_empty());
    assert_ne!(restored.tables(), LbTables::default());
}
