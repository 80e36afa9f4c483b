//! The processes that execs have started and that still run.

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use orlop_wire::{Exit, FromMonitor};
use std::time::{Duration, Instant};

/// A process run by `Request::Exec`.
struct Process {
    pid: Pid,
    exec_id: u64,
    connection: u64,
    deadline: Option<Instant>,
    timed_out: bool,
}

/// All of them.
#[derive(Default)]
pub struct Processes(Vec<Process>);

impl Processes {
    /// Takes one on, for the connection that asked for it.
    pub fn add(&mut self, pid: Pid, exec_id: u64, connection: u64, timeout: Option<Duration>) {
        let deadline = timeout.map(|t| Instant::now() + t);
        self.0.push(Process { pid, exec_id, connection, deadline, timed_out: false });
    }

    /// The earliest moment at which one is to be killed.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|p| p.deadline).min()
    }

    /// Kills those whose time is up.
    pub fn kill_late(&mut self) {
        let now = Instant::now();
        for late in self.0.iter_mut().filter(|p| p.deadline.is_some_and(|d| d <= now)) {
            (late.deadline, late.timed_out) = (None, true);
            // It leads its own session and group; it is not yet reaped, so the number
            // is still its own.
            let _ = killpg(late.pid, Signal::SIGKILL);
            let _ = kill(late.pid, Signal::SIGKILL);
        }
    }

    /// If the reaped process is one of them: the connection to tell, and what.
    pub fn ended(&mut self, pid: Pid, code: i32, signal: Option<i32>) -> Option<(u64, FromMonitor)> {
        let at = self.0.iter().position(|p| p.pid == pid)?;
        let Process { exec_id, connection, timed_out, .. } = self.0.remove(at);
        let at = Timestamp::now();
        let exit = Exit { code, signal, oom_killed: false, timed_out, at, message: String::new() };
        Some((connection, FromMonitor::ExecExited { exec_id, exit }))
    }
}
