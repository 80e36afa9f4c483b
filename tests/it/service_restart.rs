//! What Services are while no agent is there, and what they become when one comes back.

use orlop_tests::{World, answer, ask, labelled_pod, object, read_greeting};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

const SLEEP: &str = "containers: [{name: c, image: IMAGE, command: [sleep, inf]}]";
const SERVICE: &str = "10.96.0.70";
const NODE_PORT: &str = "10.99.0.1:30080";
const NODE_PORT_UDP: &str = "10.99.0.1:30053";

fn backend(name: &str) -> String {
    labelled_pod(name, "app: web", SLEEP)
}

fn web() -> String {
    let ports = "[{name: t, port: 80, targetPort: 8080, nodePort: 30080},
         {name: u, port: 53, targetPort: 5353, nodePort: 30053, protocol: UDP}]";
    let spec = format!("spec: {{type: NodePort, clusterIP: {SERVICE}, selector: {{app: web}}, ports: {ports}}}");
    object("Service", "{name: web}", &spec)
}

/// A connection that is there before, meanwhile and after.
struct Kept {
    stream: TcpStream,
    addr: String,
}

impl Kept {
    fn echoes(&mut self) {
        self.stream.write_all(b"are you there").expect("send on a connection of before");
        let mut back = [0; 13];
        self.stream.read_exact(&mut back).expect("an answer on a connection of before");
        assert_eq!((&back, self.stream.peer_addr().unwrap().to_string()), (b"are you there", self.addr.clone()));
    }
}

#[test]
fn connections_go_on_and_new_ones_come_without_an_agent() {
    let mut world = World::new();
    world.apply("web", &(backend("b") + &backend("c") + &web()));
    world.apply("a", &labelled_pod("a", "app: client", SLEEP));
    world.wait_ready("a");
    world.wait_active("web", &["b", "c"]);
    let places = [world.in_pod("a"), world.on_host(), world.outside()];
    let backends = [("b", world.in_pod("b")), ("c", world.in_pod("c"))];
    let servers: Vec<_> = backends
        .iter()
        .map(|(name, place)| (place.serve_tcp("0.0.0.0:8080", name), place.serve_udp("0.0.0.0:5353", name)))
        .collect();
    let cluster_ip = [format!("{SERVICE}:80"), format!("{SERVICE}:53")];
    let node_port = [NODE_PORT.to_owned(), NODE_PORT_UDP.to_owned()];
    let ways = [(0, &cluster_ip), (1, &cluster_ip), (0, &node_port), (1, &node_port), (2, &node_port)];
    let mut kept = Vec::new();
    let mut flows = Vec::new();
    for (which, [tcp, udp]) in ways {
        let mut stream = places[which].connect(tcp).unwrap();
        read_greeting(&mut stream).unwrap();
        kept.push(Kept { stream, addr: tcp.clone() });
        let (free, fixed) = (places[which].udp("0.0.0.0:0"), places[which].udp_to(udp).unwrap());
        let server = ask(&free, udp, "x").0;
        fixed.send(b"y").unwrap();
        let fixed_server = answer(&fixed).0;
        flows.push((free, server, fixed, fixed_server, udp.clone()));
    }
    let mut everything_works = |what: &str| {
        for one in &mut kept {
            one.echoes();
        }
        for (free, server, fixed, fixed_server, udp) in &flows {
            let (text, from) = ask(free, udp, "x");
            assert_eq!((&text, &from.to_string()), (server, udp), "{what}: a flow keeps its backend");
            fixed.send(b"y").unwrap();
            let (text, from) = answer(fixed);
            assert_eq!((&text, &from.to_string()), (fixed_server, udp), "{what}: a flow keeps its backend");
        }
        for (which, [tcp, _]) in ways {
            assert_eq!(places[which].met(tcp).peer.to_string(), **tcp, "{what}");
        }
    };
    everything_works("at first");
    world.kill();
    everything_works("without an agent");
    world.start();
    everything_works("with a new agent");
    world.stop();
    everything_works("without an agent again");
    world.start();
    everything_works("with another");
    // A change of the endpoints does not touch what is there.
    world.apply("web", &(backend("b") + &labelled_pod("c", "app: out", SLEEP) + &web()));
    world.wait_active("web", &["b"]);
    for one in &mut kept {
        one.echoes();
    }
    let now = servers[1].0.served();
    for (which, [tcp, _]) in ways {
        assert_eq!(places[which].met(tcp).server, "b");
    }
    assert_eq!(servers[1].0.served(), now);
}

#[test]
fn what_changed_without_an_agent_holds_when_one_is_back() {
    let mut world = World::new();
    world.apply("b", &backend("b"));
    world.apply("c", &labelled_pod("c", "app: web", &format!("restartPolicy: Never\n{SLEEP}")));
    world.apply("web", &web());
    let old = "spec: {clusterIP: 10.96.0.71, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}";
    world.apply("old", &object("Service", "{name: old}", old));
    world.wait_active("old", &["b", "c"]);
    world.wait_active("web", &["b", "c"]);
    let (b, host) = (world.in_pod("b"), world.on_host());
    let _server = b.serve_tcp("0.0.0.0:8080", "b");
    // One pod's process ends, a Service goes and another comes while nobody looks.
    let pid = i32::try_from(world.pod("c").containers[0].pid.unwrap()).unwrap();
    world.kill();
    world.delete("old");
    let new = "spec: {clusterIP: 10.96.0.72, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}";
    world.apply("new", &object("Service", "{name: new}", new));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    world.start();
    world.wait_until("the services of now", || {
        let names: Vec<String> = world.services().into_iter().map(|service| service.name).collect();
        (names == ["new", "web"]).then_some(())
    });
    for (name, addr) in [("new", "10.96.0.72:80"), ("web", "10.96.0.70:80")] {
        world.wait_active(name, &["b"]);
        assert!((0..20).all(|_| host.met(addr).server == "b"));
    }
    let error = host.connect_within("10.96.0.71:80", std::time::Duration::from_millis(100)).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "it is not translated any more");
}

#[test]
fn nobody_behind_it_is_said_at_once() {
    let world = World::new();
    world.apply("web", &web());
    world.apply("a", &labelled_pod("a", "app: client", SLEEP));
    world.wait_ready("a");
    world.wait_active("web", &[]);
    let (a, host, outside) = (world.in_pod("a"), world.on_host(), world.outside());
    for place in [&a, &host] {
        for addr in [&format!("{SERVICE}:80"), NODE_PORT] {
            assert_eq!(place.connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{addr}");
        }
        for addr in [&format!("{SERVICE}:53"), NODE_PORT_UDP] {
            assert_eq!(place.udp_to(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{addr}");
            let error = place.udp("0.0.0.0:0").send_to(b"x", addr).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{addr}");
        }
    }
    // Nothing was sent for it.
    assert_eq!(world.counters().pod("a").sent.packets, 0);
    // From outside the packet is dropped, with its reason.
    outside.udp("0.0.0.0:0").send_to(b"x", NODE_PORT_UDP).unwrap();
    world
        .wait_until("the drop is counted", || (world.counters().node_drops.get("NoBackend") == Some(&1)).then_some(()));
    // The first that comes is found.
    world.apply("b", &backend("b"));
    world.wait_active("web", &["b"]);
    let b = world.in_pod("b");
    let _server = b.serve_tcp("0.0.0.0:8080", "b");
    for (place, addr) in [(&a, "10.96.0.70:80"), (&host, "10.96.0.70:80"), (&outside, NODE_PORT)] {
        assert_eq!(place.met(addr).server, "b");
    }
}
