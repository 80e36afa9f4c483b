//! `clone3(2)` with the memory semantics of `fork`, for this single-threaded
//! process: the one thing that libc has no wrapper for.

use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid};

/// Starts `child` as a copy of this process with these clone flags; it ends with
/// the value that `child` returns.
///
/// # Errors
/// The errno of `clone3`.
pub fn clone(flags: libc::c_int, child: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    // With CLONE_PARENT the exit signal is the caller's own and must not be given.
    let exit_signal = if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u64;
    args.exit_signal = exit_signal;
    // SAFETY: without CLONE_VM the child has its own copy of everything, and no
    // other thread exists that could hold a lock at this moment.
    match unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) } {
        -1 => Err(Errno::last()),
        0 => {
            let code = child();
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// `fork(2)` through the C library, whose allocator then works in the child even if
/// this process has threads (as in tests); ends with the value `child` returns.
///
/// # Errors
/// The errno of `fork`.
pub fn fork(child: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    // SAFETY: the child calls nothing that needs another thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = child();
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
    }
}
