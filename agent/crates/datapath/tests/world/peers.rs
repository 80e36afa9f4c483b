//! Servers and clients on real sockets.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

use super::Netns;

const LIMIT: Duration = Duration::from_secs(10);

/// Serves TCP in `ns` until the process ends: sends its name and the client's
/// address, then echoes.
pub fn serve_tcp(ns: &Netns, addr: &str, name: &'static str) {
    let listener = ns.run(|| TcpListener::bind(addr).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let Ok(peer) = stream.peer_addr() else { return };
                let _ = writeln!(stream, "{name} {}", peer.ip());
                let mut bytes = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..len]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Serves UDP in `ns`: answers with its name and the datagram.
pub fn serve_udp(ns: &Netns, addr: &str, name: &'static str) {
    let socket = ns.run(|| UdpSocket::bind(addr).unwrap());
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, peer)) = socket.recv_from(&mut bytes) {
            let answer = [name.as_bytes(), b" ", &bytes[..len]].concat();
            let _ = socket.send_to(&answer, peer);
        }
    });
}

/// What a TCP client met.
#[derive(Debug, PartialEq, Eq)]
pub struct Met {
    pub greeting: String,
    pub peer: SocketAddr,
    pub local: IpAddr,
}

/// Connects in `ns`, has 1000 bytes echoed, closes.
pub fn talk_tcp(ns: &Netns, addr: &str) -> Met {
    let addr: SocketAddr = addr.parse().unwrap();
    ns.run(move || {
        let mut stream = TcpStream::connect_timeout(&addr, LIMIT).unwrap_or_else(|err| panic!("{addr}: {err}"));
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let (peer, local) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap().ip());
        let mut greeting = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            stream.read_exact(&mut byte).unwrap();
            greeting.push(byte[0]);
        }
        stream.write_all(&[7; 1000]).unwrap();
        let mut echo = [0; 1000];
        stream.read_exact(&mut echo).unwrap();
        Met { greeting: String::from_utf8(greeting).unwrap().trim().to_owned(), peer, local }
    })
}

pub fn udp_socket(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Sends to `addr` without connecting and returns the answer and who sent it.
pub fn ask_udp(socket: &UdpSocket, addr: &str, question: &str) -> (String, SocketAddr) {
    socket.send_to(question.as_bytes(), addr).unwrap();
    let mut bytes = [0; 2048];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    (String::from_utf8_lossy(&bytes[..len]).into_owned(), from)
}

/// Waits until `found` equals `wanted`; fails with both after ten seconds.
pub fn eventually<T: PartialEq + std::fmt::Debug>(what: &str, mut found: impl FnMut() -> (T, T)) {
    let start = Instant::now();
    loop {
        let (left, right) = found();
        if left == right {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{what}: {left:?} is not {right:?}");
        std::thread::yield_now();
    }
}

/// A connection in `ns` whose greeting was read.
fn greeted(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&addr, LIMIT).unwrap_or_else(|err| panic!("{addr}: {err}"));
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    stream
}

/// Has this many bytes echoed, which all have to come back.
pub fn fetch(ns: &Netns, addr: &str, bytes: usize) {
    let addr: SocketAddr = addr.parse().unwrap();
    ns.run(move || {
        let mut stream = greeted(addr);
        let mut reader = stream.try_clone().unwrap();
        let echo = std::thread::spawn(move || {
            let mut echo = vec![0; bytes];
            reader.read_exact(&mut echo).map(|()| echo)
        });
        stream.write_all(&vec![7; bytes]).unwrap();
        assert_eq!(echo.join().unwrap().unwrap(), vec![7; bytes]);
    });
}

/// Asks for an echo of this many bytes once, from `ns`: was it answered, whole?
pub fn pings(ns: &Netns, addr: &str, bytes: usize) -> bool {
    let addr: IpAddr = addr.parse().unwrap();
    ns.run(move || {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        let (family, protocol, kind) = match addr {
            IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8),
            IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128),
        };
        // SAFETY: takes numbers and gives a descriptor, which is checked and owned by nobody else.
        let socket = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: as above. A ping socket sends and receives as a datagram socket does.
        let socket = unsafe { UdpSocket::from_raw_fd(socket) };
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        // Type, code, checksum, identifier (the kernel's), sequence number.
        let question = [&[kind, 0, 0, 0, 0, 0, 0, 1][..], &vec![7; bytes]].concat();
        socket.send_to(&question, SocketAddr::new(addr, 0)).unwrap();
        let mut answer = vec![0; 65_536];
        socket.recv_from(&mut answer).is_ok_and(|(len, from)| from.ip() == addr && answer[8..len] == question[8..])
    })
}
