//! Servers and clients on real sockets.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
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
