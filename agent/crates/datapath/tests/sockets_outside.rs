//! Clients outside the node: traffic policies and source ranges, with real sockets.

mod world;

use orlop_datapath::DropReason;
use orlop_ebpf_abi::FrontendFlags;
use orlop_model::Protocol::Tcp;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use world::peers::{eventually, serve_tcp, talk_tcp};
use world::service::{Service, apply};
use world::{Netns, World};

const BALANCER: &str = "203.0.113.1:80";
const EXTERNAL: u32 = FrontendFlags::EXTERNAL;
const EXTERNAL_LOCAL: u32 = FrontendFlags::EXTERNAL_LOCAL;

/// What some connections are greeted with.
fn greetings(ns: &Netns, addr: &str) -> BTreeSet<String> {
    (0..24).map(|_| talk_tcp(ns, addr).greeting).collect()
}

/// A connect that nobody answers is counted as a drop.
fn is_dropped(world: &World, outside: &Netns, addr: &str, reason: DropReason) {
    let uplink = world::ifindex("uplink0");
    let drops = || {
        let all = world.datapath().pod_counters().unwrap();
        let found = all.into_iter().find(|(device, _)| *device == uplink).unwrap().1;
        found.drops_from.get(&reason).copied().unwrap_or(0)
    };
    let before = drops();
    let addr: SocketAddr = addr.parse().unwrap();
    outside.run(|| TcpStream::connect_timeout(&addr, Duration::from_millis(50)).unwrap_err());
    eventually("drops", || (drops() > before, true));
}

#[test]
fn a_policy_of_local_keeps_clients_outside_on_the_node_they_came_to() {
    World::run("outside-policy", |world| {
        let [_a, b, c] = [1, 2, 3].map(|number| world.pod_v4(number));
        let outside = world.outside();
        outside.run(|| world::ip("route add 203.0.113.0/24 via 192.0.2.2"));
        serve_tcp(&b.ns, "10.1.0.2:8080", "b");
        serve_tcp(&c.ns, "10.1.0.3:8080", "c");
        let both = [(1, "10.1.0.2:8080"), (2, "10.1.0.3:8080")];
        let service = Service::new(1, Tcp, BALANCER, &both).flags(EXTERNAL | EXTERNAL_LOCAL).sets(1, 0);
        let cluster = Service::new(2, Tcp, "203.0.113.2:80", &both).flags(EXTERNAL).node_port(30082);
        let elsewhere = Service::new(3, Tcp, "203.0.113.3:80", &both[1..]).flags(EXTERNAL | EXTERNAL_LOCAL);
        apply(world.datapath(), &[service.node_port_with(30080, EXTERNAL_LOCAL), cluster, elsewhere]);
        let one = BTreeSet::from(["b 192.0.2.1".to_owned()]);
        for addr in [BALANCER, "192.0.2.2:30080"] {
            assert_eq!(greetings(&outside, addr), one, "{addr}");
        }
        for addr in ["203.0.113.2:80", "192.0.2.2:30082"] {
            assert_eq!(greetings(&outside, addr).len(), 2, "{addr}");
        }
        is_dropped(world, &outside, "203.0.113.3:80", DropReason::NoLocalBackend);
    });
}

#[test]
fn only_clients_of_the_source_ranges_are_served() {
    World::run("outside-ranges", |world| {
        let b = world.pod(2);
        let outside = world.outside();
        outside.run(|| {
            world::ip("route add 203.0.113.0/24 via 192.0.2.2");
            world::ip("-6 route add 2001:db8:f::/64 via 2001:db8::2");
        });
        serve_tcp(&b.ns, "[::]:8080", "b");
        let services = |four: (&str, u8), six: (&str, u8)| {
            [
                Service::new(1, Tcp, BALANCER, &[(1, "10.1.0.2:8080")])
                    .flags(EXTERNAL)
                    .range("198.51.100.0", 24)
                    .range(four.0, four.1),
                Service::new(2, Tcp, "[2001:db8:f::1]:80", &[(2, "[fd01::2]:8080")])
                    .flags(EXTERNAL)
                    .range(six.0, six.1),
                // Another service's ranges are its own.
                Service::new(3, Tcp, "203.0.113.3:80", &[(1, "10.1.0.2:8080")]).flags(EXTERNAL).range("192.0.2.0", 24),
            ]
        };
        let six = "[2001:db8:f::1]:80";
        apply(world.datapath(), &services(("192.0.2.0", 31), ("2001:db8::", 64)));
        assert_eq!(talk_tcp(&outside, BALANCER).greeting, "b ::ffff:192.0.2.1");
        assert_eq!(talk_tcp(&outside, six).greeting, "b 2001:db8::1");
        apply(world.datapath(), &services(("192.0.2.2", 31), ("2001:db8::2", 127)));
        is_dropped(world, &outside, BALANCER, DropReason::SourceRange);
        is_dropped(world, &outside, six, DropReason::SourceRange);
        assert_eq!(talk_tcp(&outside, "203.0.113.3:80").greeting, "b ::ffff:192.0.2.1");
        apply(world.datapath(), &services(("0.0.0.0", 0), ("::", 0)));
        assert_eq!(talk_tcp(&outside, BALANCER).greeting, "b ::ffff:192.0.2.1");
        assert_eq!(talk_tcp(&outside, six).greeting, "b 2001:db8::1");
    });
}
