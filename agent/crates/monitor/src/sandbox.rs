//! The pod's namespaces: made or joined again, set up, pinned by bind mount, and
//! taken down.

use crate::error::Error;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::sethostname;
use orlop_model::NetnsId;
use orlop_wire::SandboxConfig;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS: FsType = FsType(0x6e73_6673);
/// What containerd sets so that a container may ping and listen below 1024 without
/// capabilities (`enable_unprivileged_icmp`, `enable_unprivileged_ports`).
const NET_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ping_group_range", "0 2147483647"), ("net.ipv4.ip_unprivileged_port_start", "0")];

/// Moves this process out of the agent's cgroup. Missing files are errors: a
/// monitor in the agent's cgroup would be killed with it.
///
/// # Errors
/// A file cannot be written.
pub fn leave_agents_cgroup(config: &SandboxConfig) -> Result<(), Error> {
    config.own_cgroup_procs.iter().try_for_each(|path| fs::write(path, "0").map_err(Error::file("join cgroup", path)))
}

/// Puts this process into the pod's namespaces. Those still pinned by an earlier
/// monitor are joined again, so that the pod keeps its network.
///
/// # Errors
/// Names the namespace, sysctl or pin that failed.
pub fn enter(config: &SandboxConfig) -> Result<NetnsId, Error> {
    let pins = config.dir.join("ns");
    fs::create_dir_all(&pins).map_err(Error::file("create", &pins))?;
    let kinds = [
        ("net", CloneFlags::CLONE_NEWNET, config.host_network),
        ("uts", CloneFlags::CLONE_NEWUTS, config.host_network),
        ("ipc", CloneFlags::CLONE_NEWIPC, config.host_ipc),
    ];
    for (name, flag, host) in kinds {
        if host {
            continue;
        }
        let pin = pins.join(name);
        if is_pinned(&pin) {
            let fd = open(&pin, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| Error::file("open", &pin)(errno.into()))?;
            setns(fd, flag).map_err(|errno| Error::file("join namespace", &pin)(errno.into()))?;
            continue;
        }
        unshare(flag).map_err(Error::call("unshare a namespace"))?;
        match flag {
            CloneFlags::CLONE_NEWNET => set_up_network()?,
            CloneFlags::CLONE_NEWUTS => sethostname(&config.hostname).map_err(Error::call("sethostname"))?,
            _ => {}
        }
        pin_namespace(Path::new("/proc/self/ns").join(name).as_path(), &pin)?;
    }
    for (name, value) in &config.sysctls {
        write_sysctl(name, value)?;
    }
    let netns = fs::metadata("/proc/self/ns/net").map_err(Error::file("stat", "/proc/self/ns/net"))?;
    Ok(NetnsId { dev: netns.dev(), ino: netns.ino() })
}

fn set_up_network() -> Result<(), Error> {
    bring_up_loopback().map_err(Error::call("bring up lo"))?;
    for (name, value) in NET_SYSCTLS {
        // Refused in a user namespace with fewer groups mapped; then the kernel's
        // own default stands, which is the stricter one.
        let _ = write_sysctl(name, value);
    }
    Ok(())
}

fn bring_up_loopback() -> io::Result<()> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    match unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn write_sysctl(name: &str, value: &str) -> Result<(), Error> {
    if name.split(['.', '/']).any(|part| part.is_empty()) {
        return Err(Error::Request(format!("sysctl {name:?} is not a name")));
    }
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(&path, value).map_err(Error::file("write sysctl", &path))
}

fn is_pinned(pin: &Path) -> bool {
    statfs(pin).is_ok_and(|fs| fs.filesystem_type() == NSFS)
}

/// Bind-mounts a namespace file so that it lives without a process.
///
/// # Errors
/// The mount point cannot be made or mounted on.
pub fn pin_namespace(namespace: &Path, pin: &Path) -> Result<(), Error> {
    if is_pinned(pin) {
        umount2(pin, MntFlags::MNT_DETACH).map_err(|errno| Error::file("unmount", pin)(errno.into()))?;
    }
    fs::write(pin, "").map_err(Error::file("create", pin))?;
    mount(Some(namespace), pin, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| Error::file("pin namespace", pin)(errno.into()))
}

/// Undoes every pin; goes on after an error and returns the first.
///
/// # Errors
/// A pin could not be unmounted or removed.
pub fn unpin(dir: &Path) -> Result<(), Error> {
    let pins = dir.join("ns");
    let mut outcome = Ok(());
    for pin in ["net", "uts", "ipc", "pid"].map(|name| pins.join(name)) {
        if is_pinned(&pin)
            && let Err(errno) = umount2(&pin, MntFlags::MNT_DETACH)
        {
            outcome = outcome.and(Err(Error::file("unmount", &pin)(errno.into())));
        }
        remove_file(&pin, &mut outcome);
    }
    if let Err(error) = fs::remove_dir(&pins)
        && error.kind() != io::ErrorKind::NotFound
    {
        outcome = outcome.and(Err(Error::file("remove", &pins)(error)));
    }
    outcome
}

fn remove_file(path: &PathBuf, outcome: &mut Result<(), Error>) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
        && outcome.is_ok()
    {
        *outcome = Err(Error::file("remove", path)(error));
    }
}
