//! One rtnetlink socket in one namespace, and batches of requests over it.

use crate::{KernelError, Netns};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;

/// The kernel answers inside `sendmsg`; an answer that is not there by then is lost.
const ANSWER_SECS_MAX: i64 = 10;
/// A dump that changes raced with is asked for again at most so often.
const DUMP_TRIES_MAX: u32 = 8;
/// Requests in one datagram of [`Netlink::apply_each`]: their acks wait in the socket's receive buffer, which
/// holds some 250 of them by default (`net.core.rmem_default`).
const ANSWERS_MAX: usize = 64;

/// What was answered beside the acks, and how each request ended.
type Exchanged = (Vec<RouteNetlinkMessage>, Vec<Result<(), KernelError>>);

/// One change or question. Made by the constructors beside [`crate::Link`], [`crate::Route`] and so on.
#[derive(Debug, Clone)]
pub struct Request {
    /// In words, for the error.
    pub(crate) what: String,
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
    /// Errnos that mean "it is already so".
    pub(crate) fine: &'static [i32],
}

impl Request {
    pub(crate) fn create(what: String, message: RouteNetlinkMessage) -> Self {
        Self { what, message, flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, fine: &[] }
    }
    pub(crate) fn put(what: String, message: RouteNetlinkMessage) -> Self {
        Self { what, message, flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, fine: &[] }
    }
    pub(crate) fn change(what: String, message: RouteNetlinkMessage) -> Self {
        Self { what, message, flags: NLM_F_REQUEST | NLM_F_ACK, fine: &[] }
    }
    pub(crate) fn delete(what: String, message: RouteNetlinkMessage) -> Self {
        Self { fine: &[libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EADDRNOTAVAIL], ..Self::change(what, message) }
    }
}

/// An rtnetlink socket. Blocks; see the crate's introduction.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

fn socket_error(what: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::NetlinkSocket { what, source }
}

impl Netlink {
    /// A socket in the calling thread's namespace, to which it stays bound.
    ///
    /// # Errors
    /// No socket is to be had.
    pub fn open() -> Result<Self, KernelError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(socket_error("open"))?;
        socket.bind_auto().map_err(socket_error("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(socket_error("connect"))?;
        // Answers to failed requests then do not carry the request back.
        socket.set_cap_ack(true).map_err(socket_error("set NETLINK_CAP_ACK"))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(ANSWER_SECS_MAX, 0))
            .map_err(|errno| KernelError::NetlinkSocket { what: "set receive timeout", source: errno.into() })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// A socket in `netns`.
    ///
    /// # Errors
    /// The namespace cannot be entered, or as [`Netlink::open`].
    pub fn open_in(netns: &Netns) -> Result<Self, KernelError> {
        netns.run(Self::open)?
    }

    /// Sends all requests in one datagram. The kernel carries out each in turn,
    /// also after one has failed.
    ///
    /// # Errors
    /// The first refusal, in words.
    pub fn apply(&mut self, requests: Vec<Request>) -> Result<(), KernelError> {
        self.exchange(requests).map(drop)
    }

    /// Sends all requests, in as many datagrams as their answers allow, and says of each whether it was
    /// carried out, in their order. One that fails holds up no other.
    ///
    /// # Errors
    /// The socket's; a request's own refusal is in the list.
    pub fn apply_each(&mut self, requests: Vec<Request>) -> Result<Vec<Result<(), KernelError>>, KernelError> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut rest = requests.into_iter();
        loop {
            let part: Vec<Request> = rest.by_ref().take(ANSWERS_MAX).collect();
            if part.is_empty() {
                return Ok(outcomes);
            }
            outcomes.extend(self.exchange_each(part)?.1);
        }
    }

    /// As [`Netlink::apply`], and returns what the kernel answered beside its acks.
    pub(crate) fn exchange(&mut self, requests: Vec<Request>) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        let (answers, outcomes) = self.exchange_each(requests)?;
        outcomes.into_iter().collect::<Result<(), KernelError>>().map(|()| answers)
    }

    /// One datagram: what was answered beside the acks, and how each request ended.
    fn exchange_each(&mut self, requests: Vec<Request>) -> Result<Exchanged, KernelError> {
        if requests.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(requests.len() * 128);
        let mut asked = Vec::with_capacity(requests.len());
        for request in requests {
            self.emit(&mut bytes, request.message, request.flags);
            asked.push((request.what, request.fine));
        }
        self.socket.send(&bytes, 0).map_err(socket_error("send"))?;

        let (mut answers, mut open) = (Vec::new(), asked.len());
        let mut outcomes: Vec<Result<(), KernelError>> = asked.iter().map(|_| Ok(())).collect();
        while open > 0 {
            for message in self.receive(&asked[0].0)? {
                let nth = message.header.sequence_number.wrapping_sub(first) as usize;
                let Some((what, fine)) = asked.get(nth) else {
                    continue; // a late answer to a request that was given up
                };
                match message.payload {
                    NetlinkPayload::Error(error) => {
                        open -= 1;
                        let code = -error.raw_code();
                        if code != 0 && !fine.contains(&code) {
                            let source = io::Error::from_raw_os_error(code);
                            outcomes[nth] = Err(KernelError::Netlink { request: what.clone(), source });
                        }
                    }
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
        Ok((answers, outcomes))
    }

    /// Asks for a whole table.
    pub(crate) fn dump(
        &mut self,
        what: &str,
        ask: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        for _ in 0..DUMP_TRIES_MAX {
            if let Some(found) = self.dump_once(what, ask)? {
                return Ok(found);
            }
        }
        let problem = format!("changed while it was read, {DUMP_TRIES_MAX} times in a row");
        Err(KernelError::NetlinkAnswer { request: what.to_owned(), problem })
    }

    /// `None` when the table changed meanwhile.
    fn dump_once(
        &mut self,
        what: &str,
        ask: &RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, KernelError> {
        let mut bytes = Vec::new();
        self.emit(&mut bytes, ask.clone(), NLM_F_REQUEST | NLM_F_DUMP);
        self.socket.send(&bytes, 0).map_err(socket_error("send"))?;
        let (mut found, mut torn) = (Vec::new(), false);
        loop {
            for message in self.receive(what)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                torn |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok((!torn).then_some(found)),
                    NetlinkPayload::Error(error) => {
                        let source = io::Error::from_raw_os_error(-error.raw_code());
                        return Err(KernelError::Netlink { request: what.to_owned(), source });
                    }
                    NetlinkPayload::InnerMessage(item) => found.push(item),
                    _ => {}
                }
            }
        }
    }

    fn emit(&mut self, bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = bytes.len();
        // Messages in one datagram start at multiples of 4 (NLMSG_ALIGN).
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    fn receive(&mut self, what: &str) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, KernelError> {
        let (bytes, _) = self.socket.recv_from_full().map_err(socket_error("receive"))?;
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while rest.len() >= 16 {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(|problem| {
                KernelError::NetlinkAnswer { request: what.to_owned(), problem: problem.to_string() }
            })?;
            let length = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
            messages.push(message);
            rest = &rest[length..];
        }
        Ok(messages)
    }
}
