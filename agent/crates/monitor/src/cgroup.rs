//! The container's cgroups: one a hierarchy on v1, one on v2. libcontainer makes
//! them; here they are listed, killed, asked for OOM kills and removed.

use crate::error::Error;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where every system mounts its cgroups; libcontainer looks nowhere else.
const CGROUP_MOUNT: &str = "/sys/fs/cgroup";
/// How long a killed process may take to leave its cgroup.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
/// Folders below a container's cgroup that are looked into.
const DEPTH_MAX: u32 = 8;

/// A container's cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// One folder on pure v2, else one for each v1 hierarchy.
    pub folders: Vec<PathBuf>,
    /// The one with the memory controller.
    pub memory: Option<PathBuf>,
}

impl Cgroup {
    /// Where libcontainer puts a container whose spec has this `cgroupsPath`.
    ///
    /// # Errors
    /// `/proc/self/mounts` or the cgroup mount cannot be read.
    pub fn of_spec(path: &Path) -> Result<Self, Error> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let fs = statfs(CGROUP_MOUNT).map_err(Error::call("statfs of the cgroup mount"))?;
        if fs.filesystem_type() == CGROUP2_SUPER_MAGIC {
            let folder = Path::new(CGROUP_MOUNT).join(relative);
            return Ok(Self { memory: Some(folder.clone()), folders: vec![folder] });
        }
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(Error::file("read", "/proc/self/mounts"))?;
        let mut cgroup = Self::default();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(mount), Some("cgroup"), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if options.split(',').any(|o| o.starts_with("name=")) {
                continue;
            }
            let folder = Path::new(mount).join(relative);
            if options.split(',').any(|o| o == "memory") {
                cgroup.memory = Some(folder.clone());
            }
            cgroup.folders.push(folder);
        }
        Ok(cgroup)
    }

    /// The only folder, on pure v2, once it exists.
    pub fn unified(&self) -> Option<&Path> {
        match &self.folders[..] {
            // A file that only v2 has: a v1 host may have a single hierarchy, too.
            [only] if only.join("cgroup.controllers").exists() => Some(only),
            _ => None,
        }
    }

    /// `cgroup.procs` of every folder that exists.
    pub fn procs_files(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|f| f.join("cgroup.procs")).filter(|f| f.exists())
    }

    /// Processes in it and below, as this process's PID namespace numbers them.
    pub fn members(&self) -> Vec<Pid> {
        // Every v1 hierarchy has the same processes: the first that exists will do.
        let mut pids = Vec::new();
        if let Some(folder) = self.folders.iter().find(|f| f.exists()) {
            collect(folder, DEPTH_MAX, &mut pids);
        }
        pids
    }

    /// Signals every process. A SIGKILL on v2 is one write that no fork escapes.
    pub fn signal(&self, signal: Signal) {
        if signal == Signal::SIGKILL
            && let Some(only) = self.unified()
            && fs::write(only.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for pid in self.members() {
            // Gone already is as good as signalled.
            let _ = kill(pid, signal);
        }
    }

    /// Kills until nothing is left, for at most five seconds.
    ///
    /// # Errors
    /// Processes that would not die (uninterruptible sleep).
    pub fn kill_all(&self) -> Result<(), Error> {
        let until = Instant::now() + EMPTY_WITHIN;
        loop {
            let left = self.members();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Error::Request(format!("processes {left:?} do not die")));
            }
            self.signal(Signal::SIGKILL);
            // A zombie whose parent is this process stays listed on v1 until it is
            // reaped; the caller reaps between its own attempts.
            if left.iter().all(|pid| is_zombie(*pid)) {
                return Ok(());
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// How many processes of it the OOM killer has ended; 0 when unknown.
    pub fn oom_kills(&self) -> u64 {
        let Some(folder) = &self.memory else { return 0 };
        // v2 has memory.events, v1 memory.oom_control; both have an `oom_kill N` line.
        ["memory.events", "memory.oom_control"]
            .iter()
            .filter_map(|name| fs::read_to_string(folder.join(name)).ok())
            .find_map(|text| oom_kill_count(&text))
            .unwrap_or(0)
    }

    /// Kills what is in it and removes the folders, deepest first.
    ///
    /// # Errors
    /// The first folder that could not be removed; the others are tried all the same.
    pub fn remove(&self) -> Result<(), Error> {
        let mut outcome = self.kill_all();
        for folder in &self.folders {
            let until = Instant::now() + EMPTY_WITHIN;
            while let Err(error) = remove_tree(folder, DEPTH_MAX) {
                // A dying process holds its cgroup for a moment after it is reaped.
                if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() > until {
                    outcome = outcome.and(Err(Error::file("remove", folder)(error)));
                    break;
                }
                sleep(Duration::from_millis(1));
            }
        }
        outcome
    }
}

fn oom_kill_count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse().ok())
}

fn collect(folder: &Path, depth: u32, into: &mut Vec<Pid>) {
    if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
        into.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|&n| n > 0).map(Pid::from_raw));
    }
    if depth > 0 {
        for child in subfolders(folder) {
            collect(&child, depth - 1, into);
        }
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(folder: &Path, depth: u32) -> io::Result<()> {
    if depth > 0 {
        for child in subfolders(folder) {
            remove_tree(&child, depth - 1)?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn is_zombie(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which is in parentheses and may hold any byte.
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kill_lines_of_both_versions() {
        let check = |text: &str, want: Option<u64>| assert_eq!(oom_kill_count(text), want, "{text:?}");
        check("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n", Some(2));
        check("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", Some(7));
        check("oom_kill_disable 0\nunder_oom 0\n", None);
    }
}
