//! The process that holds a shared PID namespace: number 1 in it, reaps orphans,
//! ends with the monitor.

use crate::clone::clone;
use crate::error::Error;
use crate::executor::reset_signals;
use crate::sandbox::pin_namespace;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::wait;
use nix::unistd::Pid;
use std::path::Path;

/// Starts it and pins its namespace at `DIR/ns/pid`.
///
/// # Errors
/// `clone3` or the pin failed.
pub fn start(dir: &Path) -> Result<Pid, Error> {
    let pid = clone(libc::CLONE_NEWPID, hold).map_err(Error::call("clone a PID namespace"))?;
    pin_namespace(Path::new(&format!("/proc/{pid}/ns/pid")), &dir.join("ns/pid"))?;
    Ok(pid)
}

fn hold() -> i32 {
    let _ = prctl::set_name(c"orlop-hold");
    // The containers of the namespace must not outlive the monitor that reaps them.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    // SAFETY: every descriptor is a copy of the monitor's that nothing here uses.
    unsafe { libc::close_range(0, u32::MAX, 0) };
    reset_signals();
    // Blocked before the first wait, so that no child's end falls between a wait
    // that finds nobody and the sleep.
    let mut child_ended = SigSet::empty();
    child_ended.add(Signal::SIGCHLD);
    let _ = child_ended.thread_block();
    loop {
        if wait().is_err() {
            let _ = child_ended.wait();
        }
    }
}
