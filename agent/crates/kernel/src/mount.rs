//! Mounts: overlay, bind, tmpfs, and taking them down again.

use crate::{KernelError, mounts_below};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

// linux/mount.h; not all of them are in libc.
const FSOPEN_CLOEXEC: u32 = 1;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSMOUNT_CLOEXEC: u32 = 1;
const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const MOUNT_ATTR_RDONLY: u64 = 1;
/// mount(2) takes one page of options.
const MOUNT_DATA_BYTES_MAX: usize = 4095;

/// An overlay to mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Read-only layers, the topmost first. At most 500 (`OVL_MAX_STACK`).
    pub lower: Vec<PathBuf>,
    /// Writable layer and its work folder, on one file system that is not an
    /// overlay itself; without it the mount is read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
}

/// How mounts made later travel between this mount and its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host in.
    Slave,
    /// Both ways.
    Shared,
}

impl Propagation {
    const fn flag(self) -> MsFlags {
        match self {
            Self::Private => MsFlags::MS_PRIVATE,
            Self::Slave => MsFlags::MS_SLAVE,
            Self::Shared => MsFlags::MS_SHARED,
        }
    }
}

/// A bind mount to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// What appears at the target.
    pub source: PathBuf,
    /// With the mounts below it.
    pub recursive: bool,
    /// Read-only, below it too when recursive.
    pub read_only: bool,
    /// Of the new mount.
    pub propagation: Propagation,
}

/// What [`unmount`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nothing was mounted there.
    NotMounted,
    /// Unmounted.
    Clean,
    /// Busy: detached, and gone for good when the last user lets go of it.
    Lazy,
}

/// What [`detach_below`] did.
#[derive(Debug, Default)]
pub struct DetachReport {
    /// Unmounted.
    pub clean: Vec<PathBuf>,
    /// Busy and only detached.
    pub lazy: Vec<PathBuf>,
    /// Still there.
    pub errors: Vec<KernelError>,
}

/// Linux' `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = checked(result)?;
    // SAFETY: the kernel has just given us this descriptor and nobody else owns it; descriptors fit in 32 bits.
    #[allow(clippy::cast_possible_truncation)]
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn fs_config(context: &OwnedFd, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the descriptor is open; key and value are null or NUL-terminated and outlive the call.
    checked(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0) })
        .map(drop)
}

fn move_mount(from: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: the descriptor is open, both strings are NUL-terminated and outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// What the file system wrote about its refusal: one message a read. overlayfs has words
/// here for its options only.
fn context_log(context: &OwnedFd) -> String {
    const MESSAGES_MAX: usize = 8;
    let mut said = Vec::new();
    for _ in 0..MESSAGES_MAX {
        let mut buffer = [0u8; 512];
        match nix::unistd::read(context, &mut buffer) {
            Ok(length) if length > 0 => said.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned()),
            _ => break,
        }
    }
    if said.is_empty() { "overlayfs gives its reason in the kernel log: see dmesg".to_owned() } else { said.join("; ") }
}

/// Mounts an overlay at `target` with one `lowerdir+` a layer (Linux 6.8), which
/// lifts mount(2)'s limit of one page of options; older kernels get mount(2).
///
/// # Errors
/// Names the number of layers and gives the file system's own words.
pub fn mount_overlay(overlay: &Overlay, target: &Path) -> Result<(), KernelError> {
    let failed = |log: String, source| KernelError::Mount {
        what: format!("overlay of {} layers", overlay.lower.len()),
        target: target.to_owned(),
        log,
        source,
    };
    // SAFETY: the name is NUL-terminated.
    let opened = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) });
    let context = match opened {
        Ok(context) => context,
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return mount_overlay_classic(overlay, target),
        Err(error) => return Err(failed(String::new(), error)),
    };
    for (number, layer) in overlay.lower.iter().enumerate() {
        let set =
            c_path(layer).and_then(|layer| fs_config(&context, FSCONFIG_SET_STRING, Some(c"lowerdir+"), Some(&layer)));
        match set {
            Ok(()) => {}
            Err(error) if number == 0 && error.raw_os_error() == Some(libc::EINVAL) && layer.is_dir() => {
                return mount_overlay_classic(overlay, target);
            }
            Err(error) => return Err(failed(format!("layer {}: {}", layer.display(), context_log(&context)), error)),
        }
    }
    overlay_finish(&context, overlay, target).or_else(|error| match error.raw_os_error() {
        // Before Linux 6.5 overlay takes any text here and refuses it only when the mount is made.
        Some(libc::EINVAL) => mount_overlay_classic(overlay, target).map_err(|classic| match &classic {
            KernelError::Mount { log, .. } if !log.is_empty() => classic,
            _ => failed(context_log(&context), error),
        }),
        _ => Err(failed(context_log(&context), error)),
    })
}

fn overlay_finish(context: &OwnedFd, overlay: &Overlay, target: &Path) -> io::Result<()> {
    if let Some((upper, work)) = &overlay.upper {
        fs_config(context, FSCONFIG_SET_STRING, Some(c"upperdir"), Some(&c_path(upper)?))?;
        fs_config(context, FSCONFIG_SET_STRING, Some(c"workdir"), Some(&c_path(work)?))?;
    }
    fs_config(context, FSCONFIG_SET_STRING, Some(c"source"), Some(c"overlay"))?;
    fs_config(context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: the descriptor is open; the call takes integers and gives a descriptor.
    let made = owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })?;
    move_mount(&made, target)
}

fn mount_overlay_classic(overlay: &Overlay, target: &Path) -> Result<(), KernelError> {
    let data = overlay_options(overlay);
    let failed = |log: String, source| KernelError::Mount {
        what: format!("overlay of {} layers", overlay.lower.len()),
        target: target.to_owned(),
        log,
        source,
    };
    if data.len() > MOUNT_DATA_BYTES_MAX {
        let log = format!("options of {} bytes, at most {MOUNT_DATA_BYTES_MAX} before Linux 6.8", data.len());
        return Err(failed(log, io::Error::from_raw_os_error(libc::E2BIG)));
    }
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(data.as_slice())).map_err(|errno| {
        // mount(2) has no words for which of them it is.
        let missing = overlay.lower.iter().find(|layer| !layer.is_dir());
        failed(missing.map(|layer| format!("layer {} is no folder", layer.display())).unwrap_or_default(), errno.into())
    })
}

/// `lowerdir=A:B,upperdir=U,workdir=W`; `\`, `:` and `,` in paths are escaped by a backslash.
fn overlay_options(overlay: &Overlay) -> Vec<u8> {
    fn push(data: &mut Vec<u8>, path: &Path) {
        for &byte in path.as_os_str().as_bytes() {
            if matches!(byte, b'\\' | b':' | b',') {
                data.push(b'\\');
            }
            data.push(byte);
        }
    }
    let mut data = b"lowerdir=".to_vec();
    for (number, layer) in overlay.lower.iter().enumerate() {
        if number > 0 {
            data.push(b':');
        }
        push(&mut data, layer);
    }
    if let Some((upper, work)) = &overlay.upper {
        data.extend_from_slice(b",upperdir=");
        push(&mut data, upper);
        data.extend_from_slice(b",workdir=");
        push(&mut data, work);
    }
    data
}

/// Makes a bind mount. Its attributes are set before it appears, so that it is never
/// seen writable for a moment.
///
/// # Errors
/// Names source and target.
pub fn mount_bind(bind: &Bind, target: &Path) -> Result<(), KernelError> {
    try_bind(bind, target).map_err(|source| KernelError::Mount {
        what: format!("bind of {}", bind.source.display()),
        target: target.to_owned(),
        log: String::new(),
        source,
    })
}

#[allow(clippy::cast_sign_loss)] // AT_* are small positive numbers
fn try_bind(bind: &Bind, target: &Path) -> io::Result<()> {
    let recursive = if bind.recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let source = c_path(&bind.source)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | recursive;
    // SAFETY: the path is NUL-terminated and outlives the call.
    let tree = owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) })?;
    let attr = MountAttr {
        set: if bind.read_only { MOUNT_ATTR_RDONLY } else { 0 },
        clear: 0,
        propagation: bind.propagation.flag().bits(),
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH as u32 | recursive;
    let size = size_of::<MountAttr>();
    // SAFETY: the descriptor is open, the attributes have the layout and size the kernel is told.
    checked(unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size)
    })?;
    move_mount(&tree, target)
}

/// Mounts a tmpfs of at most `size_bytes` (`None`: half of the memory) with `mode`, nosuid and nodev.
///
/// # Errors
/// Names the target.
pub fn mount_tmpfs(target: &Path, size_bytes: Option<u64>, mode: u32) -> Result<(), KernelError> {
    let size = size_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let data = format!("mode={mode:o}{size}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(data.as_str())).map_err(|errno| KernelError::Mount {
        what: "tmpfs".to_owned(),
        target: target.to_owned(),
        log: String::new(),
        source: errno.into(),
    })
}

/// Makes the mount at `target` private: nothing mounted below it travels elsewhere.
///
/// # Errors
/// `target` is not a mount point.
pub fn make_private(target: &Path, recursive: bool) -> Result<(), KernelError> {
    let none: Option<&str> = None;
    let below = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    mount(none, target, none, MsFlags::MS_PRIVATE | below, none).map_err(|errno| KernelError::Mount {
        what: "private".to_owned(),
        target: target.to_owned(),
        log: String::new(),
        source: errno.into(),
    })
}

/// Unmounts; lazily when it is busy, which the answer says.
///
/// # Errors
/// Neither way works.
pub fn unmount(target: &Path) -> Result<Unmounted, KernelError> {
    let failed = |errno: nix::Error| KernelError::Unmount { target: target.to_owned(), source: errno.into() };
    match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(Unmounted::Clean),
        Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(Unmounted::NotMounted),
        Err(nix::Error::EBUSY) => {
            umount2(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH).map(|()| Unmounted::Lazy).map_err(failed)
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// Unmounts everything at or below `path`, the newest first; goes on after an error.
///
/// # Errors
/// Only when the mounts cannot be listed.
pub fn detach_below(path: &Path) -> Result<DetachReport, KernelError> {
    let mut report = DetachReport::default();
    for mounted in mounts_below(path)?.into_iter().rev() {
        match unmount(&mounted.target) {
            Ok(Unmounted::Clean) => report.clean.push(mounted.target),
            Ok(Unmounted::Lazy) => report.lazy.push(mounted.target),
            Ok(Unmounted::NotMounted) => {} // went with one above it
            Err(error) => report.errors.push(error),
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_options_escape_separators() {
        let overlay = Overlay { lower: vec!["/a:b".into(), "/c\\".into()], upper: Some(("/u,1".into(), "/w".into())) };
        let options = String::from_utf8(overlay_options(&overlay)).unwrap();
        assert_eq!(options, "lowerdir=/a\\:b:/c\\\\,upperdir=/u\\,1,workdir=/w");
    }
}
