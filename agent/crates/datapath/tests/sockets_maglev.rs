//! Which backend a client outside gets, where each node must come to the same answer.

mod world;

use orlop_ebpf_abi::FrontendFlags;
use orlop_model::Protocol::Udp;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use world::World;
use world::peers::{ask_udp, serve_udp, udp_socket};
use world::service::{Service, apply};

const BACKENDS: [(u32, &str); 3] = [(1, "10.1.0.9:8001"), (2, "10.1.0.9:8002"), (3, "10.1.0.9:8003")];
const NAMES: [&str; 3] = ["1", "2", "3"];
/// So many clients, each with a port of its own.
const CLIENTS: u16 = 300;

/// On a node of its own, which backend each client outside gets, by its port.
fn choices(name: &'static str, service: Service) -> BTreeMap<u16, String> {
    let (sender, choices) = channel();
    World::run(name, move |world| {
        let pod = world.pod_v4(9);
        for ((_, addr), name) in BACKENDS.iter().zip(NAMES) {
            serve_udp(&pod.ns, addr, name);
        }
        let outside = world.outside();
        apply(world.datapath(), &[service]);
        for port in 20_000..20_000 + CLIENTS {
            let socket = outside.run(|| udp_socket(&format!("0.0.0.0:{port}")));
            sender.send((port, ask_udp(&socket, "192.0.2.2:30053", "x").0)).unwrap();
        }
    });
    choices.iter().collect()
}

/// A table whose entries are two to one to nothing for the backends.
fn maglev(backends: &[(u32, &str)]) -> Service {
    let table: Vec<u32> = (0..251).map(|index| if index % 3 == 0 { 2 } else { 1 }).collect();
    Service::new(1, Udp, "10.96.0.1:53", backends).node_port(30053).maglev(&table)
}

fn share(choices: &BTreeMap<u16, String>, name: &str) -> usize {
    choices.values().filter(|choice| choice.starts_with(name)).count()
}

#[test]
fn two_nodes_choose_alike_by_the_table() {
    let first = choices("maglev-1", maglev(&BACKENDS));
    // Another node, and another history: epoch and order of the slots are not the same.
    let turned = [BACKENDS[2], BACKENDS[1], BACKENDS[0]];
    let second = choices("maglev-2", maglev(&turned).epoch(77));
    assert_eq!(first.len(), usize::from(CLIENTS));
    assert_eq!(first, second);
    // 200, 100 and 0 of 300 are expected; five standard deviations are 41.
    let [one, two, three] = NAMES.map(|name| share(&first, name));
    assert!((159..=241).contains(&one) && two == 300 - one && three == 0, "{one}, {two}, {three}");
}

#[test]
fn with_affinity_the_port_does_not_count() {
    let all = choices("maglev-affinity", maglev(&BACKENDS).affinity(60));
    assert_eq!(NAMES.map(|name| share(&all, name)).into_iter().filter(|share| *share > 0).count(), 1);
}

#[test]
fn dsr_chooses_by_the_client_without_a_table() {
    let mut service = Service::new(1, Udp, "10.96.0.1:53", &BACKENDS).node_port_with(30053, FrontendFlags::DSR);
    let first = choices("dsr-1", service.clone());
    assert_eq!(first, choices("dsr-2", service.clone().epoch(5)));
    let shares = NAMES.map(|name| share(&first, name));
    // 100 each are expected; five standard deviations are 41.
    assert!(shares.iter().all(|share| (59..=141).contains(share)), "{shares:?}");
    service = service.affinity(60);
    let all = choices("dsr-affinity", service);
    assert_eq!(NAMES.map(|name| share(&all, name)).into_iter().filter(|share| *share > 0).count(), 1);
}
