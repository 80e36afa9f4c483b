//! Which capabilities a container gets.

use crate::error::Error;
use oci_spec::runtime::{Capabilities, Capability};
use orlop_model::ContainerSecurity;
use std::fs;

/// In the order of linux/capability.h, which gives each its number.
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// What a container gets without being asked, as with containerd and Docker.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The capabilities that this node's agent has itself, as the kernel's bits: more it
/// cannot give away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCapabilities(pub u64);

impl HostCapabilities {
    /// `CapBnd` of this process, which the monitors inherit.
    ///
    /// # Errors
    /// `/proc/self/status` cannot be read.
    pub fn read() -> Result<Self, Error> {
        let path = "/proc/self/status";
        let status = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let hex = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap_or_default();
        u64::from_str_radix(hex.trim(), 16).map(Self).map_err(|_| Error::Config(format!("{path} has no CapBnd")))
    }

    fn all(self) -> Capabilities {
        BY_NUMBER.iter().enumerate().filter(|(n, _)| self.0 & 1 << n != 0).map(|(_, c)| *c).collect()
    }
}

/// The container's set: privileged has all there are; else the default, where
/// `ALL` in `drop` or `add` comes before single names, `add` before `drop`.
///
/// # Errors
/// A name that is no capability.
pub fn capabilities_for(security: &ContainerSecurity, host: HostCapabilities) -> Result<Capabilities, Error> {
    if security.privileged {
        return Ok(host.all());
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set: Capabilities = DEFAULT.into_iter().collect();
    if security.capabilities_add.iter().any(is_all) {
        set = host.all();
    }
    if security.capabilities_drop.iter().any(is_all) {
        set.clear();
    }
    for name in security.capabilities_add.iter().filter(|name| !is_all(name)) {
        set.insert(parse(name)?);
    }
    for name in security.capabilities_drop.iter().filter(|name| !is_all(name)) {
        set.remove(&parse(name)?);
    }
    Ok(set)
}

fn parse(name: &str) -> Result<Capability, Error> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    bare.parse().map_err(|_| Error::Config(format!("unknown capability {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_and_drop() {
        let check = |add: &[&str], drop: &[&str], want: &[Capability]| {
            let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let mut security = crate::spec_tests::security();
            (security.capabilities_add, security.capabilities_drop) = (owned(add), owned(drop));
            let got = capabilities_for(&security, HostCapabilities(u64::MAX)).unwrap();
            assert_eq!(got, want.iter().copied().collect(), "+{add:?} -{drop:?}");
        };
        check(&[], &[], &DEFAULT);
        check(&[], &["ALL"], &[]);
        check(&["NET_ADMIN"], &["ALL"], &[Capability::NetAdmin]);
        check(&["cap_net_admin"], &["all"], &[Capability::NetAdmin]);
        check(&["ALL"], &[], &BY_NUMBER);
        check(&["KILL"], &["ALL", "KILL"], &[]);
        let without: Vec<_> = DEFAULT.into_iter().filter(|c| *c != Capability::NetRaw).collect();
        check(&[], &["NET_RAW"], &without);
    }

    #[test]
    fn privileged_gets_what_the_node_has() {
        let mut security = crate::spec_tests::security();
        security.privileged = true;
        let got = capabilities_for(&security, HostCapabilities(0b11)).unwrap();
        assert_eq!(got, [Capability::Chown, Capability::DacOverride].into_iter().collect());
    }

    #[test]
    fn an_unknown_name_is_named() {
        let mut security = crate::spec_tests::security();
        security.capabilities_add = vec!["FLY".into()];
        let error = capabilities_for(&security, HostCapabilities(0)).unwrap_err();
        assert_eq!(error.to_string(), "unknown capability \"FLY\"");
    }
}
