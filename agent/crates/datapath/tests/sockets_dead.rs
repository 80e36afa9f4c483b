//! Sockets whose backend is dead are ended; others are not touched.

mod world;

use orlop_model::Protocol::{Tcp, Udp};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use world::peers::{ask_udp, serve_tcp, serve_udp, udp_socket};
use world::service::{Service, apply};
use world::{Netns, World};

/// A socket that is connected, and has spoken.
fn connected(ns: &Netns, bind: &str, addr: &str) -> UdpSocket {
    let socket = ns.run(|| udp_socket(bind));
    socket.connect(addr).unwrap();
    assert_eq!(ask(&socket), "b x");
    socket
}

fn ask(socket: &UdpSocket) -> String {
    socket.send(b"x").unwrap();
    let mut bytes = [0; 16];
    let len = socket.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[test]
fn udp_sockets_of_a_dead_backend_are_ended_at_once() {
    World::run("dead", |world| {
        let [a, b, c] = [1, 2, 3].map(|number| world.pod(number));
        let node = Netns::current();
        world::ip("addr add 192.0.2.9/32 dev lo");
        for (pod, name) in [(&b, "b"), (&c, "c")] {
            serve_udp(&pod.ns, "[::]:5353", name);
        }
        let services = |pod: u8, epoch| {
            let (four, six) = (format!("10.1.0.{pod}:5353"), format!("[fd01::{pod}]:5353"));
            let id = u32::from(pod) * 10;
            [
                Service::new(1, Udp, "10.96.0.1:53", &[(id, &four)]).epoch(epoch),
                Service::new(2, Udp, "[fd96::1]:53", &[(id + 1, &six)]).epoch(epoch),
            ]
        };
        apply(world.datapath(), &services(2, 1));
        let ended = [
            (connected(&a.ns, "0.0.0.0:0", "10.96.0.1:53"), "10.96.0.1:53"),
            (connected(&a.ns, "[::]:0", "[fd96::1]:53"), "[fd96::1]:53"),
            (connected(&a.ns, "[::]:0", "[::ffff:10.96.0.1]:53"), "[::ffff:10.96.0.1]:53"),
            (connected(&node, "0.0.0.0:0", "10.96.0.1:53"), "10.96.0.1:53"),
        ];
        let direct = connected(&a.ns, "0.0.0.0:0", "10.1.0.2:5353");
        let elsewhere = connected(&c.ns, "0.0.0.0:0", "10.96.0.1:53");
        let unconnected = a.ns.run(|| udp_socket("0.0.0.0:0"));
        assert_eq!(ask_udp(&unconnected, "10.96.0.1:53", "x").0, "b x");
        // One that asked the service, and then went to the pod itself.
        let changed = connected(&a.ns, "0.0.0.0:0", "10.96.0.1:53");
        changed.connect("10.1.0.2:5353").unwrap();

        apply(world.datapath(), &services(3, 2));
        let dead: Vec<SocketAddr> = ["10.1.0.2:5353", "[fd01::2]:5353"].map(|addr| addr.parse().unwrap()).into();
        let namespaces = [node.open(), a.ns.open()];
        let destroy = |dead: &[SocketAddr]| world.datapath().destroy_sockets(Udp, dead, &namespaces).unwrap();
        assert_eq!(destroy(&[]), 0);
        assert_eq!(destroy(&["10.1.0.3:5353".parse().unwrap()]), 0);
        assert_eq!(world.datapath().destroy_sockets(Tcp, &dead, &namespaces).unwrap(), 0);
        assert_eq!(destroy(&dead), 4);
        assert_eq!(destroy(&dead), 0, "none is left");
        for (socket, addr) in &ended {
            let mut bytes = [0; 16];
            assert_eq!(socket.recv(&mut bytes).unwrap_err().kind(), ErrorKind::ConnectionAborted, "{addr}");
            socket.connect(addr).unwrap();
            assert_eq!(ask(socket), "c x", "{addr}");
        }
        for socket in [&direct, &elsewhere, &changed] {
            assert_eq!(ask(socket), "b x", "not asked about, or its own choice");
        }
        assert_eq!(ask_udp(&unconnected, "10.96.0.1:53", "x").0, "c x");
    });
}

#[test]
fn an_unconnected_socket_leaves_a_backend_that_only_another_service_still_has() {
    World::run("moved", |world| {
        let [a, b, c] = [1, 2, 3].map(|number| world.pod_v4(number));
        serve_udp(&b.ns, "10.1.0.2:5353", "b");
        serve_udp(&c.ns, "10.1.0.3:5353", "c");
        let both = [(1, "10.1.0.2:5353"), (2, "10.1.0.3:5353")];
        let all = Service::new(2, Udp, "10.96.0.2:53", &both);
        let services = |epoch, backends: &[(u32, &str)]| {
            [Service::new(1, Udp, "10.96.0.1:53", backends).epoch(epoch), all.clone()]
        };
        let connections = |backend| {
            let counters = world.datapath().service_counters().unwrap();
            counters.iter().find(|(key, _)| *key == (1, backend)).map_or(0, |(_, counters)| counters.connections)
        };
        let socket = a.ns.run(|| udp_socket("0.0.0.0:0"));
        let ask = || ask_udp(&socket, "10.96.0.1:53", "x").0;
        apply(world.datapath(), &services(1, &both[..1]));
        assert_eq!(ask(), "b x");
        // Another list with the backend in it: the same flow.
        apply(world.datapath(), &services(2, &both));
        assert_eq!(((0..12).map(|_| ask()).filter(|answer| answer != "b x").count(), connections(1)), (0, 1));
        apply(world.datapath(), &services(3, &both[1..]));
        assert_eq!((ask(), ask(), connections(1), connections(2)), ("c x".into(), "c x".into(), 1, 1));
        apply(world.datapath(), &services(4, &[]));
        assert_eq!(socket.send_to(b"x", "10.96.0.1:53").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn who_waits_is_woken() {
    World::run("dead-wait", |world| {
        let (a, b) = (world.pod_v4(1), world.pod_v4(2));
        serve_udp(&b.ns, "10.1.0.2:5353", "b");
        apply(world.datapath(), &[Service::new(1, Udp, "10.96.0.1:53", &[(1, "10.1.0.2:5353")])]);
        let socket = connected(&a.ns, "0.0.0.0:0", "10.96.0.1:53");
        let waiting = socket.try_clone().unwrap();
        let waiter = std::thread::spawn(move || waiting.recv(&mut [0; 16]).unwrap_err().kind());
        let dead = ["10.1.0.2:5353".parse().unwrap()];
        assert_eq!(world.datapath().destroy_sockets(Udp, &dead, &[a.ns.open()]).unwrap(), 1);
        // Its time limit of ten seconds would be another kind of error.
        assert_eq!(waiter.join().unwrap(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn tcp_connections_of_a_dead_backend_end_when_asked_for() {
    World::run("dead-tcp", |world| {
        let (a, b) = (world.pod(1), world.pod(2));
        serve_tcp(&b.ns, "[::]:8080", "b");
        apply(world.datapath(), &[Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.0.2:8080")])]);
        let [service, direct] =
            ["10.96.0.1:80", "10.1.0.2:8080"].map(|addr| a.ns.run(|| TcpStream::connect(addr).unwrap()));
        let dead = ["10.1.0.2:8080".parse().unwrap()];
        assert_eq!(world.datapath().destroy_sockets(Tcp, &dead, &[a.ns.open()]).unwrap(), 1);
        let error = |stream: &TcpStream| stream.take_error().unwrap().map(|err| err.kind());
        assert_eq!(error(&service), Some(ErrorKind::ConnectionAborted));
        assert_eq!(error(&direct), None);
    });
}
