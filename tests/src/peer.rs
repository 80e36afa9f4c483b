//! Servers and clients on sockets that were made in a [`Place`].

use crate::Place;
use nix::sys::socket::{Backlog, SockaddrStorage, bind, connect, getsockname, listen, setsockopt, sockopt};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an answer may take: far longer than it ever does.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often a server looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A server on a thread of its own; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    end: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(work: impl FnOnce(&AtomicBool, &AtomicU64) + Send + 'static) -> Self {
        let (end, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts) = (Arc::clone(&end), Arc::clone(&served));
        Self { end, served, thread: Some(std::thread::spawn(move || work(&ends, &counts))) }
    }

    /// Connections accepted, or datagrams answered.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What a TCP client met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// The server's name.
    pub server: String,
    /// The client's address as the server saw it.
    pub client: SocketAddr,
    /// What the client's socket says of its peer.
    pub peer: SocketAddr,
}

impl Place {
    fn tcp(&self, addr: SocketAddr) -> io::Result<OwnedFd> {
        self.socket(domain(addr), libc::SOCK_STREAM, 0)
    }

    /// Listens with room for `backlog` connections that are not accepted yet.
    ///
    /// # Panics
    /// The address is not to be had.
    #[must_use]
    pub fn listen(&self, addr: &str, backlog: i32) -> TcpListener {
        let addr = parse(addr);
        let socket = self.tcp(addr).expect("a TCP socket");
        setsockopt(&socket, sockopt::ReuseAddr, &true).expect("SO_REUSEADDR");
        bind(socket.as_raw_fd(), &SockaddrStorage::from(addr)).unwrap_or_else(|e| panic!("bind {addr}: {e}"));
        listen(&socket, Backlog::new(backlog).expect("a backlog")).expect("listen");
        socket.into()
    }

    /// Serves TCP: says its name and the client's address in one line, then sends
    /// back what it gets.
    ///
    /// # Panics
    /// The address is not to be had.
    #[must_use]
    pub fn serve_tcp(&self, addr: &str, name: &str) -> Server {
        let (listener, name) = (self.listen(addr, BACKLOG), name.to_owned());
        setsockopt(&listener, sockopt::ReceiveTimeout, &time(LOOK_EVERY)).expect("SO_RCVTIMEO");
        Server::start(move |end, served| {
            while !end.load(Ordering::SeqCst) {
                let Ok((stream, client)) = listener.accept() else { continue };
                served.fetch_add(1, Ordering::SeqCst);
                let name = name.clone();
                std::thread::spawn(move || echo(stream, &format!("{name} {client}\n")));
            }
        })
    }

    /// Serves UDP: answers with its name, a space and the datagram.
    ///
    /// # Panics
    /// The address is not to be had.
    #[must_use]
    pub fn serve_udp(&self, addr: &str, name: &str) -> Server {
        let (socket, name) = (self.udp(addr), name.to_owned());
        socket.set_read_timeout(Some(LOOK_EVERY)).expect("SO_RCVTIMEO");
        Server::start(move |end, served| {
            let mut bytes = [0; 65_536];
            while !end.load(Ordering::SeqCst) {
                let Ok((len, client)) = socket.recv_from(&mut bytes) else { continue };
                served.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(&[name.as_bytes(), b" ", &bytes[..len]].concat(), client);
            }
        })
    }

    /// Connects; its waits end after a while.
    ///
    /// # Errors
    /// As `connect(2)`; `WouldBlock` or `TimedOut` when nobody answers.
    pub fn connect(&self, addr: &str) -> io::Result<TcpStream> {
        self.connect_within(addr, ANSWER_WITHIN)
    }

    /// As [`Place::connect`] with a limit of its own.
    ///
    /// # Errors
    /// The same.
    pub fn connect_within(&self, addr: &str, limit: Duration) -> io::Result<TcpStream> {
        let addr = parse(addr);
        let stream = TcpStream::from(self.tcp(addr)?);
        stream.set_write_timeout(Some(limit))?;
        stream.set_read_timeout(Some(limit))?;
        connect(stream.as_raw_fd(), &SockaddrStorage::from(addr))?;
        Ok(stream)
    }

    /// Connects and sees who answers.
    ///
    /// # Errors
    /// As [`Place::connect`], or no line came.
    pub fn meet(&self, addr: &str) -> io::Result<Met> {
        let mut stream = self.connect(addr)?;
        read_greeting(&mut stream)
    }

    /// As [`Place::meet`] for somebody who has to be there.
    ///
    /// # Panics
    /// Nobody answers.
    #[must_use]
    pub fn met(&self, addr: &str) -> Met {
        self.meet(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    /// Has `payload` sent back, closes, and gives what it met.
    ///
    /// # Panics
    /// Anything fails, or something else comes back.
    pub fn talk(&self, addr: &str, payload: &[u8]) -> Met {
        let mut stream = self.connect(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"));
        let met = read_greeting(&mut stream).expect("a greeting");
        let mut writer = stream.try_clone().expect("a second handle");
        let mut back = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(payload).expect("send");
                writer.shutdown(std::net::Shutdown::Write).expect("close one way");
            });
            stream.read_to_end(&mut back).expect("read what comes back");
        });
        assert!(back == payload, "{} bytes came back of {}", back.len(), payload.len());
        met
    }

    /// A UDP socket on `addr`.
    ///
    /// # Panics
    /// The address is not to be had.
    #[must_use]
    pub fn udp(&self, addr: &str) -> UdpSocket {
        let addr = parse(addr);
        let socket = UdpSocket::from(self.socket(domain(addr), libc::SOCK_DGRAM, 0).expect("a UDP socket"));
        bind(socket.as_raw_fd(), &SockaddrStorage::from(addr)).unwrap_or_else(|e| panic!("bind {addr}: {e}"));
        socket.set_read_timeout(Some(ANSWER_WITHIN)).expect("SO_RCVTIMEO");
        socket
    }

    /// A UDP socket on any port that is connected to `addr`.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn udp_to(&self, addr: &str) -> io::Result<UdpSocket> {
        let socket = self.udp("0.0.0.0:0");
        connect(socket.as_raw_fd(), &SockaddrStorage::from(parse(addr)))?;
        Ok(socket)
    }

    /// Listens to every frame of this namespace's devices, loopback too.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn tap(&self) -> Tap {
        let every = i32::from(u16::try_from(libc::ETH_P_ALL).expect("a small number").to_be());
        let socket = self.socket(libc::AF_PACKET, libc::SOCK_RAW, every).expect("a packet socket");
        setsockopt(&socket, sockopt::ReceiveTimeout, &time(ANSWER_WITHIN)).expect("SO_RCVTIMEO");
        setsockopt(&socket, sockopt::RcvBuf, &(8 << 20)).expect("SO_RCVBUF");
        Tap(socket)
    }
}

/// See [`Place::tap`].
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    /// The next frame.
    ///
    /// # Panics
    /// None comes.
    #[must_use]
    pub fn next(&self) -> Vec<u8> {
        let mut frame = vec![0; 65_536];
        let len = nix::unistd::read(&self.0, &mut frame).expect("a frame");
        frame.truncate(len);
        frame
    }

    /// Frames until the first that `last` is true for, that one left out.
    ///
    /// # Panics
    /// It does not come.
    pub fn until(&self, last: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        std::iter::repeat_with(|| self.next()).take_while(|frame| !last(frame)).collect()
    }
}

/// Sends without connecting and gives the answer and who sent it.
///
/// # Panics
/// No answer comes.
#[must_use]
pub fn ask(socket: &UdpSocket, addr: &str, question: &str) -> (String, SocketAddr) {
    socket.send_to(question.as_bytes(), addr).unwrap_or_else(|error| panic!("send to {addr}: {error}"));
    answer(socket)
}

/// The next datagram and who sent it.
///
/// # Panics
/// None comes.
#[must_use]
pub fn answer(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut bytes = [0; 65_536];
    let (len, from) = socket.recv_from(&mut bytes).expect("an answer");
    (String::from_utf8_lossy(&bytes[..len]).into_owned(), from)
}

/// Closes with a reset, so that no port waits out its time.
pub fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &linger).expect("SO_LINGER");
}

/// Reads the line that [`Place::serve_tcp`] sends first.
///
/// # Errors
/// No whole line comes.
pub fn read_greeting(stream: &mut TcpStream) -> io::Result<Met> {
    let peer = stream.peer_addr()?;
    let mut line = String::new();
    // One byte at a time: what follows is the caller's.
    BufReader::with_capacity(1, stream).read_line(&mut line)?;
    let (server, client) = line.trim_end().split_once(' ').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Met { server: server.to_owned(), client: parse(client), peer })
}

/// The port that a socket has.
///
/// # Panics
/// It is no socket of the Internet.
#[must_use]
pub fn local_addr(socket: &impl AsRawFd) -> SocketAddr {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd()).expect("getsockname");
    let v4 = name.as_sockaddr_in().map(|addr| SocketAddr::from((addr.ip(), addr.port())));
    v4.or_else(|| name.as_sockaddr_in6().map(|addr| (addr.ip(), addr.port()).into())).expect("an Internet address")
}

fn echo(mut stream: TcpStream, greeting: &str) {
    let mut bytes = [0; 65_536];
    // What the listener waits for at most is handed down to what it accepts.
    let mut sent = stream.set_read_timeout(None).and_then(|()| stream.write_all(greeting.as_bytes()));
    while sent.is_ok() {
        match stream.read(&mut bytes) {
            Ok(len @ 1..) => sent = stream.write_all(&bytes[..len]),
            Ok(0) | Err(_) => return,
        }
    }
}

fn parse(addr: &str) -> SocketAddr {
    addr.parse().unwrap_or_else(|error| panic!("{addr}: {error}"))
}

fn domain(addr: SocketAddr) -> i32 {
    if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

fn time(duration: Duration) -> nix::sys::time::TimeVal {
    let micros = i64::try_from(duration.as_micros()).expect("a short time");
    nix::sys::time::TimeValLike::microseconds(micros)
}
