//! What the demonstration must not leave behind: processes, namespaces, cgroups,
//! mounts, network interfaces, pins.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The kernel takes namespaces and cgroups apart in the background.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A process that cannot be taken for another one that got its id later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    /// Ticks after boot, field 22 of `/proc/PID/stat`.
    started: u64,
}

/// What has to be gone at the end.
#[derive(Debug)]
pub struct Traces {
    cgroup: String,
    work: PathBuf,
    interfaces: BTreeSet<String>,
    pins: BTreeSet<String>,
    processes: BTreeSet<Process>,
    namespaces: BTreeSet<String>,
}

impl Traces {
    /// Remembers how the host is before anything starts.
    pub fn before(cgroup: &str, work: &Path) -> Self {
        Self {
            cgroup: cgroup.to_owned(),
            work: work.to_owned(),
            interfaces: names("/sys/class/net"),
            pins: names("/sys/fs/bpf"),
            processes: BTreeSet::new(),
            namespaces: BTreeSet::new(),
        }
    }

    /// Remembers every process of the node as it runs now, with its namespaces.
    pub fn note(&mut self) {
        let host: BTreeSet<String> = namespaces(&id().to_string());
        for process in self.ours() {
            self.namespaces.extend(namespaces(&process.pid.to_string()).difference(&host).cloned());
            self.processes.insert(process);
        }
    }

    /// Ends what the agent did not end itself, so that a failed run leaves nothing either.
    /// Gives how many processes that were.
    pub fn end_processes(&self) -> usize {
        let left = self.alive();
        for process in &left {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        wait_until(|| self.alive().is_empty());
        left.len()
    }

    /// Removes the node's (empty) cgroups in every hierarchy.
    pub fn remove_cgroups(&self) {
        wait_until(|| {
            self.cgroups().iter().for_each(|top| remove_tree(top));
            self.cgroups().is_empty()
        });
    }

    /// What is left, in words; empty when the host is as it was.
    pub fn left(&self) -> Vec<String> {
        let mut found = Vec::new();
        wait_until(|| {
            found = self.look();
            found.is_empty()
        });
        found
    }

    fn look(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.alive().iter().map(|p| format!("process {} ({})", p.pid, command_line(p.pid))).collect();
        left.extend(self.held_namespaces());
        left.extend(self.cgroups().iter().map(|path| format!("cgroup {}", path.display())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let work = self.work.to_string_lossy();
        left.extend(mounts.lines().filter(|line| line.contains(&*work)).map(|line| format!("mount {line}")));
        let new = |now: &BTreeSet<String>, then: &BTreeSet<String>, what: &str| -> Vec<String> {
            now.difference(then).filter(|name| is_ours(name)).map(|name| format!("{what} {name}")).collect()
        };
        left.extend(new(&names("/sys/class/net"), &self.interfaces, "interface"));
        left.extend(new(&names("/sys/fs/bpf"), &self.pins, "pin"));
        left.extend(self.work.exists().then(|| format!("folder {}", self.work.display())));
        left
    }

    /// Processes noted before that still run, and any that belong to the node by cgroup or command line.
    fn alive(&self) -> BTreeSet<Process> {
        let mut alive = self.ours();
        alive.extend(self.processes.iter().filter(|process| started(process.pid) == Some(process.started)));
        alive
    }

    fn ours(&self) -> BTreeSet<Process> {
        let work = self.work.to_string_lossy();
        let cgroup = format!("/{}/", self.cgroup);
        let belongs = |pid: &i32| {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            cgroups.lines().any(|line| format!("{line}/").contains(&cgroup)) || command_line(*pid).contains(&*work)
        };
        let own = i32::try_from(id()).unwrap_or(0);
        let pids = names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok());
        pids.filter(|pid| *pid != own)
            .filter(belongs)
            .filter_map(|pid| Some(Process { pid, started: started(pid)? }))
            .collect()
    }

    /// Namespaces of the node that a process or a mount still holds.
    fn held_namespaces(&self) -> Vec<String> {
        let mut held = BTreeSet::new();
        for pid in names("/proc").into_iter().filter(|name| name.parse::<i32>().is_ok()) {
            for namespace in namespaces(&pid).intersection(&self.namespaces) {
                held.insert(format!(
                    "namespace {namespace} of process {pid} ({})",
                    command_line(pid.parse().unwrap_or(0))
                ));
            }
        }
        held.into_iter().collect()
    }

    /// The node's cgroup in every hierarchy that has it.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let folders: BTreeSet<PathBuf> = mounts
            .lines()
            .filter(|line| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("cgroup")))
            .filter_map(|line| line.split(' ').nth(4))
            .map(|mount| Path::new(mount).join(&self.cgroup))
            .filter(|path| path.is_dir())
            .collect();
        folders.into_iter().collect()
    }
}

/// Other work on the same host makes interfaces and pins, too; ours have these names
/// (`orl…` is the node's side of a pod's veth).
fn is_ours(name: &str) -> bool {
    name.starts_with("orl") || name == "lan0"
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SETTLE;
    while !done() && Instant::now() < end {
        sleep(LOOK_AGAIN);
    }
}

fn names(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// `net:[4026531840]` and its likes of a process.
fn namespaces(pid: &str) -> BTreeSet<String> {
    let links = ["net", "mnt", "ipc", "uts", "pid"].iter().map(|kind| format!("/proc/{pid}/ns/{kind}"));
    links.filter_map(|link| Some(fs::read_link(link).ok()?.to_string_lossy().into_owned())).collect()
}

fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    // A zombie holds nothing; its parent has yet to look.
    if fields.trim_start().starts_with('Z') {
        return None;
    }
    fields.split_whitespace().nth(19)?.parse().ok()
}

fn remove_tree(folder: &Path) {
    for name in names(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            remove_tree(&path);
        }
    }
    let _ = fs::remove_dir(folder);
}
