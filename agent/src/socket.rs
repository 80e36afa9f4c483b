//! Frames over a tokio Unix socket; the encoding is `orlop_wire::frame`'s.

use orlop_wire::frame::{self, FrameError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Sends one message with descriptors.
///
/// # Errors
/// See [`FrameError`].
pub(crate) async fn send<T: Serialize>(
    stream: &UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let bytes = frame::encode(message)?;
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let mut sent = 0;
    while sent < bytes.len() {
        let with: &[RawFd] = if sent == 0 { &raw } else { &[] };
        sent += stream.async_io(Interest::WRITABLE, || frame::send_some(stream.as_fd(), &bytes[sent..], with)).await?;
    }
    Ok(())
}

/// Receives one message with its descriptors.
///
/// # Errors
/// [`FrameError::Closed`] at a clean end.
pub(crate) async fn receive<T: DeserializeOwned>(stream: &UnixStream) -> Result<(T, Vec<OwnedFd>), FrameError> {
    let mut fds = Vec::new();
    let mut header = [0; 4];
    fill(stream, &mut header, &mut fds, true).await?;
    let mut body = vec![0; frame::decode_length(header)?];
    fill(stream, &mut body, &mut fds, false).await?;
    Ok((serde_json::from_slice(&body)?, fds))
}

async fn fill(stream: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, first: bool) -> Result<(), FrameError> {
    let mut filled = 0;
    while filled < bytes.len() {
        let some = stream
            .async_io(Interest::READABLE, || frame::receive_some(stream.as_fd(), &mut bytes[filled..], fds))
            .await?;
        match some {
            0 if first && filled == 0 => return Err(FrameError::Closed),
            0 => return Err(FrameError::Truncated),
            more => filled += more,
        }
    }
    Ok(())
}
