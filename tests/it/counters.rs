//! Counters are exact: they equal what was sent, and what the interfaces say.

use orlop_tests::{
    Counters, Place, Statistics, World, answer, ask, labelled_pod, local_addr, object, pod, read_greeting,
};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

const NODE: &str = "10.99.0.1";
const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";
/// Ethernet, IPv4 and UDP headers.
const UDP_HEADERS: u64 = 14 + 20 + 8;
/// Ethernet, IPv4 and TCP headers, with timestamps.
const TCP_HEADERS: u64 = 14 + 20 + 32;
/// What a SYN has on top: its own options, less the timestamps of all.
const SYN_OPTIONS: u64 = 8;
/// Bytes of payload in a full segment: MTU 1500 less headers and timestamps.
const SEGMENT: u64 = 1448;

fn service(name: &str, ip: &str) -> String {
    let ports = "[{name: t, port: 80, targetPort: 8080}, {name: u, port: 53, targetPort: 5353, protocol: UDP}]";
    let spec = format!("spec: {{clusterIP: {ip}, selector: {{app: {name}}}, ports: {ports}}}");
    object("Service", &format!("{{name: {name}}}"), &spec)
}

fn backend(name: &str, app: &str) -> String {
    labelled_pod(name, &format!("app: {app}"), SLEEP)
}

/// Starts pods and waits for them.
fn pods(world: &World, names: &[&str]) {
    for name in names {
        world.apply(name, &pod(name, SLEEP));
    }
    for name in names {
        world.wait_ready(name);
    }
}

fn of(counters: &Counters, name: &str) -> Statistics {
    let pod = counters.pod(name);
    let flat = |traffic: orlop_tests::Traffic| (traffic.packets, traffic.bytes);
    Statistics { received: flat(pod.received), sent: flat(pod.sent) }
}

/// The pod's counters equal what its own end of the veth has counted since it is there.
fn equal_own_interface(world: &World, name: &str, place: &Place) {
    world.wait_until(&format!("the counters of {name} are its interface's"), || {
        let (counters, interface) = (of(&world.counters(), name), place.statistics("eth0"));
        if counters != interface {
            eprintln!("{name}: counted {counters:?}, the interface {interface:?}");
        }
        (counters == interface).then_some(())
    });
}

/// Name of the host's end of a pod's veth.
fn host_end(host: &Place, world: &World, name: &str) -> String {
    let route = host.ip(&format!("route show {}", world.pod(name).ips[0]));
    let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
    words.nth(1).expect("the link of the route").to_owned()
}

fn exchange(client: &UdpSocket, to: &str, count: usize, size: usize) {
    for _ in 0..count {
        let (text, _) = ask(client, to, &"q".repeat(size));
        // The server's name and a space come before it.
        assert_eq!(text.len(), size + 2);
    }
}

#[test]
fn datagrams_are_counted_to_the_byte() {
    let world = World::new();
    pods(&world, &["a"]);
    world.apply("web", &(backend("b", "web") + &service("web", "10.96.0.80")));
    world.wait_active("web", &["b"]);
    let (a, b, host, outside) = (world.in_pod("a"), world.in_pod("b"), world.on_host(), world.outside());
    let _server = b.serve_udp("0.0.0.0:5353", "b");
    let b_ip = world.pod("b").ips[0].clone();
    let before = world.counters();
    assert_eq!((of(&before, "a"), of(&before, "b")), (Statistics { received: (0, 0), sent: (0, 0) }, of(&before, "a")));
    // 37 through the Service, 11 straight to the pod, each answered.
    exchange(&a.udp("0.0.0.0:0"), "10.96.0.80:53", 37, 500);
    exchange(&a.udp("0.0.0.0:0"), &format!("{b_ip}:5353"), 11, 20);
    let counters = world.counters();
    let out = (48, 37 * (500 + UDP_HEADERS) + 11 * (20 + UDP_HEADERS));
    let back = (48, 37 * (502 + UDP_HEADERS) + 11 * (22 + UDP_HEADERS));
    assert_eq!(of(&counters, "a"), Statistics { received: back, sent: out });
    assert_eq!(of(&counters, "b"), Statistics { received: out, sent: back });
    assert_eq!((counters.pod("a").sent.connections, counters.pod("b").received.connections), (2, 2));
    assert_eq!((counters.pod("a").received.connections, counters.pod("b").sent.connections), (0, 0));
    let service = counters.backend("web:u", "b");
    let (to, from) = (37 * (500 + UDP_HEADERS), 37 * (502 + UDP_HEADERS));
    assert_eq!((service.connections, service.packets_to, service.packets_from), (1, 37, 37));
    assert_eq!((service.bytes_to, service.bytes_from), (to, from));
    for (name, place) in [("a", &a), ("b", &b)] {
        equal_own_interface(&world, name, place);
    }
    // From the host it goes by the host's end of the veth, which then says the same.
    let link = host_end(&host, &world, "b");
    let (start, then) = (world.counters(), host.statistics(&link));
    exchange(&host.udp("0.0.0.0:0"), "10.96.0.80:53", 5, 1000);
    outside.ip(&format!("route add 10.244.7.0/24 via {NODE}"));
    exchange(&outside.udp("0.0.0.0:0"), &format!("{b_ip}:5353"), 7, 1);
    let now = of(&world.counters(), "b").since(of(&start, "b"));
    assert_eq!(now.received, (12, 5 * (1000 + UDP_HEADERS) + 7 * (1 + UDP_HEADERS)));
    assert_eq!(now, host.statistics(&link).since(then).from_the_other_end());
    let service = world.counters().backend("web:u", "b");
    assert_eq!((service.connections, service.packets_to, service.packets_from), (2, 42, 42));
    assert_eq!(service.bytes_to, to + 5 * (1000 + UDP_HEADERS));
    equal_own_interface(&world, "b", &b);
    // The table has the same numbers.
    let table = world.orlop(&["counters", "b", "--exact"]).ok();
    let bytes = of(&world.counters(), "b").received.1.to_string();
    assert!(table.contains(&bytes), "{bytes} in\n{table}");
}

#[test]
fn connections_are_counted_with_their_packets() {
    let world = World::new();
    pods(&world, &["a"]);
    world.apply("web", &(backend("b", "web") + &backend("c", "web") + &service("web", "10.96.0.81")));
    world.wait_active("web", &["b", "c"]);
    let (a, b, c) = (world.in_pod("a"), world.in_pod("b"), world.in_pod("c"));
    let servers = [b.serve_tcp("0.0.0.0:8080", "b"), c.serve_tcp("0.0.0.0:8080", "c")];
    let payload = vec![b'x'; 250_000];
    let mut greetings = 0;
    let mut by_server = [0_u64; 2];
    for _ in 0..20 {
        let met = a.talk("10.96.0.81:80", &payload);
        by_server[usize::from(met.server == "c")] += 1;
        greetings += format!("{} {}\n", met.server, met.client).len() as u64;
    }
    world
        .wait_until("all is closed", || ([&a, &b, &c].iter().all(|place| place.open_connections() == 0)).then_some(()));
    let counters = world.counters();
    let (of_b, of_c) = (counters.backend("web:t", "b"), counters.backend("web:t", "c"));
    assert_eq!([of_b.connections, of_c.connections], by_server);
    assert_eq!([servers[0].served(), servers[1].served()], by_server);
    // All that a has sent and got was for the Service.
    let all = Statistics {
        received: (of_b.packets_from + of_c.packets_from, of_b.bytes_from + of_c.bytes_from),
        sent: (of_b.packets_to + of_c.packets_to, of_b.bytes_to + of_c.bytes_to),
    };
    assert_eq!(of(&counters, "a"), all);
    assert_eq!(counters.pod("a").sent.connections, 20);
    let sent = all.sent.1 - all.sent.0 * TCP_HEADERS - 20 * SYN_OPTIONS;
    let received = all.received.1 - all.received.0 * TCP_HEADERS - 20 * SYN_OPTIONS;
    // To the byte, but for what TCP itself has sent twice.
    let check = |counted: u64, payload: u64, retransmitted: u64| {
        let most = payload + retransmitted * SEGMENT;
        assert!((payload..=most).contains(&counted), "{counted} of {payload}, {retransmitted} segments again");
    };
    check(sent, 20 * 250_000, a.retransmitted());
    check(received, 20 * 250_000 + greetings, b.retransmitted() + c.retransmitted());
    for (name, place) in [("a", &a), ("b", &b), ("c", &c)] {
        equal_own_interface(&world, name, place);
    }
    // One pod's table has its own backends only.
    let only: Counters = serde_json::from_str(&world.orlop(&["counters", "b", "-o", "json"]).ok()).unwrap();
    assert_eq!((only.pods.len(), only.backends.len()), (1, 1));
    assert_eq!(only.pod("b"), counters.pod("b"));
}

#[test]
fn a_connection_is_one_however_often_it_is_tried() {
    let world = World::new();
    pods(&world, &["a"]);
    world.apply("web", &(backend("b", "web") + &service("web", "10.96.0.82")));
    world.wait_active("web", &["b"]);
    let (a, b) = (world.in_pod("a"), world.in_pod("b"));
    let b_ip = world.pod("b").ips[0].clone();
    // Nobody listens: one SYN, one reset.
    assert_eq!(a.meet(&format!("{b_ip}:9")).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let counters = world.counters();
    assert_eq!((counters.pod("a").sent.packets, counters.pod("a").sent.connections), (1, 1));
    assert_eq!((counters.pod("b").sent.packets, counters.pod("b").received.connections), (1, 1));
    // Room for one that is not accepted: the second's SYN is dropped, and sent again.
    let listener = b.listen("0.0.0.0:8080", 0);
    let _first = a.connect("10.96.0.82:80").unwrap();
    let before = world.counters().pod("a").sent.packets;
    std::thread::scope(|scope| {
        let second = scope.spawn(|| a.connect("10.96.0.82:80"));
        let counters = world.wait_until("the SYN is sent again", || {
            let counters = world.counters();
            (counters.pod("a").sent.packets >= before + 2).then_some(counters)
        });
        assert_eq!((counters.pod("a").sent.connections, counters.pod("b").received.connections), (3, 3));
        assert_eq!(counters.backend("web:t", "b").connections, 2);
        drop(listener.accept().unwrap());
        second.join().unwrap().unwrap();
    });
    let counters = world.counters();
    assert_eq!((counters.pod("a").sent.connections, counters.backend("web:t", "b").connections), (3, 2));
    equal_own_interface(&world, "a", &a);
    equal_own_interface(&world, "b", &b);
}

/// An IPv4 packet with a datagram, checksums left to the kernel or out.
fn packet(from: Ipv4Addr, to: SocketAddr, text: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(to) = to else { panic!("{to} is not IPv4") };
    let udp_len = u16::try_from(8 + text.len()).unwrap();
    let ip_len = 20 + udp_len;
    let mut bytes = vec![0x45, 0];
    bytes.extend(ip_len.to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.ip().octets());
    bytes.extend(4242_u16.to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(udp_len.to_be_bytes());
    // No checksum, as UDP over IPv4 allows.
    bytes.extend([0, 0]);
    bytes.extend(text);
    bytes
}

#[test]
fn a_borrowed_address_is_dropped_and_counted() {
    let world = World::new();
    pods(&world, &["a", "b"]);
    let (a, b, host) = (world.in_pod("a"), world.in_pod("b"), world.on_host());
    let (a_ip, b_ip) = (world.pod("a").ips[0].clone(), world.pod("b").ips[0].clone());
    let (at_b, at_host) = (b.udp("0.0.0.0:7000"), host.udp(&format!("{NODE}:7000")));
    let raw = a.socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).unwrap();
    let send = |from: &str, to: &str, text: &[u8]| {
        let to: SocketAddr = to.parse().unwrap();
        let bytes = packet(from.parse().unwrap(), to, text);
        let addr = nix::sys::socket::SockaddrStorage::from(to);
        let sent = nix::sys::socket::sendto(raw.as_raw_fd(), &bytes, &addr, nix::sys::socket::MsgFlags::empty());
        assert_eq!(sent, Ok(bytes.len()));
    };
    let (b_addr, host_addr) = (format!("{b_ip}:7000"), format!("{NODE}:7000"));
    for from in ["10.244.7.200", &b_ip, "8.8.8.8", NODE, "10.96.0.1"] {
        for to in [&b_addr, &host_addr] {
            send(from, to, b"borrowed");
        }
    }
    // The same way with its own address arrives, and is the first that does.
    for (to, socket) in [(&b_addr, &at_b), (&host_addr, &at_host)] {
        send(&a_ip, to, b"own");
        assert_eq!(answer(socket), ("own".to_owned(), format!("{a_ip}:4242").parse().unwrap()));
    }
    let counters = world.counters();
    let dropped: Vec<_> = counters.pod("a").drops_out.into_iter().collect();
    assert_eq!(dropped, [("SourceSpoofed".to_owned(), 10)]);
    assert_eq!((of(&counters, "a").sent.0, of(&counters, "b").received.0), (12, 1));
    assert!(counters.pod("b").drops_in.is_empty() && counters.node_drops.is_empty());
    equal_own_interface(&world, "a", &a);
    let table = world.orlop(&["counters", "a"]).ok();
    assert!(table.contains("SourceSpoofed"), "{table}");
}

#[test]
fn counters_and_connections_survive_the_agent() {
    let mut world = World::new();
    pods(&world, &["a"]);
    world.apply("web", &(backend("b", "web") + &service("web", "10.96.0.83")));
    world.wait_active("web", &["b"]);
    let (a, b) = (world.in_pod("a"), world.in_pod("b"));
    let _servers = (b.serve_tcp("0.0.0.0:8080", "b"), b.serve_udp("0.0.0.0:5353", "b"));
    a.talk("10.96.0.83:80", &vec![1; 10_000]);
    let (mut kept, socket) = (a.connect("10.96.0.83:80").unwrap(), a.udp("0.0.0.0:0"));
    read_greeting(&mut kept).unwrap();
    exchange(&socket, "10.96.0.83:53", 3, 100);
    world.wait_until("the first is closed", || (a.open_connections() == 1 && b.open_connections() == 1).then_some(()));
    let before = world.counters();
    assert_eq!((before.backend("web:t", "b").connections, before.backend("web:u", "b").packets_to), (2, 3));
    world.restart();
    equal_own_interface(&world, "a", &a);
    equal_own_interface(&world, "b", &b);
    let now = world.counters();
    assert_eq!(now.backend("web:u", "b"), before.backend("web:u", "b"));
    assert_eq!((now.backend("web:t", "b").connections, now.pod("a").sent.connections), (2, 3));
    // What goes on while no agent is there is counted, too.
    world.kill();
    exchange(&socket, "10.96.0.83:53", 4, 100);
    a.talk("10.96.0.83:80", &[2; 10]);
    std::io::Write::write_all(&mut kept, b"still here").unwrap();
    let mut back = [0; 10];
    std::io::Read::read_exact(&mut kept, &mut back).unwrap();
    assert_eq!(&back, b"still here");
    world.start();
    let now = world.counters();
    assert_eq!((now.backend("web:t", "b").connections, now.backend("web:u", "b").packets_to), (3, 7));
    assert_eq!(now.backend("web:u", "b").connections, 1, "the flow goes on");
    assert_eq!(local_addr(&kept).ip().to_string(), world.pod("a").ips[0]);
    equal_own_interface(&world, "a", &a);
    equal_own_interface(&world, "b", &b);
}

#[test]
fn what_comes_after_starts_at_nothing() {
    let mut world = World::new();
    pods(&world, &["a"]);
    world.apply("b", &backend("b", "web"));
    world.apply("web", &service("web", "10.96.0.84"));
    world.wait_active("web", &["b"]);
    let (a, b) = (world.in_pod("a"), world.in_pod("b"));
    let server = b.serve_udp("0.0.0.0:5353", "b");
    exchange(&a.udp("0.0.0.0:0"), "10.96.0.84:53", 9, 10);
    assert_eq!(world.counters().backend("web:u", "b").packets_to, 9);
    // The pod goes, another of its name comes.
    world.delete("b");
    world.wait_gone("b");
    drop((server, b));
    world.apply("b", &backend("b", "web").replace("sleep, inf", "sleep, '1000000'"));
    world.wait_active("web", &["b"]);
    assert_eq!(world.counters().pod("b").received.packets, 0);
    assert_eq!(world.counters().backend("web:u", "b").packets_to, 0);
    let b = world.in_pod("b");
    let server = b.serve_udp("0.0.0.0:5353", "b");
    exchange(&a.udp("0.0.0.0:0"), "10.96.0.84:53", 2, 10);
    assert_eq!(world.counters().backend("web:u", "b").packets_to, 2);
    equal_own_interface(&world, "a", &a);
    equal_own_interface(&world, "b", &b);
    // The same over an agent that knows nothing of the one before.
    world.delete("b");
    world.wait_gone("b");
    drop((server, b));
    world.restart();
    world.apply("b", &backend("b", "web"));
    world.wait_active("web", &["b"]);
    assert_eq!(world.counters().backends, []);
    // Another Service that takes the place of this one.
    world.delete("web");
    world.wait_until("the service is gone", || world.services().is_empty().then_some(()));
    assert_eq!(world.counters().backends, []);
    world.apply("web", &service("web", "10.96.0.85"));
    world.wait_active("web", &["b"]);
    assert_eq!(world.counters().backend("web:u", "b").packets_to, 0);
}
