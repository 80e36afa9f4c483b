//! How much of memory, disk and process ids is left.

use crate::KernelError;
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::{fs, io};

/// What is left of something, and how much there is in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Left.
    pub available: u64,
    /// In all.
    pub capacity: u64,
}

/// A file system's level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsLevel {
    /// Bytes, without those that only root may use.
    pub bytes: Level,
    /// Inodes; both 0 where the file system makes them as it needs them.
    pub inodes: Level,
    /// Device number of the file system: two paths with the same one share it.
    pub device: u64,
}

impl Level {
    /// Bytes of memory. Available is the kubelet's: everything but the working set, that is
    /// what is free and the file cache that was not used lately.
    ///
    /// # Errors
    /// `/proc/meminfo` cannot be read or is not understood.
    pub fn of_memory() -> Result<Self, KernelError> {
        let text = fs::read_to_string("/proc/meminfo").map_err(|source| fact("memory", source))?;
        memory(&text).ok_or_else(|| fact("memory", io::Error::other("no MemTotal, MemFree or Inactive(file)")))
    }

    /// Process ids: tasks that could still be made, of those that the kernel allows.
    ///
    /// # Errors
    /// A file of `/proc` cannot be read or is not understood.
    pub fn of_pids() -> Result<Self, KernelError> {
        let read = |path| fs::read_to_string(path).map_err(|source| fact("process ids", source));
        let number = |text: String| text.trim().parse::<u64>().ok();
        let limits = (number(read("/proc/sys/kernel/pid_max")?), number(read("/proc/sys/kernel/threads-max")?));
        let running = running_tasks(&read("/proc/loadavg")?);
        match (limits, running) {
            ((Some(pids), Some(threads)), Some(running)) => {
                let capacity = pids.min(threads);
                Ok(Self { available: capacity.saturating_sub(running), capacity })
            }
            _ => Err(fact("process ids", io::Error::other("a file of /proc does not hold a number"))),
        }
    }
}

impl FsLevel {
    /// The file system that a path is on.
    ///
    /// # Errors
    /// The path does not exist.
    pub fn of(path: &Path) -> Result<Self, KernelError> {
        let failed = |source| KernelError::Read { path: path.to_owned(), source };
        let stat = statvfs(path).map_err(|errno| failed(errno.into()))?;
        let device = fs::metadata(path).map(|meta| std::os::unix::fs::MetadataExt::dev(&meta)).map_err(failed)?;
        let block = stat.fragment_size();
        Ok(Self {
            bytes: Level { available: stat.blocks_available() * block, capacity: stat.blocks() * block },
            inodes: Level { available: stat.files_available(), capacity: stat.files() },
            device,
        })
    }
}

fn fact(fact: &'static str, source: io::Error) -> KernelError {
    KernelError::Fact { fact, source }
}

fn memory(meminfo: &str) -> Option<Level> {
    let field = |name| meminfo_bytes(meminfo, name);
    let capacity = field("MemTotal:")?;
    let available = field("MemFree:")?.saturating_add(field("Inactive(file):")?);
    Some(Level { available: available.min(capacity), capacity })
}

/// `MemTotal:  8000 kB` in bytes.
pub(crate) fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `0.10 0.20 0.30 2/345 6789`: 345 tasks. sysinfo(2) would cut the number to 16 bits.
fn running_tasks(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let meminfo = "MemTotal:  100 kB\nMemFree:  10 kB\nInactive(anon): 7 kB\nInactive(file):  5 kB\n";
        assert_eq!(memory(meminfo), Some(Level { available: 15 << 10, capacity: 100 << 10 }));
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
        assert_eq!(running_tasks("0.10 0.20 0.30 2/70000 6789\n"), Some(70_000));
        assert_eq!(running_tasks("0.10\n"), None);
    }
}
