//! Real sockets through services, in worlds of namespaces.

mod world;

use orlop_datapath::DropReason;
use orlop_ebpf_abi::Traffic;
use orlop_model::Protocol::{Tcp, Udp};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use world::peers::{ask_udp, eventually, serve_tcp, serve_udp, talk_tcp, udp_socket};
use world::service::{Service, apply};
use world::{Netns, Pod, World};

fn counters(world: &World, pod: &Pod) -> orlop_datapath::PodCounters {
    let all = world.datapath().pod_counters().unwrap();
    all.into_iter().find(|(device, _)| *device == pod.host).expect("the pod's counters").1
}

/// Both directions equal what the pod's own interface says.
fn counters_equal_statistics(world: &World, pod: &Pod) {
    eventually("counters of the pod", || {
        let [rx_bytes, rx_packets, tx_bytes, tx_packets] = pod.ns.run(|| world::statistics("eth0"));
        let found = counters(world, pod);
        let flat = |traffic: &Traffic| (traffic.packets, traffic.bytes);
        ((flat(&found.from), flat(&found.to)), ((tx_packets, tx_bytes), (rx_packets, rx_bytes)))
    });
}

fn connections(world: &World, service: u32, backend: u32) -> u64 {
    let all = world.datapath().service_counters().unwrap();
    all.iter().find(|(key, _)| *key == (service, backend)).map_or(0, |(_, counters)| counters.connections)
}

#[test]
fn tcp_through_a_cluster_ip() {
    World::run("tcp", |world| {
        let (a, b) = (world.pod(1), world.pod(2));
        let node = Netns::current();
        serve_tcp(&b.ns, "[::]:8080", "b");
        apply(
            world.datapath(),
            &[
                Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]),
                Service::new(2, Tcp, "[fd96::1]:80", &[(2, "[fd01::2]:8080")]),
            ],
        );
        let cases = [
            (&a.ns, "10.96.0.1:80", "b ::ffff:10.1.0.1"),
            (&a.ns, "[fd96::1]:80", "b fd01::1"),
            (&a.ns, "[::ffff:10.96.0.1]:80", "b ::ffff:10.1.0.1"),
            // A pod that is its own backend never leaves its namespace.
            (&b.ns, "10.96.0.1:80", "b ::ffff:10.1.0.2"),
        ];
        for (ns, addr, greeting) in cases {
            let met = talk_tcp(ns, addr);
            assert_eq!((met.greeting.as_str(), met.peer), (greeting, addr.parse().unwrap()), "{addr}");
        }
        // A host process, with an address of the node.
        world::ip("addr add 192.0.2.9/32 dev lo");
        assert_eq!(talk_tcp(&node, "10.96.0.1:80").greeting, "b ::ffff:192.0.2.9");
        assert_eq!((connections(world, 1, 1), connections(world, 2, 2)), (4, 1));
        let (of_a, of_b) = (counters(world, &a), counters(world, &b));
        assert_eq!((of_a.from.connections, of_a.to.connections), (3, 0));
        assert_eq!((of_b.from.connections, of_b.to.connections), (0, 4));
        counters_equal_statistics(world, &a);
        counters_equal_statistics(world, &b);
    });
}

#[test]
fn a_closed_socket_is_forgotten() {
    World::run("forget", |world| {
        let (a, b) = (world.pod_v4(1), world.pod_v4(2));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")])]);
        let stream = a.ns.run(|| TcpStream::connect("10.96.0.1:80").unwrap());
        assert_eq!((world.translated_sockets(), stream.peer_addr().unwrap()), (1, "10.96.0.1:80".parse().unwrap()));
        drop(stream);
        assert_eq!(world.translated_sockets(), 0);
    });
}

#[test]
fn service_counters_are_the_packets_of_the_connection() {
    World::run("svc", |world| {
        let (a, b) = (world.pod_v4(1), world.pod_v4(2));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")])]);
        let before = counters(world, &a);
        let over = || {
            eventually("both sides closed", || {
                (a.ns.run(world::open_connections) + b.ns.run(world::open_connections), 0)
            })
        };
        talk_tcp(&a.ns, "10.96.0.1:80");
        over();
        let now = counters(world, &a);
        let service = world.datapath().service_counters().unwrap()[0].1;
        assert_eq!(
            (service.packets_to, service.bytes_to, service.packets_from, service.bytes_from),
            (
                now.from.packets - before.from.packets,
                now.from.bytes - before.from.bytes,
                now.to.packets - before.to.packets,
                now.to.bytes - before.to.bytes
            )
        );
        // A direct connection is not the service's.
        let service = world.datapath().service_counters().unwrap();
        talk_tcp(&a.ns, "10.1.0.2:8080");
        over();
        assert_eq!(world.datapath().service_counters().unwrap(), service);
    });
}

#[test]
fn udp_connected_and_not() {
    World::run("udp", |world| {
        let (a, b, c) = (world.pod(1), world.pod(2), world.pod(3));
        serve_udp(&b.ns, "[::]:5353", "b");
        serve_udp(&c.ns, "[::]:5353", "c");
        let both = [(1, "10.1.0.2:5353"), (2, "10.1.0.3:5353")];
        let six = Service::new(2, Udp, "[fd96::1]:53", &[(3, "[fd01::2]:5353")]);
        apply(world.datapath(), &[Service::new(1, Udp, "10.96.0.1:53", &both), six.clone()]);
        let service: SocketAddr = "10.96.0.1:53".parse().unwrap();

        let socket = a.ns.run(|| udp_socket("0.0.0.0:0"));
        let (first, from) = ask_udp(&socket, "10.96.0.1:53", "x");
        assert_eq!(from, service);
        for _ in 0..20 {
            assert_eq!(ask_udp(&socket, "10.96.0.1:53", "x"), (first.clone(), service), "a flow keeps its backend");
        }
        assert_eq!(connections(world, 1, 1) + connections(world, 1, 2), 1);
        // The backend of the flow goes: the other takes over.
        let other = usize::from(first.starts_with('b'));
        apply(world.datapath(), &[Service::new(1, Udp, "10.96.0.1:53", &both[other..=other]).epoch(2), six]);
        let (second, from) = ask_udp(&socket, "10.96.0.1:53", "x");
        assert_eq!((second.as_str(), from), (["b x", "c x"][other], service));

        let socket = a.ns.run(|| {
            let socket = udp_socket("[::]:0");
            socket.connect("[fd96::1]:53").unwrap();
            socket
        });
        assert_eq!(socket.peer_addr().unwrap(), "[fd96::1]:53".parse().unwrap());
        socket.send(b"y").unwrap();
        let mut bytes = [0; 16];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..len], from), (&b"b y"[..], "[fd96::1]:53".parse().unwrap()));
        assert_eq!(counters(world, &a).from.connections, 3);
        let counted = world.datapath().service_counters().unwrap();
        let packets: u64 = counted.iter().map(|(_, counters)| counters.packets_to + counters.packets_from).sum();
        assert_eq!(packets, 2 * 23, "22 datagrams over IPv4 and one over IPv6, each answered");
        // An IPv6 socket that speaks IPv4, to two services in turn.
        let mapped: SocketAddr = "[::ffff:10.96.0.1]:53".parse().unwrap();
        let socket = a.ns.run(|| udp_socket("[::]:0"));
        for _ in 0..3 {
            assert_eq!(ask_udp(&socket, "[::ffff:10.96.0.1]:53", "z"), (["b z", "c z"][other].to_owned(), mapped));
            let six = ("b z".to_owned(), "[fd96::1]:53".parse().unwrap());
            assert_eq!(ask_udp(&socket, "[fd96::1]:53", "z"), six);
        }
        for pod in [&a, &b, &c] {
            counters_equal_statistics(world, pod);
        }
    });
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    World::run("refuse", |world| {
        let a = world.pod(1);
        let outside = world.outside();
        apply(
            world.datapath(),
            &[Service::new(1, Tcp, "10.96.0.1:80", &[]).node_port(30080), Service::new(2, Udp, "10.96.0.1:53", &[])],
        );
        let err = a.ns.run(|| TcpStream::connect("10.96.0.1:80").unwrap_err());
        assert_eq!(err.kind(), ErrorKind::ConnectionRefused);
        let err = a.ns.run(|| udp_socket("0.0.0.0:0").send_to(b"x", "10.96.0.1:53").unwrap_err());
        assert_eq!(err.kind(), ErrorKind::ConnectionRefused);
        assert_eq!((connections(world, 1, 0), connections(world, 2, 0)), (1, 1));
        let uplink = world::ifindex("uplink0");
        let addr = "192.0.2.2:30080".parse().unwrap();
        let limit = std::time::Duration::from_millis(200);
        world.out_of_cgroup(|| outside.run(|| TcpStream::connect_timeout(&addr, limit).unwrap_err()));
        let all = world.datapath().pod_counters().unwrap();
        let found = &all.iter().find(|(device, _)| *device == uplink).unwrap().1;
        assert!(found.drops_from[&DropReason::NoBackend] >= 1);
    });
}

#[test]
fn node_port_from_outside() {
    World::run("nodeport", |world| {
        let (a, b) = (world.pod(1), world.pod(2));
        let outside = world.outside();
        let node = Netns::current();
        serve_tcp(&b.ns, "[::]:8080", "b");
        serve_udp(&b.ns, "[::]:5353", "b");
        serve_tcp(&node, "192.0.2.2:9090", "host");
        apply(
            world.datapath(),
            &[
                Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).node_port(30080),
                Service::new(2, Tcp, "[fd96::1]:80", &[(2, "[fd01::2]:8080")]).node_port(30080),
                Service::new(3, Udp, "10.96.0.1:53", &[(3, "10.1.0.2:5353")]).node_port(30053),
                Service::new(4, Udp, "[fd96::1]:53", &[(4, "[fd01::2]:5353")]).node_port(30053),
                Service::new(5, Tcp, "10.96.0.2:80", &[(5, "192.0.2.2:9090")]).node_port(30090),
            ],
        );
        let cases = [
            (&outside, "192.0.2.2:30080", "b ::ffff:192.0.2.1"),
            (&outside, "[2001:db8::2]:30080", "b 2001:db8::1"),
            (&outside, "192.0.2.2:30090", "host 192.0.2.1"),
        ];
        for (ns, addr, greeting) in cases {
            let met = world.out_of_cgroup(|| talk_tcp(ns, addr));
            assert_eq!((met.greeting.as_str(), met.peer), (greeting, addr.parse().unwrap()));
        }
        // From inside it is translated at connect.
        assert_eq!(talk_tcp(&a.ns, "192.0.2.2:30080").greeting, "b ::ffff:10.1.0.1");
        for (bind, addr) in [("0.0.0.0:0", "192.0.2.2:30053"), ("[::]:0", "[2001:db8::2]:30053")] {
            let socket = world.out_of_cgroup(|| outside.run(|| udp_socket(bind)));
            for _ in 0..3 {
                assert_eq!(ask_udp(&socket, addr, "q"), ("b q".to_owned(), addr.parse().unwrap()));
            }
        }
        let counted: Vec<u64> = (1..=5).map(|number| connections(world, number, number)).collect();
        assert_eq!(counted, [2, 1, 1, 1, 1]);
        assert_eq!(counters(world, &b).to.connections, 5);
        let services = world.datapath().service_counters().unwrap();
        let udp = services.iter().find(|(key, _)| *key == (3, 3)).unwrap().1;
        // 14 Ethernet, 20 IPv4, 8 UDP, and the datagrams.
        let wanted = (3, 3 * 43, 3, 3 * 45);
        assert_eq!((udp.packets_to, udp.bytes_to, udp.packets_from, udp.bytes_from), wanted);
        counters_equal_statistics(world, &b);
    });
}

#[test]
fn large_segments_cross_a_node_port_whole() {
    World::run("gso", |world| {
        let b = world.pod(2);
        let outside = world.outside();
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).node_port(30080)]);
        const BYTES: usize = 4 << 20;
        let transfer = || {
            let stream = TcpStream::connect("192.0.2.2:30080").unwrap();
            let mut writer = stream.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                let block: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
                writer.write_all(&block).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut all = Vec::new();
            (&stream).read_to_end(&mut all).unwrap();
            sender.join().unwrap();
            let echo = &all[all.iter().position(|&byte| byte == b'\n').unwrap() + 1..];
            assert_eq!(echo.len(), BYTES);
            assert!(echo.iter().enumerate().all(|(index, &byte)| byte == (index % 251) as u8));
        };
        world.out_of_cgroup(|| outside.run(transfer));
        counters_equal_statistics(world, &b);
    });
}

#[test]
fn no_connect_fails_while_endpoints_and_programs_change() {
    World::run("changes", |world| {
        let (a, b, c) = (world.pod(1), world.pod(2), world.pod(3));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        serve_tcp(&c.ns, "10.1.0.3:8080", "c");
        let both = [(1, "10.1.0.2:8080"), (2, "10.1.0.3:8080")];
        let service = |epoch: u32| {
            let some = match epoch % 3 {
                0 => &both[..],
                1 => &both[..1],
                _ => &both[1..],
            };
            Service::new(1, Tcp, "10.96.0.1:80", some).epoch(epoch)
        };
        apply(world.datapath(), &[service(0)]);
        let (stop, done, ns) = (AtomicBool::new(false), AtomicU64::new(0), &a.ns);
        std::thread::scope(|scope| {
            let connector = scope.spawn(|| {
                ns.run(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let mut stream = TcpStream::connect("10.96.0.1:80").unwrap();
                        stream.read_exact(&mut [0; 2]).unwrap();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            });
            for epoch in 1..=1000 {
                if connector.is_finished() {
                    break;
                }
                apply(world.datapath(), &[service(epoch)]);
                if epoch % 250 == 0 {
                    // Another agent takes over: its programs replace the old ones.
                    world.open();
                }
            }
            stop.store(true, Ordering::Relaxed);
            connector.join().unwrap();
        });
        let counted = connections(world, 1, 1) + connections(world, 1, 2);
        assert_eq!((counted, connections(world, 1, 0)), (done.load(Ordering::Relaxed), 0));
        assert!(counted > 100, "{counted} connections");
    });
}

#[test]
fn opening_again_keeps_everything() {
    World::run("reopen", |world| {
        let (a, b) = (world.pod(1), world.pod(2));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).node_port(30080)]);
        talk_tcp(&a.ns, "10.96.0.1:80");
        let (tables, pods) = (world.datapath().dump().unwrap(), world.datapath().attached_pods().unwrap());
        assert_eq!(pods, [a.host, b.host].into());
        world.datapath = None;
        // Nobody is there, and it works on.
        talk_tcp(&a.ns, "10.96.0.1:80");
        world.open();
        assert_eq!((world.datapath().dump().unwrap(), world.datapath().attached_pods().unwrap()), (tables, pods));
        talk_tcp(&a.ns, "10.96.0.1:80");
        assert_eq!(connections(world, 1, 1), 3);
        // Attaching and detaching again is no error, and a detached pod is free.
        world.datapath().attach_pod(b.host, &b.attachment).unwrap();
        world.datapath().detach_pod(b.host).unwrap();
        world.datapath().detach_pod(b.host).unwrap();
        world.datapath().forget_pod_counters(b.host).unwrap();
        assert_eq!(world.datapath().attached_pods().unwrap(), [a.host].into());
        // Told of no cgroup any more, it lets sockets alone and translates their packets.
        let sockets = world.translated_sockets();
        world.config.cgroup = None;
        world.open();
        talk_tcp(&a.ns, "10.96.0.1:80");
        assert_eq!((connections(world, 1, 1), world.translated_sockets()), (4, sockets));
    });
}

#[test]
fn a_pod_cannot_send_from_an_address_that_is_not_its_own() {
    World::run("spoof", |world| {
        let (a, b) = (world.pod(1), world.pod(2));
        a.ns.run(|| {
            world::ip("addr add 10.1.0.99/32 dev eth0");
            world::ip("addr add fd01::99/128 dev eth0 nodad");
            for (bind, to) in [("10.1.0.99:0", "10.1.0.2:9"), ("[fd01::99]:0", "[fd01::2]:9")] {
                let socket = udp_socket(bind);
                for _ in 0..5 {
                    socket.send_to(b"x", to).unwrap();
                }
            }
        });
        eventually("drops", || (counters(world, &a).drops_from.clone(), [(DropReason::SourceSpoofed, 10)].into()));
        assert_eq!(counters(world, &b).to.connections, 0);
        counters_equal_statistics(world, &a);
        counters_equal_statistics(world, &b);
    });
}
