//! Which sockets are translated, for which addresses, and to which set of backends.

mod world;

use orlop_ebpf_abi::FrontendFlags;
use orlop_model::Protocol::{Tcp, Udp};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use world::peers::{ask_udp, serve_tcp, serve_udp, talk_tcp, udp_socket};
use world::service::{Service, apply};
use world::{Netns, World};

const EXTERNAL: u32 = FrontendFlags::EXTERNAL;
const INTERNAL_LOCAL: u32 = FrontendFlags::INTERNAL_LOCAL;
const EXTERNAL_LOCAL: u32 = FrontendFlags::EXTERNAL_LOCAL;
const HOST_PORT: u32 = FrontendFlags::HOST_PORT;

/// Who answered some connections.
fn answers(ns: &Netns, addr: &str) -> BTreeSet<String> {
    (0..24).map(|_| talk_tcp(ns, addr).greeting.split(' ').next().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a connect that does not come through fails with.
fn failure(ns: &Netns, addr: &str) -> ErrorKind {
    let addr: SocketAddr = addr.parse().unwrap();
    ns.run(|| TcpStream::connect_timeout(&addr, Duration::from_millis(200)).unwrap_err().kind())
}

#[test]
fn a_policy_of_local_keeps_clients_inside_on_the_node() {
    World::run("policy", |world| {
        let [a, b, c] = [1, 2, 3].map(|number| world.pod_v4(number));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        serve_tcp(&c.ns, "10.1.0.3:8080", "c");
        let both = [(1, "10.1.0.2:8080"), (2, "10.1.0.3:8080")];
        // Slot 0 is local and of the cluster, slot 1 of the cluster only.
        let service = Service::new(1, Tcp, "10.96.0.1:80", &both).sets(1, 0);
        let services = [
            service.clone().flags(INTERNAL_LOCAL).at("203.0.113.1:80", EXTERNAL | EXTERNAL_LOCAL | INTERNAL_LOCAL),
            Service { number: 2, ..service.clone() }.node_port_with(30080, EXTERNAL_LOCAL | INTERNAL_LOCAL),
        ];
        let mut services = services.to_vec();
        services[1].frontends.remove(0);
        // Nobody here, somebody elsewhere; nobody anywhere.
        services.push(Service::new(3, Tcp, "10.96.0.3:80", &both[1..]).flags(INTERNAL_LOCAL).at("10.96.1.3:80", 0));
        services.push(Service::new(4, Tcp, "10.96.0.4:80", &[]).flags(INTERNAL_LOCAL));
        apply(world.datapath(), &services);
        assert_eq!(answers(&a.ns, "10.96.0.1:80"), set(&["b"]));
        // An outer address asked from inside is subject to neither policy.
        assert_eq!(answers(&a.ns, "203.0.113.1:80"), set(&["b", "c"]));
        let _outside = world.outside();
        assert_eq!(answers(&a.ns, "192.0.2.2:30080"), set(&["b", "c"]));
        assert_eq!(answers(&Netns::current(), "192.0.2.2:30080"), set(&["b", "c"]));
        assert_eq!(failure(&a.ns, "10.96.0.3:80"), ErrorKind::ConnectionRefused);
        assert_eq!(answers(&a.ns, "10.96.1.3:80"), set(&["c"]));
        assert_eq!(failure(&a.ns, "10.96.0.4:80"), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn the_local_set_may_have_backends_that_the_cluster_set_has_not() {
    World::run("sets", |world| {
        let [a, b, c] = [1, 2, 3].map(|number| world.pod_v4(number));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        serve_tcp(&c.ns, "10.1.0.3:8080", "c");
        let both = [(1, "10.1.0.2:8080"), (2, "10.1.0.3:8080")];
        // b serves while it ends, which is better than none only for the local set.
        let service = Service::new(1, Tcp, "10.96.0.1:80", &both).sets(1, 1);
        apply(world.datapath(), &[service.flags(INTERNAL_LOCAL).at("10.96.0.2:80", 0)]);
        assert_eq!(answers(&a.ns, "10.96.0.1:80"), set(&["b"]));
        assert_eq!(answers(&a.ns, "10.96.0.2:80"), set(&["c"]));
    });
}

#[test]
fn loopback_is_the_nodes_own() {
    World::run("loopback", |world| {
        let (a, b) = (world.pod(1), world.pod(2));
        let node = Netns::current();
        let _outside = world.outside();
        serve_tcp(&b.ns, "[::]:8080", "b");
        serve_udp(&b.ns, "[::]:5353", "b");
        apply(
            world.datapath(),
            &[
                Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")]).node_port(30080),
                Service::new(2, Tcp, "[fd96::1]:80", &[(2, "[fd01::2]:8080")]).node_port(30080),
                Service::new(3, Udp, "10.96.0.1:53", &[(3, "10.1.0.2:5353")]).node_port(30053),
                // Host ports: on loopback only, and on all addresses.
                Service::new(4, Tcp, "127.0.0.1:8081", &[(1, "10.1.0.2:8080")]).flags(HOST_PORT),
                Service::new(5, Tcp, "[::1]:8081", &[(2, "[fd01::2]:8080")]).flags(HOST_PORT),
                Service::new(6, Tcp, "0.0.0.0:8082", &[(1, "10.1.0.2:8080")]).flags(HOST_PORT),
                Service::new(7, Tcp, "192.0.2.2:30080", &[(4, "10.1.0.2:9090")]).flags(HOST_PORT),
            ],
        );
        serve_tcp(&b.ns, "10.1.0.2:9090", "host port");
        let from_v4 = "b ::ffff:192.0.2.2";
        for (addr, greeting) in [
            ("127.0.0.1:30080", from_v4),
            ("127.9.9.9:30080", from_v4),
            ("[::ffff:127.0.0.1]:30080", from_v4),
            ("[::1]:30080", "b 2001:db8::2"),
            ("127.0.0.1:8081", from_v4),
            ("[::1]:8081", "b 2001:db8::2"),
            ("127.0.0.1:8082", from_v4),
            ("192.0.2.2:8082", from_v4),
            // A host port on one address beats the NodePort on all of them.
            ("192.0.2.2:30080", "host port 192.0.2.2"),
        ] {
            let met = talk_tcp(&node, addr);
            assert_eq!((met.greeting.as_str(), met.peer), (greeting, addr.parse().unwrap()), "{addr}");
        }
        let socket = udp_socket("0.0.0.0:0");
        assert_eq!(ask_udp(&socket, "127.0.0.1:30053", "x"), ("b x".into(), "127.0.0.1:30053".parse().unwrap()));
        // A pod's loopback is its own.
        serve_tcp(&a.ns, "127.0.0.1:8081", "a itself");
        assert_eq!(talk_tcp(&a.ns, "127.0.0.1:8081").greeting, "a itself 127.0.0.1");
        for addr in ["127.0.0.1:30080", "127.0.0.1:8082", "[::1]:30080", "[::1]:8081"] {
            assert_eq!(failure(&a.ns, addr), ErrorKind::ConnectionRefused, "{addr}");
        }
        assert_eq!(talk_tcp(&a.ns, "192.0.2.2:8082").greeting, "b ::ffff:10.1.0.1");
        // Not where `nodePortAddresses` has them; host ports stay.
        let addrs = ["192.0.2.2", "127.0.0.1"].map(|addr| (addr.parse().unwrap(), false));
        world.datapath().set_node_addrs(&addrs, &["192.0.2.77".parse().unwrap()]).unwrap();
        assert_eq!(failure(&node, "127.0.0.1:30080"), ErrorKind::ConnectionRefused);
        assert_eq!(talk_tcp(&node, "127.0.0.1:8082").greeting, from_v4);
        // Another node's NodePort is that node's to translate.
        let peer = udp_socket("0.0.0.0:0");
        peer.connect("192.0.2.77:30053").unwrap();
        assert_eq!(world.translated_sockets(), 1, "the socket that spoke to loopback");
    });
}

#[test]
fn only_the_nodes_and_its_pods_sockets_are_translated() {
    World::run("foreign", |world| {
        let (a, b) = (world.pod_v4(1), world.pod_v4(2));
        let node = Netns::current();
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")])]);
        // In the same cgroup, but a network of its own, where the address is another's.
        let foreign = Netns::new();
        foreign.run(|| world::ip("addr add 10.96.0.1/32 dev lo"));
        serve_tcp(&foreign, "10.96.0.1:80", "foreign");
        assert_eq!(talk_tcp(&foreign, "10.96.0.1:80").greeting, "foreign 10.96.0.1");
        assert_eq!(talk_tcp(&a.ns, "10.96.0.1:80").greeting, "b 10.1.0.1");
        // Over a restart of the agent, and until the pod is gone.
        world.open();
        let cookies = |world: &World| world.datapath().netns().unwrap().iter().map(|(cookie, _)| *cookie).collect();
        let all: BTreeSet<u64> = cookies(world);
        assert_eq!(all, [&node, &a.ns, &b.ns].map(Netns::cookie).into());
        world.datapath().detach_pod(b.host).unwrap();
        assert_eq!(cookies(world), BTreeSet::from([&node, &a.ns].map(Netns::cookie)));
        // The pod's device went while no agent was there.
        world.datapath = None;
        world::ip("link del pod1");
        world.open();
        assert_eq!(cookies(world), BTreeSet::from([node.cookie()]));
    });
}

#[test]
fn a_service_with_source_ranges_is_left_to_the_packets() {
    World::run("ranges", |world| {
        let (a, b) = (world.pod_v4(1), world.pod_v4(2));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        let balancer = Service::new(1, Tcp, "203.0.113.1:80", &[(1, "10.1.0.2:8080")]).flags(EXTERNAL);
        apply(world.datapath(), std::slice::from_ref(&balancer));
        assert_eq!(talk_tcp(&a.ns, "203.0.113.1:80").greeting, "b 10.1.0.1");
        apply(world.datapath(), &[balancer.range("198.51.100.0", 24).range("2001:db8:1::", 48)]);
        let socket = a.ns.run(|| udp_socket("0.0.0.0:0"));
        socket.connect("203.0.113.1:80").unwrap();
        let addr = "203.0.113.1:80".parse().unwrap();
        let limit = Duration::from_millis(100);
        a.ns.run(|| TcpStream::connect_timeout(&addr, limit).unwrap_err());
        assert_eq!(world.translated_sockets(), 0);
    });
}
