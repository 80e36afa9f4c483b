//! What the node says about its machine.

use crate::KernelError;
use crate::level::meminfo_bytes;
use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// Facts of `status.nodeInfo` and `status.capacity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// CPUs that are online.
    pub cpus: u32,
    /// Bytes of memory the kernel manages (`MemTotal`).
    pub memory_bytes: u64,
    /// Bytes of swap (`SwapTotal`); 0 without any.
    pub swap_bytes: u64,
    /// Bytes set aside as huge pages, by page size in bytes: each size that the kernel has,
    /// also with 0.
    pub hugepages: BTreeMap<u64, u64>,
    /// As `uname -r`.
    pub kernel_version: String,
    /// New at each boot.
    pub boot_id: String,
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
    /// DMI product UUID, or the machine id where the firmware has none.
    pub system_uuid: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// In Kubernetes' words: `amd64`, `arm64`, …
    pub architecture: String,
}

impl NodeFacts {
    /// Reads them all.
    ///
    /// # Errors
    /// `/proc` is not mounted or not understood.
    pub fn read() -> Result<Self, KernelError> {
        let failed = |fact: &'static str| move |source: io::Error| KernelError::Fact { fact, source };
        let text = |fact, path| fs::read_to_string(path).map(|t| t.trim().to_owned()).map_err(failed(fact));
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN).map_err(|errno| failed("cpu count")(errno.into()))?;
        let meminfo = text("memory", "/proc/meminfo")?;
        let memory_bytes = meminfo_bytes(&meminfo, "MemTotal:")
            .ok_or_else(|| failed("memory")(io::Error::other("no MemTotal in /proc/meminfo")))?;
        let machine_id = text("machine id", "/etc/machine-id")
            .or_else(|_| text("machine id", "/var/lib/dbus/machine-id"))
            .unwrap_or_default();
        Ok(Self {
            cpus: cpus.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            memory_bytes,
            swap_bytes: meminfo_bytes(&meminfo, "SwapTotal:").unwrap_or(0),
            hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")).map_err(failed("huge pages"))?,
            kernel_version: text("kernel version", "/proc/sys/kernel/osrelease")?,
            boot_id: text("boot id", "/proc/sys/kernel/random/boot_id")?,
            system_uuid: text("system uuid", "/sys/class/dmi/id/product_uuid").unwrap_or_else(|_| machine_id.clone()),
            machine_id,
            os_image: text("os image", "/etc/os-release").map(|t| pretty_name(&t)).unwrap_or_default(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
        })
    }
}

/// Folders `hugepages-2048kB` with `nr_hugepages` in each. A kernel without huge pages has
/// no such folder.
fn hugepages(folder: &Path) -> io::Result<BTreeMap<u64, u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut sizes = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let kib =
            name.to_str().and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok());
        let Some(page) = kib.and_then(|kib| kib.checked_mul(1024)) else { continue };
        let count = fs::read_to_string(entry.path().join("nr_hugepages"))?;
        let count: u64 = count.trim().parse().map_err(io::Error::other)?;
        sizes.insert(page, page.saturating_mul(count));
    }
    Ok(sizes)
}

fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        assert_eq!(meminfo_bytes("MemTotal:        8000 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(8_192_000));
        assert_eq!(meminfo_bytes("MemFree: 1 kB\n", "MemTotal:"), None);
        assert_eq!(pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }

    #[test]
    fn huge_pages_by_size() {
        let dir = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "0\n")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        let want = BTreeMap::from([(2 << 20, 6 << 20), (1 << 30, 0)]);
        assert_eq!(hugepages(dir.path()).unwrap(), want);
        assert_eq!(hugepages(&dir.path().join("none")).unwrap(), BTreeMap::new());
    }

    #[test]
    fn reads_this_machine() {
        let facts = NodeFacts::read().unwrap();
        assert!(facts.cpus >= 1 && facts.memory_bytes > 1 << 20, "{facts:?}");
        assert!(!facts.boot_id.is_empty() && !facts.kernel_version.is_empty(), "{facts:?}");
    }
}
