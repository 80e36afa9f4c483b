//! Writes below `/proc/sys/net`, which shows the opening thread's network namespace.

use crate::{KernelError, Netns, file};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// One value to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Below `/proc/sys`, with slashes: interface names may hold dots.
    key: String,
    value: String,
    optional: bool,
}

impl Sysctl {
    /// A value by its key with slashes, for example `net/ipv4/ip_forward`.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), optional: false }
    }

    /// `net/ipv4/conf/DEV/KEY`.
    #[must_use]
    pub fn ipv4(dev: &str, key: &str, value: u32) -> Self {
        Self::new(format!("net/ipv4/conf/{dev}/{key}"), value.to_string())
    }

    /// `net/ipv6/conf/DEV/KEY`; nothing happens on a kernel booted without IPv6.
    #[must_use]
    pub fn ipv6(dev: &str, key: &str, value: u32) -> Self {
        Self::new(format!("net/ipv6/conf/{dev}/{key}"), value.to_string()).optional()
    }

    /// A key that this kernel does not have is skipped.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    fn write(&self) -> Result<(), KernelError> {
        match file::write(&path_of(&self.key), &self.value) {
            Err(KernelError::Open { source, .. }) if self.optional && source.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

fn path_of(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// Writes all values inside the namespace, in order, until one fails.
///
/// # Errors
/// Names the file and the value.
pub fn write_sysctls(netns: &Netns, values: &[Sysctl]) -> Result<(), KernelError> {
    netns.run(|| values.iter().try_for_each(Sysctl::write))?
}

/// Reads one value inside the namespace, trimmed.
///
/// # Errors
/// Names the file.
pub fn read_sysctl(netns: &Netns, key: &str) -> Result<String, KernelError> {
    netns.run(|| file::read(&path_of(key)).map(|text| text.trim().to_owned()))?
}
