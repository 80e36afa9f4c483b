//! One agent's connection: frames in, frames out, never waiting.

use crate::error::Error;
use orlop_wire::frame::{self, decode_length};
use orlop_wire::{FromMonitor, ToMonitor};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Unsent bytes after which a peer that does not read is given up: it asks for a
/// snapshot when it comes back, and loses nothing.
const UNSENT_BYTES_MAX: usize = 8 << 20;

/// A connected peer.
pub struct Connection {
    /// Unique in this monitor's life.
    pub number: u64,
    /// Gets events.
    pub subscribed: bool,
    socket: UnixStream,
    header: [u8; 4],
    body: Vec<u8>,
    filled: usize,
    fds: Vec<OwnedFd>,
    out: VecDeque<Outgoing>,
    unsent: usize,
}

struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Takes an accepted socket.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn new(socket: UnixStream, number: u64) -> Result<Self, Error> {
        socket.set_nonblocking(true).map_err(Error::call("fcntl"))?;
        Ok(Self {
            number,
            subscribed: false,
            socket,
            header: [0; 4],
            body: Vec::new(),
            filled: 0,
            fds: Vec::new(),
            out: VecDeque::new(),
            unsent: 0,
        })
    }

    /// For poll.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Whether poll should look for room to write.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// The next whole request with its descriptors; `None` when there is none yet.
    ///
    /// # Errors
    /// The peer has gone or speaks something else; the connection is to be dropped.
    pub fn receive(&mut self) -> Result<Option<(ToMonitor, Vec<OwnedFd>)>, frame::FrameError> {
        loop {
            // Exactly one frame's bytes are asked for at a time, so that descriptors
            // cannot be taken for those of the frame before.
            let in_header = self.filled < self.header.len();
            let target = match in_header {
                true => &mut self.header[self.filled..],
                false => &mut self.body[self.filled - 4..],
            };
            if target.is_empty() {
                let message = serde_json::from_slice(&self.body)?;
                (self.filled, self.body) = (0, Vec::new());
                return Ok(Some((message, std::mem::take(&mut self.fds))));
            }
            match frame::receive_some(self.socket.as_fd(), target, &mut self.fds) {
                Ok(0) if self.filled == 0 => return Err(frame::FrameError::Closed),
                Ok(0) => return Err(frame::FrameError::Truncated),
                Ok(more) => self.filled += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            if in_header && self.filled == self.header.len() {
                self.body = vec![0; decode_length(self.header)?];
            }
        }
    }

    /// Queues a message and sends what goes out at once.
    ///
    /// # Errors
    /// The peer has gone or does not read; the connection is to be dropped.
    pub fn send(&mut self, message: &FromMonitor, fds: Vec<OwnedFd>) -> Result<(), frame::FrameError> {
        let bytes = frame::encode(message)?;
        self.unsent += bytes.len();
        if self.unsent > UNSENT_BYTES_MAX {
            return Err(frame::FrameError::TooLong(self.unsent as u64));
        }
        self.out.push_back(Outgoing { bytes, sent: 0, fds });
        self.flush()
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn flush(&mut self) -> Result<(), frame::FrameError> {
        while let Some(next) = self.out.front_mut() {
            let raw: Vec<RawFd> = next.fds.iter().map(AsRawFd::as_raw_fd).collect();
            match frame::send_some(self.socket.as_fd(), &next.bytes[next.sent..], &raw) {
                Ok(more) => {
                    next.fds.clear();
                    next.sent += more;
                    self.unsent -= more;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if next.sent == next.bytes.len() {
                self.out.pop_front();
            }
        }
        Ok(())
    }
}
