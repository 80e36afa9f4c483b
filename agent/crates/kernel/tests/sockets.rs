//! Sockets as netlink tells of them, in namespaces of the test's own.

use orlop_kernel::{Netns, SockDiag};
use orlop_model::Protocol::{Tcp, Udp};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;

/// A namespace with its loopback up.
fn world() -> Netns {
    let netns = Netns::create().expect("a namespace (needs root)");
    let up = || Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success();
    assert!(netns.run(up).unwrap());
    netns
}

/// `SO_COOKIE`.
fn cookie(socket: &UdpSocket) -> u64 {
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let place = std::ptr::from_mut(&mut cookie).cast();
    // SAFETY: the kernel writes at most `len` bytes to `cookie`.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, place, &raw mut len) };
    assert_eq!(done, 0);
    cookie
}

fn connected(netns: &Netns, bind: &str, peer: &str) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(bind).unwrap()).unwrap();
    socket.connect(peer).unwrap();
    socket
}

#[test]
fn a_namespace_keeps_its_cookie() {
    let (one, other) = (world(), world());
    assert_eq!(one.cookie().unwrap(), one.cookie().unwrap());
    assert_ne!(one.cookie().unwrap(), other.cookie().unwrap());
}

#[test]
fn connected_sockets_are_listed_by_cookie_and_peer() {
    let netns = world();
    let sockets = [
        (connected(&netns, "127.0.0.1:0", "127.0.0.1:9"), "127.0.0.1:9"),
        (connected(&netns, "[::1]:0", "[::1]:9"), "[::1]:9"),
        (connected(&netns, "[::]:0", "[::ffff:127.0.0.1]:9"), "127.0.0.1:9"),
    ];
    let _unconnected = netns.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let mut diag = SockDiag::open_in(&netns).unwrap();
    let mut found: Vec<(u64, SocketAddr)> =
        diag.connected(Udp, |_| true).unwrap().iter().map(|socket| (socket.cookie, socket.peer)).collect();
    let mut wanted: Vec<(u64, SocketAddr)> =
        sockets.iter().map(|(socket, peer)| (cookie(socket), peer.parse().unwrap())).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    assert_eq!(diag.connected(Udp, |_| false).unwrap(), []);
    assert_eq!(diag.connected(Tcp, |_| true).unwrap(), []);
    assert_eq!(SockDiag::open_in(&world()).unwrap().connected(Udp, |_| true).unwrap(), [], "another namespace");
}

#[test]
fn an_ended_socket_says_so_once_and_a_closed_one_is_gone() {
    let netns = world();
    let mut diag = SockDiag::open_in(&netns).unwrap();
    for (bind, peer) in [("127.0.0.1:0", "127.0.0.1:9"), ("[::1]:0", "[::1]:9"), ("[::]:0", "[::ffff:127.0.0.1]:9")] {
        let socket = connected(&netns, bind, peer);
        let listed = diag.connected(Udp, |_| true).unwrap();
        assert!(diag.destroy(&listed[0]).unwrap(), "{peer}");
        assert_eq!(socket.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::ConnectionAborted, "{peer}");
        assert_eq!(diag.connected(Udp, |_| true).unwrap(), [], "{peer}");
        drop(socket);
        assert!(!diag.destroy(&listed[0]).unwrap(), "{peer}");
    }
}
