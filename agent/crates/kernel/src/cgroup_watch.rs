//! Learning that a cgroup has become empty, without looking at it again and again.

use crate::KernelError;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `cgroup.events`: the kernel signals POLLPRI when `populated` changes.
#[derive(Debug)]
pub struct PopulatedWatch {
    file: AsyncFd<File>,
    path: PathBuf,
}

impl PopulatedWatch {
    pub(crate) fn open(cgroup: &Path) -> Result<Self, KernelError> {
        let path = cgroup.join("cgroup.events");
        let failed = |source| KernelError::Open { path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        // SAFETY: the AsyncFd owns the file, which keeps its descriptor until it is dropped.
        let file = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
        let file = file.map_err(|error| failed(error.into()))?;
        Ok(Self { file, path })
    }

    /// Whether the cgroup or one below has processes now. A cgroup that was removed has none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn populated(&self) -> Result<bool, KernelError> {
        let mut buffer = [0u8; 256];
        match self.file.get_ref().read_at(&mut buffer, 0) {
            Ok(length) => Ok(String::from_utf8_lossy(&buffer[..length]).contains("populated 1")),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(source) => Err(KernelError::Read { path: self.path.clone(), source }),
        }
    }

    /// Waits until no process is left. Cancel-safe.
    ///
    /// # Errors
    /// The file cannot be read or watched.
    pub async fn wait_empty(&self) -> Result<(), KernelError> {
        // Reading arms the next POLLPRI, so the order is read, then wait.
        while self.populated()? {
            let ready = self.file.ready(Interest::PRIORITY).await;
            ready.map_err(|source| KernelError::Read { path: self.path.clone(), source })?.clear_ready();
        }
        Ok(())
    }
}
