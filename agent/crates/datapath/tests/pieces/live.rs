//! The same on a veth, with a kernel at both ends: its sockets believe the answers,
//! and what an offloading sender left undone is not carried over into them.

use crate::bench::{Arguments, Piece};
use crate::world::{Netns, ip, statistics};
use nix::libc;
use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const CLIENTS: [&str; 2] = ["10.1.0.2", "fd01::2"];
const SERVICES: [&str; 2] = ["10.96.0.1:80", "[fd96::1]:80"];

/// A pod's namespace with a link to the host's, on which `piece` meets what the pod
/// sends; services are behind it.
fn pod(piece: &mut Piece) -> (Netns, Netns) {
    let (host, pod) = (Netns::new(), Netns::new());
    let mac = pod.run(|| {
        // This thread's namespace, as long as the thread lives.
        let peer = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
        host.run(|| {
            ip(&format!("link add pod0 type veth peer name eth0 netns {peer}"));
            ip("link set pod0 up");
            piece.attach("pod0");
            mac_of("pod0")
        })
    });
    pod.run(|| {
        ip("link set eth0 up");
        ip(&format!("addr add {}/32 dev eth0", CLIENTS[0]));
        ip(&format!("addr add {}/128 dev eth0 nodad", CLIENTS[1]));
        for gateway in ["169.254.1.1", "fe80::ecee"] {
            ip(&format!("route add {gateway} dev eth0"));
            ip(&format!("route add default via {gateway} dev eth0"));
            ip(&format!("neigh replace {gateway} lladdr {mac} dev eth0 nud permanent"));
        }
    });
    (host, pod)
}

fn mac_of(device: &str) -> String {
    let output = std::process::Command::new("ip").args(["-br", "link", "show", device]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().nth(2).unwrap().to_owned()
}

/// Frames that arrive on the namespace's eth0, each with whether its checksum is
/// still to be computed.
struct Listener(OwnedFd);

impl Listener {
    fn open() -> Self {
        const ETH_P_ALL: u16 = 3;
        // SAFETY: plain system calls on values that live through them.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(ETH_P_ALL.to_be()));
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let on: i32 = 1;
        // SAFETY: as above.
        let err = unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, (&raw const on).cast(), 4)
        };
        assert_eq!(err, 0);
        Self(fd)
    }

    /// The next frame that is `wanted`, and whether its checksum is undone.
    fn next(&self, sent: bool, wanted: impl Fn(&[u8]) -> bool) -> (Vec<u8>, bool) {
        loop {
            let (frame, status, outgoing) = self.receive();
            if outgoing == sent && wanted(&frame) {
                return (frame, status & libc::TP_STATUS_CSUMNOTREADY != 0);
            }
        }
    }

    fn receive(&self) -> (Vec<u8>, u32, bool) {
        let (mut frame, mut control) = (vec![0_u8; 2048], [0_u64; 16]);
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: zeroes are a valid value of both; the pointers live through the call.
        unsafe {
            let mut from: libc::sockaddr_ll = std::mem::zeroed();
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_name = (&raw mut from).cast();
            message.msg_namelen = size_of_val(&from) as u32;
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control);
            let mut ready = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            assert_eq!(libc::poll(&raw mut ready, 1, 10_000), 1, "no answer came");
            let len = libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0);
            assert!(len > 0, "{}", std::io::Error::last_os_error());
            frame.truncate(len as usize);
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            assert!(!header.is_null());
            let data: libc::tpacket_auxdata = libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
            (frame, data.tp_status, from.sll_pkttype == libc::PACKET_OUTGOING)
        }
    }
}

fn proto(frame: &[u8]) -> u8 {
    if frame[12..14] == [8, 0] { frame[23] } else { frame[20] }
}

#[test]
fn connections_are_refused_at_once() {
    let mut piece = Piece::load("refuse");
    let (host, pod) = pod(&mut piece);
    for service in SERVICES {
        let (answer, undone) = pod.run(|| {
            let listener = Listener::open();
            let err = TcpStream::connect(service).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::ConnectionRefused, "{service}");
            let (_, undone) = listener.next(true, |frame| proto(frame) == 6);
            assert!(undone, "this kernel's veth does not offload checksums: nothing is tested");
            listener.next(false, |frame| proto(frame) == 6)
        });
        assert!(!undone, "{answer:x?}");
    }
    // The answers pass the egress hook and are the device's own traffic.
    let [_, received, _, sent] = host.run(|| statistics("pod0"));
    assert!(received >= 2 && sent >= 2, "{received} {sent}");
}

#[test]
fn datagrams_are_refused_at_once() {
    let mut piece = Piece::load("refuse");
    let (_host, pod) = pod(&mut piece);
    for (client, service) in CLIENTS.into_iter().zip(SERVICES) {
        for size in [0, 20, 700, 1400] {
            let (answer, undone) = pod.run(|| {
                let listener = Listener::open();
                let socket = UdpSocket::bind((client, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket.connect(service).unwrap();
                socket.send(&vec![1; size]).unwrap();
                let err = socket.recv(&mut [0; 8]).unwrap_err();
                assert_eq!(err.kind(), ErrorKind::ConnectionRefused, "{service} {size}");
                listener.next(false, |frame| [1, 58].contains(&proto(frame)))
            });
            assert!(!undone, "{answer:x?}");
        }
    }
}

#[test]
fn senders_learn_the_size_that_fits() {
    const MTU: u32 = 1300;
    let mut piece = Piece::load("too_big");
    piece.arguments(Arguments { number: MTU, ..Arguments::default() });
    let (_host, pod) = pod(&mut piece);
    let options = [(libc::SOL_IP, libc::IP_MTU), (libc::SOL_IPV6, libc::IPV6_MTU)];
    for ((client, service), (level, name)) in CLIENTS.into_iter().zip(SERVICES).zip(options) {
        pod.run(|| {
            let listener = Listener::open();
            let socket = UdpSocket::bind((client, 0)).unwrap();
            socket.connect(service).unwrap();
            socket.send(&[1; 1400]).unwrap();
            let (answer, undone) = listener.next(false, |frame| [1, 58].contains(&proto(frame)));
            assert!(!undone, "{answer:x?}");
            let deadline = Instant::now() + Duration::from_secs(10);
            while option(&socket, level, name) != MTU {
                assert!(Instant::now() < deadline, "{service}: {}", option(&socket, level, name));
                std::thread::yield_now();
            }
        });
    }
}

fn option(socket: &UdpSocket, level: i32, name: i32) -> u32 {
    let (mut value, mut len) = (0_u32, 4_u32);
    // SAFETY: four bytes of a local value.
    let err = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    assert_eq!(err, 0);
    value
}
