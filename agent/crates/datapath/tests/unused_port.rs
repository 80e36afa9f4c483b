//! A service's address on a port that the service does not have.

mod world;

use orlop_model::Protocol::Tcp;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use world::nodes::{Cluster, Way};
use world::peers::{pings, udp_socket};
use world::service::{Service, apply};
use world::{Netns, World};

/// Nobody answers there, and the client hears it at once.
fn is_refused(ns: &Netns, addr: &str) {
    ns.run(|| {
        let to: SocketAddr = addr.parse().unwrap();
        let err = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::ConnectionRefused, "TCP to {addr}");
        let socket = udp_socket(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
        socket.connect(to).unwrap();
        socket.send(b"question").unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "UDP to {addr}");
    });
}

#[test]
fn a_port_that_no_service_has_is_refused_and_leaves_no_node() {
    World::run("unused-port", |world| {
        let cluster = Cluster::new(world, 1, Way::Direct);
        let node = cluster.node(1);
        let pod = node.pod(2);
        let services = [
            Service::new(1, Tcp, "10.96.0.1:80", &[(1, "10.1.1.2:8080")]),
            Service::new(2, Tcp, "[fd96::1]:80", &[(2, "[fd01:1::2]:8080")]),
        ];
        cluster.serve(|_| services.to_vec());
        for addr in ["10.96.0.1:81", "[fd96::1]:81"] {
            is_refused(&pod, addr);
            is_refused(&node.ns, addr);
        }
        assert!(!pings(&pod, "10.96.0.1", 8));
        // With the service its address goes.
        apply(node.datapath(), &services[1..]);
        let to: SocketAddr = "10.96.0.1:81".parse().unwrap();
        let gone = pod.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)).unwrap_err().kind());
        assert_ne!(gone, ErrorKind::ConnectionRefused);
        is_refused(&pod, "[fd96::1]:81");
    });
}
