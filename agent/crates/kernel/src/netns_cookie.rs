//! The number that the kernel gives a network namespace for its lifetime.

use crate::{KernelError, Netns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd;

impl Netns {
    /// The namespace's cookie (`SO_NETNS_COOKIE`, Linux 5.14): never given to a second
    /// one until the machine starts again. eBPF programs on sockets see it.
    ///
    /// # Errors
    /// The namespace cannot be entered, or no socket is to be had in it.
    pub fn cookie(&self) -> Result<u64, KernelError> {
        let failed = |source| KernelError::NetnsCookie { ino: self.id().ino, source };
        let socket = self.run(|| {
            socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
                .map_err(|errno| failed(errno.into()))
        })??;
        let mut cookie = 0_u64;
        let mut len = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `cookie`.
        let done = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                std::ptr::from_mut(&mut cookie).cast(),
                &raw mut len,
            )
        };
        if done == 0 { Ok(cookie) } else { Err(failed(std::io::Error::last_os_error())) }
    }
}
