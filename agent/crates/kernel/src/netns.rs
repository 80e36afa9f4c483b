//! Network namespaces: identity, pinning, and work inside one.

use crate::KernelError;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use orlop_model::NetnsId;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// `NS_GET_NSTYPE`, `_IO(0xb7, 0x3)` of linux/nsfs.h.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// An open network namespace. Keeps the namespace alive; cheap to clone.
#[derive(Debug, Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    id: NetnsId,
}

impl Netns {
    /// Opens the namespace that `path` (a pin or `/proc/PID/ns/net`) leads to.
    ///
    /// # Errors
    /// The path cannot be opened, or is not a network namespace (for example a pin
    /// whose bind mount is gone, which leaves an empty file).
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let file = File::open(path).map_err(|source| KernelError::Open { path: path.to_owned(), source })?;
        Self::check(file.into(), || path.display().to_string())
    }

    /// Takes an open descriptor of a namespace.
    ///
    /// # Errors
    /// It is not a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, KernelError> {
        let number = fd.as_raw_fd();
        Self::check(fd, || format!("descriptor {number}"))
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Self, KernelError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// The process is gone.
    pub fn of_process(pid: i32) -> Result<Self, KernelError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    fn check(fd: OwnedFd, name: impl Fn() -> String) -> Result<Self, KernelError> {
        // SAFETY: the descriptor is open and NS_GET_NSTYPE takes no argument; on anything but nsfs it is ENOTTY.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(KernelError::NotNetns { path: name() });
        }
        let file = File::from(fd);
        let meta = file.metadata().map_err(|source| KernelError::Read { path: name().into(), source })?;
        Ok(Self { id: NetnsId { dev: meta.dev(), ino: meta.ino() }, fd: Arc::new(file.into()) })
    }

    /// Makes a new namespace; nothing pins it but the value returned. Its loopback is down.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn create() -> Result<Self, KernelError> {
        let made = thread::Builder::new().name("netns-new".into()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|source| KernelError::MakeNetns { source: source.into() })?;
            Self::current()
        });
        let thread = made.map_err(|source| KernelError::Thread { ino: 0, source })?;
        thread.join().unwrap_or_else(|_| Err(KernelError::MakeNetns { source: io::Error::other("thread panicked") }))
    }

    /// Makes a new namespace and pins it at `path`.
    ///
    /// # Errors
    /// As [`Netns::create`] and [`Netns::pin`].
    pub fn create_pinned(path: &Path) -> Result<Self, KernelError> {
        let netns = Self::create()?;
        netns.pin(path)?;
        Ok(netns)
    }

    /// Bind-mounts the namespace on the file `path`, which is made.
    ///
    /// # Errors
    /// The file or the mount cannot be made; the file is then removed again.
    pub fn pin(&self, path: &Path) -> Result<(), KernelError> {
        File::create(path).map_err(|source| KernelError::Open { path: path.to_owned(), source })?;
        let source = format!("/proc/thread-self/fd/{}", self.fd.as_raw_fd());
        let none: Option<&str> = None;
        mount(Some(source.as_str()), path, none, MsFlags::MS_BIND, none).map_err(|errno| {
            // The mount's failure is what the caller must hear of; the empty file is only litter.
            let _ = fs::remove_file(path);
            KernelError::Mount {
                what: format!("network namespace {}", self.id.ino),
                target: path.to_owned(),
                log: String::new(),
                source: errno.into(),
            }
        })
    }

    /// Device and inode.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Runs `work` inside the namespace: inline when the calling thread is in it
    /// already, else on a scoped thread that ends with it, so that no thread of a
    /// runtime's pool is ever left in a foreign namespace. Blocks. Sockets made
    /// inside stay bound to the namespace and may be returned.
    ///
    /// # Errors
    /// The thread cannot be started or may not enter.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, KernelError> {
        if Self::current()?.id == self.id {
            return Ok(work());
        }
        thread::scope(|scope| {
            let inside = || {
                setns(self.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| KernelError::EnterNetns { ino: self.id.ino, source: errno.into() })?;
                Ok(work())
            };
            let thread = thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, inside)
                .map_err(|source| KernelError::Thread { ino: self.id.ino, source })?;
            match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Removes a pin: unmounts and deletes the file. A pin that is gone is fine.
///
/// # Errors
/// The file cannot be unmounted or removed.
pub fn unpin(path: &Path) -> Result<(), KernelError> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: not a mount point, as after a crash between creating and mounting.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(errno) => return Err(KernelError::Unmount { target: path.to_owned(), source: errno.into() }),
    }
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
