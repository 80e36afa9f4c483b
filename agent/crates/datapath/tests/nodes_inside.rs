//! Clients inside whose sockets no hook translated: their packets are. And what
//! flows live through.

mod world;

use orlop_datapath::{Fault, FlowKind, NodeSettings, TableUse, monotonic_s};
use orlop_ebpf_abi::{FrontendFlags, Timeouts};
use orlop_model::Protocol::{Tcp, Udp};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use world::nodes::{Cluster, Way};
use world::peers::{ask_udp, eventually, serve_tcp, serve_udp, talk_tcp, udp_socket};
use world::service::{Service, apply};
use world::{Netns, World};

/// A client asks a service: the backend saw it as `seen`, it saw the service.
fn asks(client: &Netns, addr: &str, seen: &str) {
    let met = talk_tcp(client, addr);
    assert_eq!((met.greeting.as_str(), met.peer.to_string().as_str()), (seen, addr));
    client.run(|| {
        let socket = udp_socket(if addr.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
        for _ in 0..3 {
            let (answer, from) = ask_udp(&socket, addr, "question");
            let name = seen.split(' ').next().unwrap();
            assert_eq!((answer, from.to_string().as_str()), (format!("{name} question"), addr));
        }
    });
}

fn serve(ns: &Netns, addr: &str, name: &'static str) {
    serve_tcp(ns, addr, name);
    serve_udp(ns, addr, name);
}

#[test]
fn packets_of_pods_and_of_the_node_to_services() {
    World::run("inside", |world| {
        let cluster = Cluster::new(world, 2, Way::Direct);
        let (a, b, c) = (cluster.node(1).pod(1), cluster.node(1).pod(2), cluster.node(2).pod(3));
        serve(&a, "10.1.1.1:8080", "a");
        serve(&b, "10.1.1.2:8080", "b");
        serve(&b, "[fd01:1::2]:8080", "b");
        serve(&c, "10.1.2.3:8080", "c");
        serve(&c, "[fd01:2::3]:8080", "c");
        serve(&cluster.node(1).ns, "192.0.2.11:8080", "node1");
        serve(&cluster.node(2).ns, "192.0.2.12:8080", "node2");
        let both = |number, addr: &str, backend: &str| {
            [Tcp, Udp].map(|proto| {
                let number = if proto == Tcp { number } else { number + 100 };
                Service::new(number, proto, addr, &[(number, backend)])
            })
        };
        let services: Vec<Service> = [
            both(1, "10.96.0.1:80", "10.1.1.1:8080"),
            both(2, "10.96.0.2:80", "10.1.1.2:8080"),
            both(3, "[fd96::2]:80", "[fd01:1::2]:8080"),
            both(4, "10.96.0.3:80", "10.1.2.3:8080"),
            both(5, "[fd96::3]:80", "[fd01:2::3]:8080"),
            both(6, "10.96.0.4:80", "192.0.2.11:8080"),
            both(7, "10.96.0.5:80", "192.0.2.12:8080"),
            [Service::new(8, Tcp, "10.96.0.6:80", &[]), Service::new(9, Udp, "10.96.0.6:80", &[])],
        ]
        .concat();
        cluster.serve(|_| services.clone());
        let node = &cluster.node(1).ns;
        // A backend on the same node, in both families; one on another node.
        asks(&a, "10.96.0.2:80", "b 10.1.1.1");
        asks(&a, "[fd96::2]:80", "b fd01:1::1");
        asks(&a, "10.96.0.3:80", "c 10.1.1.1");
        asks(&a, "[fd96::3]:80", "c fd01:1::1");
        // The pod itself sees an address of the node.
        asks(&a, "10.96.0.1:80", "a 192.0.2.11");
        // In the node's own network, and in another node's, which is outside the pods' networks.
        asks(&a, "10.96.0.4:80", "node1 10.1.1.1");
        asks(&a, "10.96.0.5:80", "node2 192.0.2.11");
        // A process of the node.
        asks(node, "10.96.0.2:80", "b 192.0.2.11");
        asks(node, "10.96.0.3:80", "c 192.0.2.11");
        asks(node, "[fd96::3]:80", "c 2001:db8::1");
        for client in [&a, node] {
            let addr: SocketAddr = "10.96.0.6:80".parse().unwrap();
            let err = client.run(|| TcpStream::connect_timeout(&addr, Duration::from_secs(5)).unwrap_err());
            assert_eq!(err.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

/// One connection that has been used, and can be used again.
struct Open(TcpStream);

impl Open {
    fn new(ns: &Netns, addr: &str) -> Self {
        let addr: SocketAddr = addr.parse().unwrap();
        let stream = ns.run(|| TcpStream::connect_timeout(&addr, Duration::from_secs(5)).unwrap());
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut open = Self(stream);
        let mut byte = [0];
        while byte != *b"\n" {
            open.0.read_exact(&mut byte).unwrap();
        }
        open.works();
        open
    }

    fn works(&mut self) {
        self.0.write_all(b"ping").unwrap();
        let mut echo = [0; 4];
        self.0.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ping");
    }
}

#[test]
fn flows_live_through_a_new_agent() {
    World::run("replace", |world| {
        let mut cluster = Cluster::new(world, 2, Way::Direct);
        let (a, b) = (cluster.node(1).pod(1), cluster.node(2).pod(2));
        serve(&b, "10.1.2.2:8080", "b");
        serve(&cluster.client, "198.51.100.1:8080", "outside");
        cluster.serve(|_| {
            let service = Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.2.2:8080")]);
            vec![service.node_port(30080).at("203.0.113.5:80", FrontendFlags::EXTERNAL | FrontendFlags::DSR)]
        });
        cluster.route("203.0.113.5/32", 1);
        let mut open = [
            Open::new(&cluster.client, "192.0.2.11:30080"),
            Open::new(&cluster.client, "203.0.113.5:80"),
            Open::new(&a, "198.51.100.1:8080"),
            Open::new(&a, "10.96.0.1:80"),
        ];
        for _ in 0..2 {
            for node in &mut cluster.nodes {
                node.datapath = None;
            }
            open.iter_mut().for_each(Open::works);
            cluster.nodes.iter_mut().for_each(world::nodes::Node::reopen);
            open.iter_mut().for_each(Open::works);
        }
    });
}

#[test]
fn flows_that_are_over_are_collected_and_living_ones_stay() {
    World::run("collect", |world| {
        let cluster = Cluster::new(world, 2, Way::Direct);
        let (a, b) = (cluster.node(1).pod(1), cluster.node(2).pod(2));
        serve(&b, "10.1.2.2:8080", "b");
        serve(&cluster.client, "198.51.100.1:8080", "outside");
        cluster.serve(|_| vec![Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.2.2:8080")]).node_port(30080)]);
        let datapath = cluster.node(1).datapath();
        let mut open = [Open::new(&cluster.client, "192.0.2.11:30080"), Open::new(&a, "198.51.100.1:8080")];
        for _ in 0..5 {
            talk_tcp(&cluster.client, "192.0.2.11:30080");
            talk_tcp(&a, "198.51.100.1:8080");
        }
        let now = monotonic_s();
        let before = datapath.collect_flows(now).unwrap();
        assert_eq!((before.removed, before.seen, before.snat_in_use), (0, 24, 12));
        let flows = datapath.flows(now, 100).unwrap();
        assert_eq!(flows.iter().filter(|flow| flow.kind == FlowKind::Masqueraded && !flow.is_reverse).count(), 6);
        // Both ends of each closed connection have said so: two minutes later they are forgotten.
        let later = now + Timeouts::TCP_TIME_WAIT_S + 20;
        let living: BTreeMap<FlowKind, usize> = [(FlowKind::ServiceSnat, 2), (FlowKind::Masqueraded, 2)].into();
        eventually("closed flows go", || (datapath.collect_flows(later).unwrap().kept, living.clone()));
        assert_eq!(datapath.collect_flows(later).unwrap().snat_in_use, 2);
        open.iter_mut().for_each(Open::works);
        let last = datapath.collect_flows(now + Timeouts::TCP_ESTABLISHED_S + 20).unwrap();
        assert_eq!((last.removed, last.kept.len()), (4, 0));
    });
}

#[test]
fn source_ports_that_run_out_are_counted_and_come_back() {
    World::run("exhausted", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        let a = cluster.node(1).pod(1);
        let datapath = cluster.node(1).datapath();
        serve(&cluster.client, "198.51.100.1:8080", "outside");
        serve(&cluster.client, "198.51.100.1:8081", "outside");
        // Half of them, three, are for flows that are no service's.
        datapath.set_settings(&NodeSettings { snat_ports: 6, ..NodeSettings::default() }).unwrap();
        let mut open: Vec<Open> = (0..3).map(|_| Open::new(&a, "198.51.100.1:8080")).collect();
        let addr: SocketAddr = "198.51.100.1:8080".parse().unwrap();
        let failed = a.run(|| TcpStream::connect_timeout(&addr, Duration::from_millis(300)).unwrap_err());
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        let faults = datapath.faults().unwrap();
        assert!(faults.iter().any(|(fault, count)| *fault == Fault::SnatPorts && *count >= 1), "{faults:?}");
        // Another destination has ports of its own, and a closed connection's port is free.
        talk_tcp(&a, "198.51.100.1:8081");
        open.iter_mut().for_each(Open::works);
        drop(open.pop());
        talk_tcp(&a, "198.51.100.1:8080");
        open.iter_mut().for_each(Open::works);
        let _: Vec<TableUse> = datapath.table_use().unwrap();
    });
}

#[test]
fn no_connection_from_outside_breaks_while_endpoints_change() {
    /// A quarter of the goal's 10,000: each is read back and compared whole.
    const CHANGES: u32 = 2_500;
    World::run("changes", |world| {
        let cluster = Cluster::new(world, 2, Way::Direct);
        let (b, c) = (cluster.node(2).pod(2), cluster.node(2).pod(3));
        serve(&b, "10.1.2.2:8080", "b");
        serve(&c, "10.1.2.3:8080", "c");
        let both = [(1, "10.1.2.2:8080"), (2, "10.1.2.3:8080")];
        let service = |epoch: u32| {
            let some = match epoch % 3 {
                0 => &both[..],
                1 => &both[..1],
                _ => &both[1..],
            };
            Service::new(1, Tcp, "10.96.0.1:80", some).node_port(30080).epoch(epoch)
        };
        let datapath = cluster.node(1).datapath();
        apply(datapath, &[service(0)]);
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let connectors = [0, 1].map(|_| {
                scope.spawn(|| {
                    cluster.client.run(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let mut stream = TcpStream::connect("192.0.2.11:30080").unwrap();
                            stream.read_exact(&mut [0; 2]).unwrap();
                            stream.write_all(b"x").unwrap();
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                })
            });
            for epoch in 1..=CHANGES {
                if connectors.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                    break;
                }
                apply(datapath, &[service(epoch)]);
            }
            stop.store(true, Ordering::Relaxed);
            connectors.into_iter().for_each(|connector| connector.join().unwrap());
        });
        let counted = datapath.service_counters().unwrap();
        let connections: u64 = counted.iter().map(|(_, counters)| counters.connections).sum();
        assert!(counted.iter().all(|((_, backend), _)| *backend != 0), "{counted:?}");
        assert_eq!(connections, done.load(Ordering::Relaxed));
        assert!(connections > 100, "{connections} connections");
        assert!(cluster.node(1).uplink_counters().drops_from.is_empty());
    });
}

#[test]
fn a_host_port_leads_from_every_address_of_the_node_to_its_pod() {
    World::run("hostport", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        let (a, b) = (cluster.node(1).pod(1), cluster.node(1).pod(2));
        serve(&b, "10.1.1.2:8080", "b");
        let flags = FrontendFlags::HOST_PORT | FrontendFlags::EXTERNAL_LOCAL;
        let port = |number, proto| {
            let mut service = Service::new(number, proto, "0.0.0.0:8088", &[(number, "10.1.1.2:8080")]).flags(flags);
            service = service.sets(1, 0);
            service
        };
        cluster.serve(|_| vec![port(1, Tcp), port(2, Udp)]);
        asks(&cluster.client, "192.0.2.11:8088", "b 198.51.100.1");
        asks(&a, "192.0.2.11:8088", "b 10.1.1.1");
    });
}
