//! Runs this program from a read-only mount of its own file.
//!
//! Until a container's command is executed, `/proc/PID/exe` of its process is this
//! program, and a hostile image can have it opened for writing by naming
//! `/proc/self/exe` as its command (CVE-2019-5736). Through a read-only mount that
//! belongs to no namespace even root cannot. The file's pages stay shared.

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::env;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// Says to the second run that it is the second.
const MARK: &str = "ORLOP_MONITOR_SEALED";

/// Executes itself again, once. Returns when this is the second run already, or
/// when the kernel is too old or refuses: the monitor then works as well, without
/// this defence.
pub fn reexec_sealed() {
    if env::var_os(MARK).is_some() || is_read_only() {
        return;
    }
    let _ = execute(&match read_only_self() {
        Ok(program) => program,
        Err(_) => return,
    });
}

fn is_read_only() -> bool {
    // Not by opening it: while it runs that is ETXTBSY, wherever it is mounted.
    statvfs("/proc/self/exe").is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
}

/// linux/mount.h: `struct mount_attr` of version 0.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn read_only_self() -> Result<OwnedFd, Errno> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let path = c"/proc/self/exe";
    // SAFETY: reads a static path.
    let fd = match unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) } {
        -1 => return Err(Errno::last()),
        // SAFETY: the kernel has just made this descriptor for us.
        fd => unsafe { OwnedFd::from_raw_fd(fd as i32) },
    };
    let attributes = Attributes { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns: 0 };
    let size = size_of::<Attributes>();
    // SAFETY: an empty path names the descriptor itself; the attributes have the size given.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, &attributes, size)
    };
    if done == 0 { Ok(fd) } else { Err(Errno::last()) }
}

fn execute(program: &OwnedFd) -> Result<(), Errno> {
    let args: Vec<CString> = env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect();
    let mark = CString::new(format!("{MARK}=1")).map_err(|_| Errno::EINVAL)?;
    nix::unistd::fexecve(program, &args, &[mark]).map(|never| match never {})
}
