//! Services: how pods, host processes and the world outside reach backends.

use orlop_tests::{Place, Tap, World, answer, ask, labelled_pod, object, pod};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

const NODE: &str = "10.99.0.1";
const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";
/// A backend with ports that have names.
const BACKEND: &str = "
    containers:
    - name: c
      image: IMAGE
      command: [sleep, inf]
      ports: [{name: web, containerPort: 8080}, {name: talk, containerPort: 5353, protocol: UDP}]";

/// A Service in the namespace `default`.
fn service(name: &str, spec: &str) -> String {
    object("Service", &format!("{{name: {name}}}"), &format!("spec: {{{spec}}}"))
}

fn backend(name: &str, app: &str) -> String {
    labelled_pod(name, &format!("app: {app}"), BACKEND)
}

/// What leaves the node, seen from the other end of its uplink.
pub(crate) struct Uplink(Tap);

impl Uplink {
    pub(crate) fn watch(world: &World) -> Self {
        Self(world.outside().tap())
    }

    /// Fails when a Service's address was in any packet since it is watched.
    pub(crate) fn has_seen_no_service(&self, world: &World) {
        const LAST: &[u8] = b"the last word";
        world.on_host().udp("0.0.0.0:0").send_to(LAST, "10.99.0.2:9").unwrap();
        for frame in self.0.until(|frame| frame.ends_with(LAST)) {
            // Both addresses of an IPv4 packet.
            let of_services = |at: usize| frame.get(at..at + 2) == Some(&[10, 96]);
            let ip = frame[12..14] == [8, 0];
            assert!(!(ip && (of_services(26) || of_services(30))), "a Service's address on the uplink: {frame:02x?}");
        }
    }
}

/// Connects as long as it takes to have met all of `wanted`, and nobody else.
fn meets_all(client: &Place, addr: &str, wanted: &[&str]) {
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let one = client.met(addr);
        assert_eq!(one.peer.to_string(), addr, "getpeername says whom the client asked for");
        assert!(wanted.contains(&&*one.server), "{one:?} of {wanted:?}");
        met.insert(one.server);
        if met.len() == wanted.len() {
            return;
        }
    }
    panic!("{addr} leads to {met:?}, not to {wanted:?}");
}

#[test]
fn cluster_ip_with_several_ports_for_pods_and_host_processes() {
    let world = World::new();
    let ports = "selector: {app: web}, clusterIP: 10.96.0.20, ports: [
        {name: http, port: 80, targetPort: web}, {name: alt, port: 81, targetPort: 8081},
        {name: dns, port: 53, targetPort: talk, protocol: UDP}, {name: tcp-dns, port: 53, targetPort: 8081}]";
    world.apply("web", &(backend("b", "web") + &backend("c", "web") + &service("web", ports)));
    world.apply("a", &pod("a", SLEEP));
    world.wait_ready("a");
    world.wait_active("web", &["b", "c"]);
    let (a, b, c, host) = (world.in_pod("a"), world.in_pod("b"), world.in_pod("c"), world.on_host());
    let _servers: Vec<_> = [("b", &b), ("c", &c)]
        .into_iter()
        .flat_map(|(name, place)| {
            let tcp = |port: u16| place.serve_tcp(&format!("0.0.0.0:{port}"), &format!("{name}{port}"));
            [tcp(8080), tcp(8081), place.serve_udp("0.0.0.0:5353", name)]
        })
        .collect();
    let uplink = Uplink::watch(&world);
    // From another pod, from the host, and from the backends to themselves and each other.
    for client in [&a, &host, &b, &c] {
        meets_all(client, "10.96.0.20:80", &["b8080", "c8080"]);
        meets_all(client, "10.96.0.20:81", &["b8081", "c8081"]);
        meets_all(client, "10.96.0.20:53", &["b8081", "c8081"]);
        datagrams(client, "10.96.0.20:53");
    }
    // The programs of containers and of the host, not only the test's sockets.
    let text = world.sh("a", "nc -w 5 10.96.0.20 80 < /dev/null").ok();
    assert!(["b8080", "c8080"].contains(&&text[..5]), "{text}");
    let mut nc = world.host_command("/bin/busybox");
    let output = nc.args(["nc", "-w", "5", "10.96.0.20", "80"]).stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(["b8080 10.99.0.1:", "c8080 10.99.0.1:"].contains(&&text[..16]), "{output:?}");
    uplink.has_seen_no_service(&world);
    // A port that the Service has no more is refused at once.
    let without = service("web", "selector: {app: web}, clusterIP: 10.96.0.20, ports: [{port: 80, targetPort: web}]");
    world.apply("web", &(backend("b", "web") + &backend("c", "web") + &without));
    world.wait_until("one port is left", || world.find_service("web").filter(|found| found.ports.len() == 1));
    meets_all(&a, "10.96.0.20:80", &["b8080", "c8080"]);
    assert_eq!(a.connect("10.96.0.20:81").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Datagrams of an unconnected and a connected socket: the Service answers.
fn datagrams(client: &Place, addr: &str) {
    let socket = client.udp("0.0.0.0:0");
    let (first, from) = ask(&socket, addr, "x");
    assert_eq!(from.to_string(), addr);
    for _ in 0..10 {
        assert_eq!(ask(&socket, addr, "x"), (first.clone(), from), "a flow keeps its backend");
    }
    let socket = client.udp_to(addr).unwrap();
    assert_eq!(socket.peer_addr().unwrap().to_string(), addr);
    socket.send(b"y").unwrap();
    let (text, from) = answer(&socket);
    assert!(["b y", "c y"].contains(&&*text) && from.to_string() == addr, "{text} from {from}");
}

#[test]
fn headless_and_removed_services_are_not_translated() {
    let world = World::new();
    let headless = service("none", "selector: {app: web}, clusterIP: None, ports: [{port: 80, targetPort: web}]");
    world.apply("b", &backend("b", "web"));
    world.apply("none", &headless);
    world.apply(
        "web",
        &service("web", "selector: {app: web}, clusterIP: 10.96.0.30, ports: [{port: 80, targetPort: web}]"),
    );
    world.apply("a", &pod("a", SLEEP));
    world.wait_ready("a");
    let ip = world.wait_ready("b").ips[0].clone();
    world.wait_active("none", &["b"]);
    world.wait_active("web", &["b"]);
    let found = world.find_service("none").unwrap();
    assert_eq!((found.kind.as_str(), found.cluster_ips.len()), ("Headless", 0));
    let (a, b) = (world.in_pod("a"), world.in_pod("b"));
    let server = b.serve_tcp("0.0.0.0:8080", "b");
    // The Service's port is nothing at the pod itself.
    assert_eq!(a.meet(&format!("{ip}:80")).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(a.met(&format!("{ip}:8080")).server, "b");
    assert_eq!(a.met("10.96.0.30:80").server, "b");
    world.delete("web");
    world.wait_until("the service is gone", || world.find_service("web").is_none().then_some(()));
    // The packet leaves as it is, for whoever has that address out there.
    let tap = world.outside().tap();
    let error = a.connect_within("10.96.0.30:80", Duration::from_millis(200)).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::ConnectionRefused);
    let _ = tap.until(|frame| frame.get(30..34) == Some(&[10, 96, 0, 30]));
    assert_eq!(server.served(), 2);
}

#[test]
fn node_ports_from_outside_and_inside() {
    let world = World::new();
    let ports = |app: &str, tcp: u16, udp: u16| {
        let ports = format!(
            "[{{name: t, port: 80, targetPort: 8080, nodePort: {tcp}}},
              {{name: u, port: 53, targetPort: 5353, nodePort: {udp}, protocol: UDP}}]"
        );
        service(app, &format!("type: NodePort, selector: {{app: {app}}}, ports: {ports}"))
    };
    let host_pod = labelled_pod("h", "app: on-host", &format!("hostNetwork: true\n{SLEEP}"));
    world.apply("web", &(backend("b", "web") + &ports("web", 30080, 30053)));
    world.apply("on-host", &(host_pod + &ports("on-host", 30081, 30054)));
    world.apply("a", &pod("a", SLEEP));
    let a_ip = world.wait_ready("a").ips[0].clone();
    world.wait_active("web", &["b"]);
    world.wait_active("on-host", &["h"]);
    let (a, b, h) = (world.in_pod("a"), world.in_pod("b"), world.in_pod("h"));
    let (host, outside) = (world.on_host(), world.outside());
    let _servers = [("b", &b), ("h", &h)].map(|(name, place)| {
        let udp = if name == "h" { format!("{NODE}:5353") } else { "0.0.0.0:5353".to_owned() };
        (place.serve_tcp("0.0.0.0:8080", name), place.serve_udp(&udp, name))
    });
    let payload = vec![7_u8; 300_000];
    let clients = [("outside", &outside, "10.99.0.2"), ("a", &a, &a_ip), ("host", &host, NODE), ("h", &h, NODE)];
    for (from, client, own) in clients {
        for (server, tcp, udp) in [("b", 30080, 30053), ("h", 30081, 30054)] {
            let addr = format!("{NODE}:{tcp}");
            let met = client.talk(&addr, &payload);
            assert_eq!((met.server.as_str(), met.peer.to_string()), (server, addr), "{from}");
            assert_eq!(met.client.ip().to_string(), own, "{from} is not hidden from {server}");
            let addr = format!("{NODE}:{udp}");
            for socket in [client.udp("0.0.0.0:0"), client.udp_to(&addr).unwrap()] {
                let answers = [ask_either(&socket, &addr), ask_either(&socket, &addr)];
                assert_eq!(
                    answers,
                    [(format!("{server} q"), addr.clone()), (format!("{server} q"), addr.clone())],
                    "{from}"
                );
            }
        }
    }
    // Two connections of one client are two.
    let (mut one, mut two) = (outside.connect("10.99.0.1:30080").unwrap(), outside.connect("10.99.0.1:30080").unwrap());
    let met = [&mut one, &mut two].map(|stream| orlop_tests::read_greeting(stream).unwrap().client);
    assert_ne!(met[0], met[1]);
    // A port of the node that no Service has is the node's own.
    assert_eq!(outside.connect("10.99.0.1:30082").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Asks by a socket that may be connected.
fn ask_either(socket: &UdpSocket, addr: &str) -> (String, String) {
    let sent = if socket.peer_addr().is_ok() { socket.send(b"q") } else { socket.send_to(b"q", addr) };
    assert_eq!(sent.unwrap(), 1);
    let (text, from) = answer(socket);
    (text, from.to_string())
}

#[test]
fn addresses_stay_over_restarts_and_changes() {
    let mut world = World::new();
    let plain = |name: &str| service(name, &format!("selector: {{app: {name}}}, ports: [{{port: 80}}]"));
    for name in ["one", "two", "three"] {
        world.apply(name, &plain(name));
    }
    world.apply("fixed", &service("fixed", "clusterIP: 10.96.0.77, selector: {app: x}, ports: [{port: 80}]"));
    let all = |world: &World| {
        let services = world.wait_until("four services", || {
            let services = world.services();
            (services.len() == 4).then_some(services)
        });
        services.into_iter().map(|one| (one.name, one.cluster_ips)).collect::<Vec<_>>()
    };
    let before = all(&world);
    let ip = |name: &str| before.iter().find(|(own, _)| own == name).unwrap().1[0].clone();
    assert_eq!(ip("fixed"), "10.96.0.77");
    let different: std::collections::BTreeSet<_> = before.iter().flat_map(|(_, ips)| ips).collect();
    assert_eq!(different.len(), 4);
    assert!(different.iter().all(|ip| ip.starts_with("10.96.")), "{different:?}");
    world.restart();
    assert_eq!(all(&world), before);
    // A manifest that is written again, changed in something else, or moved to another file.
    world.apply("one", &service("one", "selector: {app: one}, ports: [{port: 81}]"));
    world.wait_until("the new port", || world.find_service("one").filter(|one| one.ports[0].port == 81));
    assert_eq!(all(&world), before);
    world.apply("moved", &plain("two"));
    world.delete("two");
    world.apply("mark", &service("mark", "selector: {app: x}, ports: [{port: 80}]"));
    world.wait_until("a later change is seen", || world.find_service("mark"));
    world.delete("mark");
    assert_eq!(all(&world), before);
    world.stop();
    world.start();
    assert_eq!(all(&world), before);
}

#[test]
fn a_bad_service_is_reported_and_stops_no_other() {
    let world = World::new();
    world.apply("b", &backend("b", "web"));
    world.apply(
        "good",
        &service("good", "clusterIP: 10.96.0.40, selector: {app: web}, ports: [{port: 80, targetPort: web}]"),
    );
    world.wait_active("good", &["b"]);
    let before = world.agent_log();
    let bad = [
        ("no-port", "selector: {app: web}, ports: [{targetPort: 80}]", "spec.ports[0].port"),
        ("far", "clusterIP: 192.0.2.1, selector: {app: web}, ports: [{port: 80}]", "192.0.2.1"),
        ("same", "clusterIP: 10.96.0.40, selector: {app: web}, ports: [{port: 80}]", "10.96.0.40"),
        ("kind", "type: Nothing, selector: {app: web}, ports: [{port: 80}]", "spec.type"),
    ];
    let all: String = bad.iter().map(|(name, spec, _)| service(name, spec)).collect();
    let late = service("late", "clusterIP: 10.96.0.41, selector: {app: web}, ports: [{port: 80, targetPort: web}]");
    // Good ones and bad ones in one file.
    world.apply("bad", &(all + &late));
    world.wait_active("late", &["b"]);
    for (name, _, words) in bad {
        world.wait_until(&format!("{name} is reported"), || {
            let log = world.log_since(&before);
            log.lines().any(|line| line.contains(&format!("default/{name}")) && line.contains(words)).then_some(())
        });
        let _ = name;
    }
    let (b, host) = (world.in_pod("b"), world.on_host());
    let server = b.serve_tcp("0.0.0.0:8080", "b");
    assert_eq!(host.met("10.96.0.40:80").server, "b");
    assert_eq!(host.met("10.96.0.41:80").server, "b");
    assert_eq!(server.served(), 2);
}
