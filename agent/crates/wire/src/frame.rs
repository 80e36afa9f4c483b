//! Frames: a length, JSON, and perhaps file descriptors.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Largest frame either side takes, in bytes of JSON.
pub const FRAME_BYTES_MAX: u32 = 16 << 20;
/// Most descriptors in one frame (an exec's stdin, stdout and stderr).
pub const FRAME_FDS_MAX: usize = 3;

/// What can go wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the socket between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed it inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// A length over [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(u64),
    /// The socket failed.
    #[error("socket")]
    Io(#[from] io::Error),
    /// The content is not the expected message.
    #[error("message")]
    Json(#[from] serde_json::Error),
}

/// Encodes a message with its length in front.
///
/// # Errors
/// [`FrameError::TooLong`] and [`FrameError::Json`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() as u64 - 4;
    let short = u32::try_from(length).ok().filter(|&l| l <= FRAME_BYTES_MAX).ok_or(FrameError::TooLong(length))?;
    bytes[..4].copy_from_slice(&short.to_le_bytes());
    Ok(bytes)
}

/// Reads a length.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn decode_length(header: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(u64::from(length)));
    }
    Ok(length as usize)
}

/// One `sendmsg(2)`: bytes and, with the first of them, descriptors. Returns how
/// many bytes went out; the descriptors have gone with any that did.
///
/// # Errors
/// The errno of `sendmsg`, `WouldBlock` included.
pub fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            done => return done.map_err(io::Error::from),
        }
    }
}

/// One `recvmsg(2)`: fills `bytes` from the front and appends descriptors, all
/// close-on-exec. Returns 0 at the end of the stream.
///
/// # Errors
/// The errno of `recvmsg`, `WouldBlock` included.
pub fn receive_some(socket: BorrowedFd<'_>, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = cmsg_space!([RawFd; FRAME_FDS_MAX]);
    loop {
        let mut parts = [IoSliceMut::new(bytes)];
        let message =
            match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(io::Error::from)?,
            };
        for part in message.cmsgs().map_err(io::Error::from)? {
            if let ControlMessageOwned::ScmRights(received) = part {
                // SAFETY: the kernel has just given us these descriptors; nobody else knows them.
                fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        return Ok(message.bytes);
    }
}

/// Sends one message on a blocking socket.
///
/// # Errors
/// See [`FrameError`].
pub fn send<S: AsFd, T: Serialize>(socket: &S, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
    let bytes = encode(message)?;
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let mut sent = send_some(socket.as_fd(), &bytes, &raw)?;
    while sent < bytes.len() {
        sent += send_some(socket.as_fd(), &bytes[sent..], &[])?;
    }
    Ok(())
}

/// Receives one message from a blocking socket.
///
/// # Errors
/// [`FrameError::Closed`] at a clean end; else see [`FrameError`].
pub fn receive<S: AsFd, T: DeserializeOwned>(socket: &S) -> Result<(T, Vec<OwnedFd>), FrameError> {
    let mut fds = Vec::new();
    let mut header = [0; 4];
    fill(socket.as_fd(), &mut header, &mut fds, true)?;
    let mut body = vec![0; decode_length(header)?];
    fill(socket.as_fd(), &mut body, &mut fds, false)?;
    Ok((serde_json::from_slice(&body)?, fds))
}

fn fill(socket: BorrowedFd<'_>, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, first: bool) -> Result<(), FrameError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match receive_some(socket, &mut bytes[filled..], fds)? {
            0 if first && filled == 0 => return Err(FrameError::Closed),
            0 => return Err(FrameError::Truncated),
            more => filled += more,
        }
    }
    Ok(())
}

/// Writes one message without descriptors to any byte stream.
///
/// # Errors
/// See [`FrameError`].
pub fn write<W: Write, T: Serialize>(stream: &mut W, message: &T) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?)?;
    Ok(())
}

/// Reads one message without descriptors from any byte stream.
///
/// # Errors
/// See [`FrameError`].
pub fn read<R: Read, T: DeserializeOwned>(stream: &mut R) -> Result<T, FrameError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Closed,
        _ => FrameError::Io(error),
    })?;
    let mut body = vec![0; decode_length(header)?];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_travel_with_their_frame() {
        let (a, b) = UnixStream::pair().unwrap();
        let (pipe_read, pipe_write) = nix::unistd::pipe().unwrap();
        send(&a, &"one", &[pipe_write.as_fd()]).unwrap();
        send(&a, &"two", &[]).unwrap();
        drop((a, pipe_write));
        let (text, fds): (String, _) = receive(&b).unwrap();
        assert_eq!((text.as_str(), fds.len()), ("one", 1));
        std::fs::File::from(fds.into_iter().next().unwrap()).write_all(b"x").unwrap();
        let (text, fds): (String, _) = receive(&b).unwrap();
        assert_eq!((text.as_str(), fds.len()), ("two", 0));
        assert!(matches!(receive::<_, String>(&b), Err(FrameError::Closed)));
        let mut got = Vec::new();
        std::fs::File::from(pipe_read).read_to_end(&mut got).unwrap();
        assert_eq!(got, b"x");
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_allocated() {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(receive::<_, String>(&b), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn half_a_frame_is_truncated_not_closed() {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(&[9, 0, 0, 0, b'"']).unwrap();
        drop(a);
        assert!(matches!(receive::<_, String>(&b), Err(FrameError::Truncated)));
    }
}
