//! Sockets whose backend is dead.
//!
//! A connected UDP socket never learns that its backend is gone: it would send into
//! the void until its program gives up. It is ended, so that its next call fails with
//! `ECONNABORTED` and a new connect finds a living backend. A socket that was connected to the pod's
//! own address knew what it did and is left alone.

use orlop_ebpf_abi::{SocketService, SocketState};
use orlop_kernel::{ConnectedSocket, Netns, SockDiag};
use orlop_lb::{addr_ip, port_number};
use orlop_model::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::{Datapath, Error};

/// The backend that a socket was sent to, when it was one of these.
fn sent_to(socket: &SocketService, dead: &BTreeSet<SocketAddr>, protocol: Protocol) -> Option<SocketAddr> {
    let backend = SocketAddr::new(addr_ip(socket.backend_addr), port_number(socket.backend_port));
    let translated = socket.state != SocketState::NONE && socket.proto == protocol.number();
    (translated && dead.contains(&backend)).then_some(backend)
}

impl Datapath {
    /// Ends the sockets in `namespaces` that were translated to a dead backend and are
    /// connected to it, and says how many they were. Without such sockets it is one look
    /// into a table. Unconnected UDP sockets need no end: their next datagram goes to another backend.
    ///
    /// # Errors
    /// [`Error::Destroy`] with every namespace that failed; the sockets of the others are ended.
    pub fn destroy_sockets(
        &self,
        protocol: Protocol,
        dead: &[SocketAddr],
        namespaces: &[Netns],
    ) -> Result<usize, Error> {
        if dead.is_empty() {
            return Ok(0);
        }
        let dead: BTreeSet<SocketAddr> = dead.iter().copied().collect();
        let sent = |(cookie, socket)| Some((cookie, sent_to(&socket, &dead, protocol)?));
        let ours: BTreeMap<u64, SocketAddr> = self.sockets.entries()?.into_iter().filter_map(sent).collect();
        if ours.is_empty() {
            return Ok(0);
        }
        let is_ours = |socket: &ConnectedSocket| ours.get(&socket.cookie) == Some(&socket.peer);
        let destroy_in = |netns: &Netns| {
            let mut diag = SockDiag::open_in(netns)?;
            let found = diag.connected(protocol, is_ours)?;
            let mut ended = 0;
            for socket in &found {
                ended += usize::from(diag.destroy(socket)?);
            }
            Ok(ended)
        };
        let (mut ended, mut errors) = (0, Vec::new());
        for netns in namespaces {
            match destroy_in(netns) {
                Ok(some) => ended += some,
                Err(err) => errors.push(err),
            }
        }
        if errors.is_empty() { Ok(ended) } else { Err(Error::Destroy { errors }) }
    }
}
