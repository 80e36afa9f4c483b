//! What the node says about its machine.

use crate::KernelError;
use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};
use std::{fs, io};

/// Facts of `status.nodeInfo` and `status.capacity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// CPUs that are online.
    pub cpus: u32,
    /// Bytes of memory the kernel manages (`MemTotal`).
    pub memory_bytes: u64,
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
        let memory_bytes = memory_total(&text("memory", "/proc/meminfo")?)
            .ok_or_else(|| failed("memory")(io::Error::other("no MemTotal in /proc/meminfo")))?;
        let machine_id = text("machine id", "/etc/machine-id").unwrap_or_default();
        Ok(Self {
            cpus: cpus.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            memory_bytes,
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

/// `MemTotal:  8000 kB` in bytes.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
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
        assert_eq!(memory_total("MemTotal:        8000 kB\nMemFree: 1 kB\n"), Some(8_192_000));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        assert_eq!(pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }

    #[test]
    fn reads_this_machine() {
        let facts = NodeFacts::read().unwrap();
        assert!(facts.cpus >= 1 && facts.memory_bytes > 1 << 20, "{facts:?}");
        assert!(!facts.boot_id.is_empty() && !facts.kernel_version.is_empty(), "{facts:?}");
    }
}
