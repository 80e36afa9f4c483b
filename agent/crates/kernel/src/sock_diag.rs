//! Sockets of a network namespace, as netlink tells of them, and their end
//! (`NETLINK_SOCK_DIAG`, linux/inet_diag.h).

use crate::{KernelError, Netns};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use orlop_model::Protocol;
use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;
/// Family, state, timer and retransmissions stand before the id in `struct inet_diag_msg`.
const ID_AT: usize = 4;
/// The kernel answers inside `sendmsg`; an answer that is not there by then is lost.
const ANSWER_SECS_MAX: i64 = 10;
/// All but `TCP_LISTEN`, `TCP_TIME_WAIT`, `TCP_NEW_SYN_RECV` and `TCP_CLOSE`, in which nobody waits for an answer. UDP
/// knows only `TCP_ESTABLISHED`, which means connected, and `TCP_CLOSE`.
const STATES: u32 = !(1 << 10 | 1 << 6 | 1 << 12 | 1 << 7);

/// A connected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectedSocket {
    /// The kernel's number for it, which eBPF programs see, too (`bpf_get_socket_cookie`).
    pub cookie: u64,
    /// Whom it talks to; IPv4 also where an IPv6 socket does by a mapped address.
    pub peer: SocketAddr,
    family: u8,
    protocol: u8,
    id: [u8; ID_BYTES],
}

impl ConnectedSocket {
    /// From a `struct inet_diag_msg`; `None` when it is cut off.
    fn read(message: &[u8], protocol: u8) -> Option<Self> {
        let id: [u8; ID_BYTES] = message.get(ID_AT..ID_AT + ID_BYTES)?.try_into().ok()?;
        let family = message[0];
        let port = u16::from_be_bytes([id[2], id[3]]);
        let words: [u8; 16] = id[20..36].try_into().ok()?;
        let ip = if i32::from(family) == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::new(words[0], words[1], words[2], words[3]))
        } else {
            Ipv6Addr::from(words).to_canonical()
        };
        let cookie = u64::from_ne_bytes(id[40..48].try_into().ok()?);
        Some(Self { cookie, peer: SocketAddr::new(ip, port), family, protocol, id })
    }
}

/// A socket of `NETLINK_SOCK_DIAG` in one namespace. Blocks; needs `CAP_NET_ADMIN` there.
#[derive(Debug)]
pub struct SockDiag {
    socket: Socket,
    sequence: u32,
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::SockDiag { what, source }
}

impl SockDiag {
    /// In `netns`, to which it stays bound.
    ///
    /// # Errors
    /// The namespace cannot be entered, or no socket is to be had.
    pub fn open_in(netns: &Netns) -> Result<Self, KernelError> {
        netns.run(Self::open)?
    }

    fn open() -> Result<Self, KernelError> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket.connect(&NetlinkAddr::new(0, 0)).map_err(failed("connect"))?;
        let limit = TimeVal::new(ANSWER_SECS_MAX, 0);
        setsockopt(&socket, ReceiveTimeout, &limit).map_err(|errno| failed("limit")(errno.into()))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The connected sockets of a protocol, IPv4's and IPv6's, for which `wanted` says so.
    ///
    /// # Errors
    /// The kernel refused; for UDP it may lack `CONFIG_INET_UDP_DIAG`.
    pub fn connected(
        &mut self,
        protocol: Protocol,
        wanted: impl Fn(&ConnectedSocket) -> bool,
    ) -> Result<Vec<ConnectedSocket>, KernelError> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.send(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family as u8, protocol.number(), &[0; ID_BYTES])?;
            self.answers("list", |message| {
                let socket = ConnectedSocket::read(message, protocol.number());
                found.extend(socket.filter(|socket| socket.peer.port() != 0 && wanted(socket)));
            })?;
        }
        Ok(found)
    }

    /// Ends a socket: who waits on it, or uses it next, gets `ECONNABORTED`, and may
    /// connect it again. Says whether it was still there.
    ///
    /// # Errors
    /// The kernel refused: it may lack `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&mut self, socket: &ConnectedSocket) -> Result<bool, KernelError> {
        self.send(SOCK_DESTROY, NLM_F_ACK, socket.family, socket.protocol, &socket.id)?;
        match self.answers("destroy", |_| ()) {
            // Closed meanwhile.
            Err(KernelError::SockDiag { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// A `struct inet_diag_req_v2` behind its header.
    fn send(&mut self, kind: u16, flags: u16, family: u8, protocol: u8, id: &[u8]) -> Result<(), KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 8 + ID_BYTES);
        bytes.extend(((HEADER_BYTES + 8 + ID_BYTES) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend([family, protocol, 0, 0]);
        bytes.extend(STATES.to_ne_bytes());
        bytes.extend(id);
        self.socket.send(&bytes, 0).map(drop).map_err(failed("ask"))
    }

    /// Hands every answer to the last question on, up to its end.
    fn answers(&mut self, what: &'static str, mut meet: impl FnMut(&[u8])) -> Result<(), KernelError> {
        loop {
            let (bytes, _) = self.socket.recv_from_full().map_err(failed("wait for the answer"))?;
            let mut rest = &bytes[..];
            while let Some((kind, sequence, body, after)) = split(rest) {
                rest = after;
                match kind {
                    _ if sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        let source = io::Error::from_raw_os_error(-code);
                        return if code == 0 { Ok(()) } else { Err(failed(what)(source)) };
                    }
                    _ => meet(body),
                }
            }
        }
    }
}

/// The first message: its type, sequence number and body, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let header = bytes.get(..HEADER_BYTES)?;
    let body = bytes.get(HEADER_BYTES..len)?;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    Some((kind, sequence, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}
