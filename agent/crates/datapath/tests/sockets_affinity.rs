//! `sessionAffinity: ClientIP` with real sockets: a pod is a client, the node's processes are one,
//! a host outside is one.

mod world;

use orlop_model::Protocol::{Tcp, Udp};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use world::peers::{ask_udp, serve_tcp, serve_udp, talk_tcp, udp_socket};
use world::service::{Service, apply};
use world::{Netns, World};

const HOUR_S: u32 = 3_600;
const BACKENDS: [(u32, &str); 6] = [
    (1, "10.1.0.9:8001"),
    (2, "10.1.0.9:8002"),
    (3, "10.1.0.9:8003"),
    (4, "10.1.0.9:8004"),
    (5, "10.1.0.9:8005"),
    (6, "10.1.0.9:8006"),
];
const NAMES: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

/// A pod with a server for each backend, which says its number.
fn serve(world: &World) -> world::Pod {
    let pod = world.pod_v4(9);
    for ((_, addr), name) in BACKENDS.iter().zip(NAMES) {
        serve_tcp(&pod.ns, addr, name);
        serve_udp(&pod.ns, addr, name);
    }
    pod
}

/// The number of the backend that answers.
fn backend(ns: &Netns, addr: &str) -> u32 {
    talk_tcp(ns, addr).greeting.split(' ').next().unwrap().parse().unwrap()
}

/// The backends of a dozen connections.
fn backends(ns: &Netns, addr: &str) -> BTreeSet<u32> {
    (0..12).map(|_| backend(ns, addr)).collect()
}

#[test]
fn a_client_keeps_its_backend_as_long_as_the_service_has_it() {
    World::run("affinity", |world| {
        let _server = serve(world);
        let (a, b, node) = (world.pod_v4(1), world.pod_v4(2), Netns::current());
        world::ip("addr add 192.0.2.9/32 dev lo");
        let service = Service::new(1, Tcp, "10.96.0.1:80", &BACKENDS).affinity(HOUR_S);
        // Another service keeps all backends active.
        let other = Service::new(2, Tcp, "10.96.0.2:80", &BACKENDS);
        apply(world.datapath(), &[service.clone(), other.clone()]);
        let mut kept = Vec::new();
        for ns in [&a.ns, &b.ns, &node] {
            let met = backends(ns, "10.96.0.1:80");
            assert_eq!(met.len(), 1, "{met:?}");
            kept.extend(met);
        }
        assert!(backends(&a.ns, "10.96.0.2:80").len() > 1, "without affinity it is at random");
        // The list changes and the backend stays: so does the client.
        let rest: Vec<(u32, &str)> = BACKENDS.into_iter().filter(|(id, _)| kept.contains(id)).collect();
        apply(world.datapath(), &[Service { backends: Vec::new(), ..service.clone() }, other.clone()]);
        apply(
            world.datapath(),
            &[Service::new(1, Tcp, "10.96.0.1:80", &rest).affinity(HOUR_S).epoch(2), other.clone()],
        );
        for (ns, kept) in [&a.ns, &b.ns, &node].into_iter().zip(&kept) {
            assert_eq!(backends(ns, "10.96.0.1:80"), [*kept].into());
        }
        // It goes from this service, and is another's still: the client has a new one for good.
        let gone = kept[0];
        let rest: Vec<(u32, &str)> = BACKENDS.into_iter().filter(|(id, _)| *id != gone).collect();
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &rest).affinity(HOUR_S).epoch(3), other]);
        let met = backends(&a.ns, "10.96.0.1:80");
        assert!(met.len() == 1 && !met.contains(&gone), "{met:?} and not {gone}");
        apply(world.datapath(), &[service.epoch(4)]);
        assert_eq!(backends(&a.ns, "10.96.0.1:80"), met);
    });
}

#[test]
fn a_client_of_many_backends_keeps_its_own() {
    World::run("affinity-many", |world| {
        let _server = serve(world);
        let a = world.pod_v4(1);
        // Ten blocks of slots: the backend is looked for in all of them.
        let many: Vec<(u32, &str)> = (0..160).map(|index| (index + 1, BACKENDS[index as usize % 6].1)).collect();
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &many).affinity(HOUR_S)]);
        assert_eq!(backends(&a.ns, "10.96.0.1:80").len(), 1);
        assert_eq!(world.datapath().service_counters().unwrap().len(), 1, "one of the 160, not only one address");
    });
}

#[test]
fn affinity_ends_when_the_client_was_silent_for_its_timeout() {
    World::run("affinity-end", |world| {
        let _server = serve(world);
        let a = world.pod_v4(1);
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &BACKENDS).affinity(1)]);
        let first = backend(&a.ns, "10.96.0.1:80");
        // A new choice may fall on the old backend: it is given several.
        for _ in 0..20 {
            let silent_since = Instant::now();
            while silent_since.elapsed() < Duration::from_millis(2_010) {
                std::thread::yield_now();
            }
            if backend(&a.ns, "10.96.0.1:80") != first {
                return;
            }
        }
        panic!("backend {first} is kept after its time");
    });
}

#[test]
fn udp_sockets_and_clients_outside_have_affinity() {
    World::run("affinity-udp", |world| {
        let _server = serve(world);
        let a = world.pod_v4(1);
        let outside = world.outside();
        let service = Service::new(1, Udp, "10.96.0.1:53", &BACKENDS).affinity(HOUR_S).node_port(30053);
        apply(world.datapath(), &[service]);
        let ask = |ns: &Netns, addr: &str| {
            (0..12).map(|_| ask_udp(&ns.run(|| udp_socket("0.0.0.0:0")), addr, "x").0).collect::<BTreeSet<String>>()
        };
        assert_eq!(ask(&a.ns, "10.96.0.1:53").len(), 1);
        assert_eq!(ask(&outside, "192.0.2.2:30053").len(), 1);
        let connected = |_| {
            let socket = a.ns.run(|| udp_socket("0.0.0.0:0"));
            socket.connect("10.96.0.1:53").unwrap();
            socket.send(b"x").unwrap();
            let mut bytes = [0; 8];
            socket.recv(&mut bytes).map(|_| bytes[0]).unwrap()
        };
        assert_eq!((0..12).map(connected).collect::<BTreeSet<u8>>().len(), 1);
    });
}
