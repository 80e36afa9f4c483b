//! Services, masquerade and the ways between nodes, with real sockets: a client
//! outside, a router, two nodes.

mod world;

use orlop_datapath::DropReason;
use orlop_ebpf_abi::FrontendFlags;
use orlop_model::Protocol::{Tcp, Udp};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use world::nodes::{Cluster, Node, Way};
use world::peers::{ask_udp, eventually, fetch, pings, serve_tcp, serve_udp, talk_tcp, udp_socket};
use world::service::Service;
use world::{Netns, World, statistics};

const CLIENT: [&str; 2] = ["198.51.100.1", "2001:db8:c::1"];

/// One Service in both families and protocols whose only backend is pod 2 of node 2,
/// on NodePort 30080, and with an outer address each.
fn services(node: u8, flags: u32) -> Vec<Service> {
    let local = u32::from(node == 2);
    let outer = FrontendFlags::EXTERNAL | flags;
    let service = |number, proto, addr: &str, outside: &str, backend: &str| {
        Service::new(number, proto, addr, &[(number, backend)])
            .node_port_with(30080, flags)
            .at(outside, outer)
            .sets(local, 0)
    };
    vec![
        service(1, Tcp, "10.96.0.1:80", "203.0.113.5:80", "10.1.2.2:8080"),
        service(2, Tcp, "[fd96::1]:80", "[2001:db8:5::5]:80", "[fd01:2::2]:8080"),
        service(3, Udp, "10.96.0.1:80", "203.0.113.5:80", "10.1.2.2:8080"),
        service(4, Udp, "[fd96::1]:80", "[2001:db8:5::5]:80", "[fd01:2::2]:8080"),
    ]
}

/// Serves all that [`services`] lead to.
fn backend(cluster: &Cluster) -> Netns {
    let pod = cluster.node(2).pod(2);
    for addr in ["10.1.2.2:8080", "[fd01:2::2]:8080"] {
        serve_tcp(&pod, addr, "b");
        serve_udp(&pod, addr, "b");
    }
    pod
}

/// Talks TCP and UDP to an address from outside: the backend saw the client as `seen`,
/// and the client saw the address that it asked.
fn talks(cluster: &Cluster, addr: &str, seen: &str) {
    let met = talk_tcp(&cluster.client, addr);
    assert_eq!((met.greeting.as_str(), met.peer.to_string().as_str()), (format!("b {seen}").as_str(), addr));
    let bind = if addr.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    cluster.client.run(|| {
        let socket = udp_socket(bind);
        for _ in 0..3 {
            let (answer, from) = ask_udp(&socket, addr, "question");
            assert_eq!((answer.as_str(), from.to_string().as_str()), ("b question", addr));
        }
    });
}

fn from_outside(way: Way, flags: u32, seen: [&'static str; 2]) {
    let name = if way == Way::Direct { "outside" } else { "tunnel" };
    World::run(name, move |world| {
        let cluster = Cluster::new(world, 2, way);
        let _pod = backend(&cluster);
        cluster.serve(|node| services(node, flags));
        cluster.route("203.0.113.5/32", 1);
        cluster.route("2001:db8:5::5/128", 1);
        let before: Vec<_> = cluster.nodes.iter().map(uncounted).collect();
        for (family, addrs) in
            [(0, ["192.0.2.11:30080", "203.0.113.5:80"]), (1, ["[2001:db8::1]:30080", "[2001:db8:5::5]:80"])]
        {
            for addr in addrs {
                talks(&cluster, addr, seen[family]);
            }
        }
        // On the backend's own node nothing is hidden.
        talks(&cluster, "192.0.2.12:30080", CLIENT[0]);
        talks(&cluster, "[2001:db8::2]:30080", CLIENT[1]);
        for node in &cluster.nodes {
            let counters = node.uplink_counters();
            assert!(counters.drops_from.is_empty() && counters.drops_to.is_empty(), "{}: {counters:?}", node.number);
        }
        // Every packet that the links saw was counted once.
        for (node, before) in cluster.nodes.iter().zip(before) {
            eventually("counters and statistics", || (uncounted(node), before));
        }
    });
}

/// By how much a node's uplink is ahead of its counters: received bytes, packets, sent bytes, packets.
fn uncounted(node: &Node) -> [i64; 4] {
    let seen = node.ns.run(|| statistics("uplink0"));
    let counted = node.uplink_counters();
    let counted = [counted.from.bytes, counted.from.packets, counted.to.bytes, counted.to.packets];
    std::array::from_fn(|at| seen[at] as i64 - counted[at] as i64)
}

#[test]
fn a_backend_on_another_node_answers_through_the_node_that_was_asked() {
    from_outside(Way::Direct, 0, ["192.0.2.11", "2001:db8::1"]);
}

#[test]
fn a_backend_on_another_node_is_reached_through_a_tunnel() {
    from_outside(Way::Vxlan, 0, ["10.1.1.0", "fd01:1::"]);
}

#[test]
fn direct_return_shows_the_client_and_answers_past_the_node() {
    from_outside(Way::Direct, FrontendFlags::DSR, CLIENT);
}

#[test]
fn direct_return_works_through_a_tunnel() {
    from_outside(Way::Vxlan, FrontendFlags::DSR, CLIENT);
}

#[test]
fn a_policy_of_local_keeps_the_clients_address_or_drops() {
    World::run("local", |world| {
        let cluster = Cluster::new(world, 2, Way::Direct);
        let _pod = backend(&cluster);
        cluster.serve(|node| services(node, FrontendFlags::EXTERNAL_LOCAL));
        talks(&cluster, "192.0.2.12:30080", CLIENT[0]);
        let addr: SocketAddr = "192.0.2.11:30080".parse().unwrap();
        let limit = Duration::from_millis(200);
        let err = cluster.client.run(|| TcpStream::connect_timeout(&addr, limit).unwrap_err());
        assert_eq!(err.kind(), ErrorKind::TimedOut);
        assert!(cluster.node(1).uplink_counters().drops_from[&DropReason::NoLocalBackend] >= 1);
    });
}

#[test]
fn a_service_without_backends_refuses_clients_outside_at_once() {
    World::run("refuse", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        cluster.serve(|_| {
            vec![
                Service::new(1, Tcp, "10.96.0.1:80", &[])
                    .node_port(30080)
                    .at("203.0.113.5:80", FrontendFlags::EXTERNAL),
                Service::new(2, Tcp, "[fd96::1]:80", &[]).node_port(30080),
                Service::new(3, Udp, "10.96.0.1:80", &[]).node_port(30080),
            ]
        });
        cluster.route("203.0.113.5/32", 1);
        for addr in ["192.0.2.11:30080", "203.0.113.5:80", "[2001:db8::1]:30080"] {
            let addr: SocketAddr = addr.parse().unwrap();
            let err = cluster.client.run(|| TcpStream::connect_timeout(&addr, Duration::from_secs(5)).unwrap_err());
            assert_eq!(err.kind(), ErrorKind::ConnectionRefused, "{addr}");
        }
        let err = cluster.client.run(|| {
            let socket = udp_socket("0.0.0.0:0");
            socket.connect("192.0.2.11:30080").unwrap();
            socket.send(b"x").unwrap();
            socket.recv(&mut [0; 9]).unwrap_err()
        });
        assert_eq!(err.kind(), ErrorKind::ConnectionRefused);
        // A SYN may have been sent twice.
        assert!(cluster.node(1).uplink_counters().drops_from[&DropReason::NoBackend] >= 4);
    });
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address() {
    World::run("masquerade", |world| {
        let cluster = Cluster::new(world, 2, Way::Direct);
        let (a, b) = (cluster.node(1).pod(1), cluster.node(2).pod(2));
        for addr in ["198.51.100.1:8080", "[2001:db8:c::1]:8080"] {
            serve_tcp(&cluster.client, addr, "outside");
            serve_udp(&cluster.client, addr, "outside");
        }
        for addr in ["10.1.2.2:8080", "[fd01:2::2]:8080"] {
            serve_tcp(&b, addr, "b");
        }
        // Inside, a pod is known by its own address.
        assert_eq!(talk_tcp(&a, "10.1.2.2:8080").greeting, "b 10.1.1.1");
        assert_eq!(talk_tcp(&a, "[fd01:2::2]:8080").greeting, "b fd01:1::1");
        for _ in 0..3 {
            assert_eq!(talk_tcp(&a, "198.51.100.1:8080").greeting, "outside 192.0.2.11");
            assert_eq!(talk_tcp(&a, "[2001:db8:c::1]:8080").greeting, "outside 2001:db8::1");
        }
        a.run(|| {
            for (bind, addr) in [("0.0.0.0:0", "198.51.100.1:8080"), ("[::]:0", "[2001:db8:c::1]:8080")] {
                let socket = udp_socket(bind);
                // The second is sent, and answered, in fragments.
                for question in ["question".to_owned(), "long ".repeat(380)] {
                    let (answer, from) = ask_udp(&socket, addr, &question);
                    assert_eq!((answer, from.to_string().as_str()), (format!("outside {question}"), addr));
                }
            }
        });
        for addr in CLIENT {
            assert!(pings(&a, addr, 56), "{addr}");
            assert!(pings(&a, addr, 3000), "{addr} in fragments");
        }
        // Replies of flows that were opened from outside keep the pod's address.
        cluster.route("10.1.2.0/24", 2);
        assert_eq!(talk_tcp(&cluster.client, "10.1.2.2:8080").greeting, "b 198.51.100.1");
        assert!(pings(&cluster.client, "10.1.2.2", 56));
        for node in &cluster.nodes {
            let counters = node.uplink_counters();
            assert!(counters.drops_from.is_empty() && counters.drops_to.is_empty(), "{}: {counters:?}", node.number);
        }
    });
}

/// The router takes the way to the client for narrower than the client does. (A device with another
/// MTU than its peer would also lose what comes from there.)
fn narrow(cluster: &Cluster) {
    cluster.router.run(|| {
        world::ip("route add 198.51.100.1/32 dev client mtu 1300");
        world::ip("-6 route add 2001:db8:c::1/128 dev client mtu 1300");
    });
}

/// The client takes 1,500 bytes, the link to it 1,300: senders have to be told, through
/// the translation.
fn learns_the_path(flags: u32, addrs: [&'static str; 2]) {
    World::run("pmtu", move |world| {
        let cluster = Cluster::new(world, 2, Way::Direct);
        let pod = backend(&cluster);
        narrow(&cluster);
        cluster.serve(|node| services(node, flags));
        for addr in addrs {
            fetch(&cluster.client, addr, 100_000);
        }
        let cached = pod.run(|| {
            let show = |family: &str| {
                let output =
                    std::process::Command::new("ip").args([family, "route", "show", "cache"]).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            [show("-4"), show("-6")].concat()
        });
        assert_eq!(cached.matches("mtu 1300").count(), 2, "{cached}");
    });
}

#[test]
fn path_mtu_reaches_the_backend_of_another_node() {
    learns_the_path(0, ["192.0.2.11:30080", "[2001:db8::1]:30080"]);
}

#[test]
fn path_mtu_reaches_a_backend_that_answers_directly() {
    learns_the_path(FrontendFlags::DSR, ["192.0.2.11:30080", "[2001:db8::1]:30080"]);
}

#[test]
fn path_mtu_reaches_a_backend_of_the_same_node() {
    learns_the_path(0, ["192.0.2.12:30080", "[2001:db8::2]:30080"]);
}

#[test]
fn path_mtu_reaches_a_masqueraded_pod() {
    World::run("masquerade-pmtu", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        let pod = cluster.node(1).pod(1);
        narrow(&cluster);
        for addr in ["198.51.100.1:8080", "[2001:db8:c::1]:8080"] {
            serve_tcp(&cluster.client, addr, "outside");
            fetch(&pod, addr, 100_000);
        }
    });
}

#[test]
fn large_datagrams_cross_a_node_port_in_fragments() {
    World::run("fragments", |world| {
        let cluster = Cluster::new(world, 2, Way::Direct);
        let _pod = backend(&cluster);
        cluster.serve(|node| services(node, 0));
        let question = "long ".repeat(380);
        for (bind, addr) in [("0.0.0.0:0", "192.0.2.11:30080"), ("[::]:0", "[2001:db8::1]:30080")] {
            cluster.client.run(|| {
                let (answer, from) = ask_udp(&udp_socket(bind), addr, &question);
                assert_eq!((answer, from.to_string().as_str()), (format!("b {question}"), addr));
            });
        }
    });
}

#[test]
fn neighbours_who_take_pods_for_their_own_are_answered() {
    World::run("neighbour", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        let pod = cluster.node(1).pod(1);
        cluster.router.run(|| {
            world::ip("route add 10.1.1.0/24 dev nodes");
            world::ip("-6 route add fd01:1::/64 dev nodes");
        });
        for (addr, client) in ["10.1.1.1:8080", "[fd01:1::1]:8080"].into_iter().zip(CLIENT) {
            serve_tcp(&pod, addr, "pod");
            assert_eq!(talk_tcp(&cluster.client, addr).greeting, format!("pod {client}"));
        }
    });
}
