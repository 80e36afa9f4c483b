//! Addresses of pods and the ways between pods, the node and the world beside it.

use orlop_tests::{Options, Role, World, ask, pod};
use std::collections::BTreeSet;

const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";
const NODE: &str = "10.99.0.1";
const OUTSIDE: &str = "10.99.0.2";

fn ready(world: &World, names: &[&str]) -> Vec<String> {
    for name in names {
        world.apply(name, &pod(name, SLEEP));
    }
    names.iter().map(|name| world.wait_ready(name).ips[0].clone()).collect()
}

#[test]
fn everybody_reaches_everybody_with_his_own_address() {
    let world = World::new();
    let ips = ready(&world, &["a", "b"]);
    let (a, b, host, outside) = (world.in_pod("a"), world.in_pod("b"), world.on_host(), world.outside());
    // Nobody routes to pods but the node; a neighbour that does reaches them.
    outside.ip(&format!("route add 10.244.7.0/24 via {NODE}"));
    let places = [("a", &a, &*ips[0]), ("b", &b, &*ips[1]), ("host", &host, NODE), ("outside", &outside, OUTSIDE)];
    let payload: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    let servers = places
        .map(|(name, place, ip)| (place.serve_tcp("0.0.0.0:7000", name), place.serve_udp(&format!("{ip}:7000"), name)));
    for (from, client, own) in &places {
        for (to, _, ip) in &places {
            let addr = format!("{ip}:7000");
            let met = client.talk(&addr, &payload);
            // To itself the kernel takes the address that is asked for. What a pod sends out of the cluster has the
            // node's.
            let own = if *to == "outside" && ips.iter().any(|ip| ip == own) { NODE } else { own };
            assert_eq!((&*met.server, met.client.ip().to_string()), (*to, own.to_owned()), "{from} to {to}");
            assert_eq!(met.peer.to_string(), addr);
            let (text, who) = ask(&client.udp("0.0.0.0:0"), &addr, "hello");
            assert_eq!((text, who.to_string()), (format!("{to} hello"), addr), "{from} to {to}");
        }
    }
    for (tcp, udp) in &servers {
        assert_eq!((tcp.served(), udp.served()), (4, 4));
    }
    // The programs of the image, in the containers.
    let ping = format!("ping -c 1 -W 5 {} && ping -c 1 -W 5 {NODE} && ping -c 1 -W 5 {OUTSIDE}", ips[1]);
    world.sh("a", &ping).ok();
    world.node_output("/bin/busybox", &["ping", "-c", "1", "-W", "5", &ips[0]]).ok();
}

#[test]
fn a_pod_has_one_address_and_a_gateway_that_is_nowhere() {
    let world = World::new();
    assert_eq!(ready(&world, &["a"]), ["10.244.7.2"]);
    assert_eq!(ready(&world, &["b"]), ["10.244.7.3"]);
    let (a, host) = (world.in_pod("a"), world.on_host());
    let addresses = a.ip("-o addr show");
    let list: Vec<&str> = addresses.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    let own: Vec<&&str> = list.iter().filter(|addr| !["127.0.0.1/8", "::1/128"].contains(*addr)).collect();
    assert_eq!(own, [&"10.244.7.2/32"], "{addresses}");
    let routes = a.ip("route show");
    let one = routes.starts_with("default via 169.254.1.1 dev eth0 ") && routes.lines().count() == 1;
    assert!(one && routes.contains(" src 10.244.7.2 onlink"), "{routes}");
    let neighbours = a.ip("neigh show");
    assert!(neighbours.starts_with("169.254.1.1 dev eth0 lladdr ") && neighbours.contains("PERMANENT"), "{neighbours}");
    // The node knows each pod by a host route out of its own link, and who it is.
    let routes = host.ip("route show 10.244.7.2");
    assert!(routes.starts_with("10.244.7.2 dev orl") && routes.contains(&format!("src {NODE}")), "{routes}");
    assert!(host.ip("neigh show 10.244.7.2").contains("PERMANENT"));
    // No ARP ever crosses the link.
    let tap = a.tap();
    let server = host.serve_udp(&format!("{NODE}:7000"), "host");
    assert_eq!(ask(&a.udp("0.0.0.0:0"), &format!("{NODE}:7000"), "x").0, "host x");
    drop(server);
    let arp = |frame: &[u8]| frame[12..14] == [8, 6];
    let answer = |frame: &[u8]| frame.ends_with(b"host x");
    assert!(!tap.until(answer).iter().any(|frame| arp(frame)));
    // What a container sees is the same.
    assert!(world.sh("a", "ip -o addr show eth0").ok().contains("10.244.7.2/32"));
    assert!(world.sh("a", "cat /etc/hosts").ok().contains("10.244.7.2\ta"));
}

/// Five addresses to give out: 10.244.7.2 to 10.244.7.6.
fn small() -> World {
    World::with(Options { pod_cidr: "10.244.7.0/29".to_owned(), ..Options::default() })
}

#[test]
fn an_address_rests_a_minute_whatever_happens() {
    let mut world = small();
    let first = ready(&world, &["a", "b"]);
    world.delete("a");
    world.wait_gone("a");
    let mut seen: BTreeSet<String> = ready(&world, &["c", "d"]).into_iter().collect();
    // Neither what rests nor who has what is forgotten by an agent that is killed.
    world.restart();
    assert_eq!(world.wait_ready("b").ips[0], first[1]);
    seen.extend(ready(&world, &["e"]));
    assert_eq!(seen.len(), 3);
    assert!(seen.is_disjoint(&first.iter().cloned().collect()), "{seen:?} after {first:?}");
    world.apply("f", &pod("f", SLEEP));
    let detail = world.wait_event("f", "FailedCreatePodSandBox", "exhausted");
    let message = &detail.events("FailedCreatePodSandBox")[0].message;
    assert!(message.contains("4 of 5 addresses are leased and 1 were released"), "{message}");
    // The others did not notice.
    for name in ["b", "c", "d", "e"] {
        let pod = world.pod(name);
        assert!(pod.ready && pod.containers[0].restarts == 0, "{pod:?}");
    }
}

#[test]
fn leases_survive_the_agent() {
    let mut world = World::new();
    let before = ready(&world, &["a", "b", "c"]);
    world.stop();
    world.start();
    let now = |world: &World| ["a", "b", "c"].map(|name| world.wait_ready(name).ips[0].clone()).to_vec();
    assert_eq!(now(&world), before);
    world.restart();
    assert_eq!(now(&world), before);
    let fresh = ready(&world, &["d"]);
    assert!(!before.contains(&fresh[0]));
    // And the wires hold.
    let (a, d) = (world.in_pod("a"), world.in_pod("d"));
    let server = a.serve_tcp("0.0.0.0:7000", "a");
    assert_eq!(d.met(&format!("{}:7000", before[0])).server, "a");
    assert_eq!(server.served(), 1);
}

#[test]
fn a_pod_on_the_hosts_network() {
    let world = World::new();
    let spec = format!("hostNetwork: true\n{SLEEP}");
    world.apply("h", &pod("h", &spec));
    assert_eq!(world.wait_ready("h").ips, [NODE]);
    let plain = ready(&world, &["a"]);
    assert_ne!(plain[0], NODE);
    let own = world.run(Role::Node, || std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_eq!(world.sh("h", "readlink /proc/self/ns/net").ok(), own.display().to_string());
    assert!(world.sh("h", "ip -o addr").ok().contains(&format!("{NODE}/24")));
    // Its sockets are the node's.
    let (h, a) = (world.in_pod("h"), world.in_pod("a"));
    let server = h.serve_tcp(&format!("{NODE}:7000"), "h");
    assert_eq!(a.met(&format!("{NODE}:7000")).client.ip().to_string(), plain[0]);
    assert_eq!(server.served(), 1);
    // It has no link to count on, and the table says so.
    let counters = world.counters();
    assert_eq!(counters.pods.iter().map(|pod| &*pod.name).collect::<Vec<_>>(), ["a"]);
    assert_eq!(counters.not_counted, ["default/h: it is on the host network and has no device of its own"]);
    let only = world.orlop(&["counters", "h"]).ok();
    assert!(only.contains("default/h: it is on the host network"), "{only}");
}

#[test]
fn pods_with_an_address_of_each_family() {
    let world = World::with(Options { pod_cidr: "10.244.7.0/24,fd00:7::/120".to_owned(), ..Options::default() });
    ready(&world, &["a", "b"]);
    let ips = |name: &str| world.pod(name).ips;
    assert!(ips("a").len() == 2 && ips("a")[1].starts_with("fd00:7::"), "{:?}", ips("a"));
    let (a, b) = (world.in_pod("a"), world.in_pod("b"));
    let _server = b.serve_tcp("[::]:7000", "b");
    for ip in ips("b") {
        let addr = if ip.contains(':') { format!("[{ip}]:7000") } else { format!("{ip}:7000") };
        assert_eq!(a.talk(&addr, &[7; 100_000]).server, "b");
    }
    let _udp = b.serve_udp(&format!("[{}]:7000", ips("b")[1]), "b");
    assert_eq!(ask(&a.udp("[::]:0"), &format!("[{}]:7000", ips("b")[1]), "x").0, "b x");
    for name in ["a", "b"] {
        let pod = world.counters().pod(name);
        assert!(pod.drops_in.is_empty() && pod.drops_out.is_empty(), "{pod:?}");
    }
}
