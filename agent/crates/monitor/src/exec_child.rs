//! The two stages of an exec'd process before its command runs. Every step that
//! fails writes its name and errno to the report pipe and ends the stage.

use crate::clone::clone;
use crate::exec::Plan;
use crate::executor::{execute, locate, reset_signals};
use libcontainer::oci_spec::runtime::{Capabilities, LinuxCapabilities, PosixRlimitType};
use nix::errno::Errno;
use nix::pty::openpty;
use nix::sched::setns;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, getcwd, setgroups, setresgid, setresuid, setsid, write,
};
use orlop_wire::frame;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The child's ends.
pub struct Channels {
    /// Takes the first failure; close-on-exec.
    pub report: OwnedFd,
    /// Takes stage two's process id.
    pub pids: OwnedFd,
    /// Takes the terminal's master.
    pub console: Option<OwnedFd>,
}

type Step = Result<(), String>;

fn at<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{step}: {error}")
}

/// Joins cgroups and namespaces, starts stage two as the monitor's child.
pub fn stage_one(plan: &mut Plan, channels: &Channels) -> i32 {
    finish(
        channels,
        join(plan).and_then(|()| {
            let pid =
                clone(libc::CLONE_PARENT, || finish(channels, become_process(plan, channels))).map_err(at("clone"))?;
            write(&channels.pids, &pid.as_raw().to_ne_bytes()).map(drop).map_err(at("report pid"))
        }),
    )
}

fn finish(channels: &Channels, outcome: Step) -> i32 {
    match outcome {
        Ok(()) => 0,
        Err(text) => {
            let _ = write(&channels.report, text.as_bytes());
            1
        }
    }
}

fn join(plan: &Plan) -> Step {
    for procs in &plan.cgroups {
        write(procs, b"0").map_err(at("join cgroup"))?;
    }
    if let Some(score) = plan.oom_score_adj {
        set_oom_score("/proc/self/oom_score_adj", score);
    }
    setns(&plan.init, plan.namespaces).map_err(at("join the container's namespaces"))
}

/// Sets the score, or the lowest the kernel allows without CAP_SYS_RESOURCE.
pub fn set_oom_score(path: &str, score: i32) {
    if fs::write(path, score.to_string()).is_err() && score < 0 {
        let _ = fs::write(path, "0");
    }
}

fn become_process(plan: &mut Plan, channels: &Channels) -> Step {
    setsid().map_err(at("setsid"))?;
    reset_signals();
    set_up_stdio(plan, channels)?;
    set_limits(plan)?;
    let process = &plan.process;
    if let Some(mask) = process.user().umask() {
        umask(Mode::from_bits_truncate(mask));
    }
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    if no_new_privileges {
        prctl::set_no_new_privs().map_err(at("set no_new_privs"))?;
    } else if let Some(filter) = &plan.seccomp {
        // Without no_new_privs only CAP_SYS_ADMIN may install a filter, so this comes
        // before the capabilities go.
        filter.install().map_err(at("install the seccomp filter"))?;
    }
    let early = chdir(process.cwd());
    set_user(plan)?;
    set_capabilities(process.capabilities().as_ref())?;
    if early.is_err() {
        // A folder that only the container's user may enter (NFS with root_squash).
        chdir(process.cwd()).map_err(|errno| format!("chdir to {}: {errno}", process.cwd().display()))?;
    }
    // Outside of the container's root getcwd says "(unreachable)" or fails.
    getcwd().map_err(at("working directory is outside of the container"))?;
    let path = locate(process)?;
    // SAFETY: only marks descriptors close-on-exec.
    if unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) } != 0 {
        return Err(at("close_range")(Errno::last()));
    }
    if no_new_privileges && let Some(filter) = &plan.seccomp {
        filter.install().map_err(at("install the seccomp filter"))?;
    }
    let env = process.env().as_deref().unwrap_or_default();
    Err(execute(&path, process.args().as_deref().unwrap_or_default(), env))
}

fn set_up_stdio(plan: &mut Plan, channels: &Channels) -> Step {
    let Some([stdin, stdout, stderr]) = &plan.stdio else { return set_up_terminal(channels) };
    dup2_stdin(stdin).and_then(|()| dup2_stdout(stdout)).and_then(|()| dup2_stderr(stderr)).map_err(at("dup2"))
}

/// Makes a terminal in the container's own devpts, sends its master to the monitor.
fn set_up_terminal(channels: &Channels) -> Step {
    let pty = openpty(None, None).map_err(at("open a terminal"))?;
    if let Some(console) = &channels.console {
        frame::send_some(console.as_fd(), b"/dev/ptmx", &[pty.master.as_raw_fd()]).map_err(at("send the terminal"))?;
    }
    // SAFETY: TIOCSCTTY takes no pointer.
    if unsafe { libc::ioctl(pty.slave.as_raw_fd(), libc::TIOCSCTTY, 0) } != 0 {
        return Err(at("take the terminal")(Errno::last()));
    }
    let slave = &pty.slave;
    dup2_stdin(slave).and_then(|()| dup2_stdout(slave)).and_then(|()| dup2_stderr(slave)).map_err(at("dup2"))
}

fn set_limits(plan: &Plan) -> Step {
    for limit in &plan.rlimits {
        setrlimit(resource(limit.typ()), limit.soft(), limit.hard()).map_err(at("set a resource limit"))?;
    }
    Ok(())
}

fn resource(typ: PosixRlimitType) -> Resource {
    match typ {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}

fn set_user(plan: &Plan) -> Step {
    let user = plan.process.user();
    let groups: Vec<Gid> =
        user.additional_gids().as_deref().unwrap_or_default().iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(at("setgroups"))?;
    // Keeps the permitted set over the change; the effective set is restored below.
    prctl_keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    // The bounding set can only be cut while CAP_SETPCAP is effective, which the
    // change of the user id takes away.
    drop_bounding(plan.process.capabilities().as_ref())?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    prctl_keep_capabilities(false)
}

fn prctl_keep_capabilities(keep: bool) -> Step {
    prctl::set_keepcaps(keep).map_err(at("prctl keepcaps"))
}

fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter().flatten().filter_map(|c| capability_number(&c.to_string())).fold(0, |bits, n| bits | 1 << n)
}

/// The kernel's numbers, linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn capability_number(name: &str) -> Option<u32> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    CAPABILITIES.iter().position(|known| *known == name).map(|n| n as u32)
}

fn drop_bounding(capabilities: Option<&LinuxCapabilities>) -> Step {
    let keep = mask(capabilities.and_then(|c| c.bounding().as_ref()));
    for number in 0..64_u64 {
        // SAFETY: PR_CAPBSET_READ and PR_CAPBSET_DROP take plain integers. A number
        // the kernel does not know reads as EINVAL.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
        if known == 1 && keep & 1 << number == 0 {
            // SAFETY: as above.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0 {
                return Err(at("drop a capability from the bounding set")(Errno::last()));
            }
        }
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const VERSION_3: u32 = 0x2008_0522;

fn set_capabilities(capabilities: Option<&LinuxCapabilities>) -> Step {
    let of = |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| mask(capabilities.and_then(|c| set(c).as_ref()));
    let permitted = of(LinuxCapabilities::permitted);
    let effective = of(LinuxCapabilities::effective) & permitted;
    let inheritable = of(LinuxCapabilities::inheritable);
    let word = |shift: u32| Sets {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let (header, sets) = (Header { version: VERSION_3, pid: 0 }, [word(0), word(32)]);
    // SAFETY: the header says version 3, for which the kernel reads two words.
    if unsafe { libc::syscall(libc::SYS_capset, &header, sets.as_ptr()) } != 0 {
        return Err(at("capset")(Errno::last()));
    }
    let ambient = of(LinuxCapabilities::ambient) & permitted & inheritable;
    for number in (0..64_u64).filter(|n| ambient & 1 << n != 0) {
        // SAFETY: takes plain integers.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) } != 0 {
            return Err(at("raise an ambient capability")(Errno::last()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcontainer::oci_spec::runtime::Capability;

    #[test]
    fn capability_names_have_the_kernels_numbers() {
        let check = |capability: Capability, want: u32| {
            assert_eq!(capability_number(&capability.to_string()), Some(want), "{capability}");
        };
        check(Capability::Chown, 0);
        check(Capability::NetAdmin, 12);
        check(Capability::SysAdmin, 21);
        check(Capability::Mknod, 27);
        check(Capability::Bpf, 39);
        check(Capability::CheckpointRestore, 40);
    }
}
