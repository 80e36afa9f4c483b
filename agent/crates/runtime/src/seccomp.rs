//! The `RuntimeDefault` seccomp filter and `Localhost` profiles.
//!
//! The policy is containerd's: what is not listed fails with EPERM; calls that need
//! a capability are allowed to those who have it in their bounding set; `clone` may
//! make no namespaces without CAP_SYS_ADMIN, and `clone3`, whose flags a filter
//! cannot see, fails with ENOSYS so that the C library falls back to `clone`.

use crate::error::Error;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use std::fs;
use std::path::{Component, Path};

/// A profile file is a few kilobytes; more is a mistake.
const PROFILE_BYTES_MAX: u64 = 1 << 20;
/// `CLONE_NEW*` of linux/sched.h: NS, CGROUP, UTS, IPC, USER, PID, NET.
const CLONE_NAMESPACES: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;
/// asm-generic/errno.h.
const ENOSYS: u32 = 38;
/// `AF_VSOCK` of linux/socket.h: it would reach the hypervisor past every policy.
const AF_VSOCK: u64 = 40;

/// Calls everybody may make, by what they are for. Names that an architecture does
/// not have are skipped when the filter is built.
const FILES: &str = "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 \
    faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat \
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs \
    fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat ioctl lchown \
    lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat \
    lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv \
    preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename \
    renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statmount \
    listmount statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs tee truncate truncate64 umask \
    unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev cachestat";
const EVENTS: &str = "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll \
    ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4 timerfd_create timerfd_gettime \
    timerfd_gettime64 timerfd_settime timerfd_settime64";
const MEMORY: &str = "brk get_mempolicy madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock \
    mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free \
    pkey_mprotect process_madvise process_mrelease remap_file_pages";
const PROCESSES: &str = "capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu \
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid \
    getpriority getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 \
    ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self pause pidfd_open \
    pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid \
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 \
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sigaltstack \
    sigprocmask sigreturn tgkill tkill ugetrlimit uname sysinfo vfork wait4 waitid waitpid";
const LOCKS_AND_CLOCKS: &str = "alarm clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getitimer getrandom \
    gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
    timer_settime timer_settime64 times";
const TALKING: &str = "accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr \
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl \
    msgget msgrcv msgsnd recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop \
    semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall \
    socketpair";

/// What a capability allows in addition.
const WITH_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::Bpf, "bpf"),
    (Capability::DacReadSearch, "open_by_handle_at"),
    (Capability::Perfmon, "perf_event_open"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysNice, "mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::Syslog, "syslog"),
];

/// Calls of one architecture.
fn of_architecture(arch: &str) -> (&'static [Arch], &'static str) {
    match arch {
        "x86_64" => (&[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32], "arch_prctl modify_ldt uretprobe"),
        "aarch64" => (
            &[Arch::ScmpArchAarch64, Arch::ScmpArchArm],
            "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls",
        ),
        "riscv64" => (&[Arch::ScmpArchRiscv64], "riscv_flush_icache riscv_hwprobe"),
        "s390x" => {
            (&[Arch::ScmpArchS390x, Arch::ScmpArchS390], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr")
        }
        _ => (&[Arch::ScmpArchNative], ""),
    }
}

/// The default filter for a container with this bounding set on this architecture
/// (a `std::env::consts::ARCH`).
///
/// # Errors
/// Never with the tables above; the builder's error otherwise.
pub fn runtime_default(bounding: &Capabilities, arch: &str) -> Result<LinuxSeccomp, Error> {
    let (arches, own_calls) = of_architecture(arch);
    let mut rules = vec![allow(&names(&[FILES, EVENTS, MEMORY, PROCESSES, LOCKS_AND_CLOCKS, TALKING, own_calls]))?];
    // Linux, Linux with 32-bit addresses, both with the uname26 flag, and a query.
    for value in [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(allow_if("personality", arg(0, LinuxSeccompOperator::ScmpCmpEq, value, None)?)?);
    }
    rules.push(allow_if("socket", arg(0, LinuxSeccompOperator::ScmpCmpNe, AF_VSOCK, None)?)?);
    for (capability, calls) in WITH_CAPABILITY {
        if bounding.contains(&capability) {
            rules.push(allow(&names(&[calls]))?);
        }
    }
    if !bounding.contains(&Capability::SysAdmin) {
        // The first argument is the stack on s390.
        let flags = usize::from(arch == "s390x");
        let none = arg(flags, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0))?;
        rules.push(allow_if("clone", none)?);
        let clone3 = LinuxSyscallBuilder::default()
            .names(["clone3".to_owned()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .errno_ret(ENOSYS);
        rules.push(clone3.build().map_err(spec_error)?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .architectures(arches)
        .syscalls(rules)
        .build()
        .map_err(spec_error)
}

/// Reads a `Localhost` profile, `profile` below `folder`.
///
/// # Errors
/// A path that leaves the folder, an unreadable file, or JSON that is no profile.
pub fn localhost(folder: &Path, profile: &Path) -> Result<LinuxSeccomp, Error> {
    if profile.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(Error::Config(format!("seccomp profile {} must stay in its folder", profile.display())));
    }
    let path = folder.join(profile);
    let size = fs::metadata(&path).map_err(Error::file("read seccomp profile", &path))?.len();
    if size > PROFILE_BYTES_MAX {
        return Err(Error::Config(format!("seccomp profile {} has {size} bytes", path.display())));
    }
    let bytes = fs::read(&path).map_err(Error::file("read seccomp profile", &path))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| Error::Config(format!("seccomp profile {}: {source}", path.display())))
}

/// Turns an OCI profile into what libcontainer 0.7 must be given to mean the same:
/// in a masked comparison it takes `valueTwo` for the mask and `value` for the
/// result, where the OCI spec and runc have them the other way round. Unturned,
/// the rule on `clone` would hold for every call. [`crate::build_spec`] does this.
///
/// # Errors
/// Never; the builder's error otherwise.
pub fn for_libcontainer(mut profile: LinuxSeccomp) -> Result<LinuxSeccomp, Error> {
    let turn = |old: &LinuxSeccompArg| match old.op() {
        op @ LinuxSeccompOperator::ScmpCmpMaskedEq => {
            arg(old.index(), op, old.value_two().unwrap_or(0), Some(old.value()))
        }
        _ => Ok(*old),
    };
    let mut rules = profile.syscalls().clone().unwrap_or_default();
    for rule in &mut rules {
        let args = rule.args().as_ref().map(|args| args.iter().map(turn).collect::<Result<Vec<_>, _>>());
        rule.set_args(args.transpose()?);
    }
    profile.set_syscalls(Some(rules));
    Ok(profile)
}

fn names(lists: &[&str]) -> Vec<String> {
    lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect()
}

fn allow(names: &[String]) -> Result<LinuxSyscall, Error> {
    let rule = LinuxSyscallBuilder::default().names(names).action(LinuxSeccompAction::ScmpActAllow);
    rule.build().map_err(spec_error)
}

fn allow_if(name: &str, condition: LinuxSeccompArg) -> Result<LinuxSyscall, Error> {
    let rule = LinuxSyscallBuilder::default()
        .names([name.to_owned()])
        .action(LinuxSeccompAction::ScmpActAllow)
        .args([condition]);
    rule.build().map_err(spec_error)
}

fn arg(index: usize, op: LinuxSeccompOperator, value: u64, two: Option<u64>) -> Result<LinuxSeccompArg, Error> {
    let mut arg = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    if let Some(two) = two {
        arg = arg.value_two(two);
    }
    arg.build().map_err(spec_error)
}

fn spec_error(error: oci_spec::OciSpecError) -> Error {
    Error::Config(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &LinuxSeccomp, name: &str) -> bool {
        profile.syscalls().iter().flatten().any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActAllow
                && rule.args().is_none()
                && rule.names().iter().any(|n| n == name)
        })
    }

    #[test]
    fn calls_follow_capabilities() {
        let check = |capabilities: &[Capability], name: &str, want: bool| {
            let profile = runtime_default(&capabilities.iter().copied().collect(), "x86_64").unwrap();
            assert_eq!(allowed(&profile, name), want, "{name} with {capabilities:?}");
        };
        check(&[], "openat", true);
        check(&[], "execve", true);
        check(&[], "mount", false);
        check(&[], "unshare", false);
        check(&[], "keyctl", false);
        check(&[], "io_uring_setup", false);
        check(&[], "ptrace", false);
        check(&[], "clone", false);
        check(&[], "socket", false);
        check(&[], "arch_prctl", true);
        check(&[Capability::SysPtrace], "ptrace", true);
        check(&[Capability::SysAdmin], "mount", true);
        check(&[Capability::SysAdmin], "clone", true);
        check(&[Capability::SysAdmin], "clone3", true);
    }

    #[test]
    fn no_call_is_listed_twice_without_need() {
        let all = names(&[FILES, EVENTS, MEMORY, PROCESSES, LOCKS_AND_CLOCKS, TALKING]);
        let unique: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(all.len(), unique.len());
    }

    #[test]
    fn a_profile_may_not_leave_its_folder() {
        for bad in ["../x.json", "/etc/x.json", "a/../../x"] {
            let error = localhost(Path::new("/nonexistent"), Path::new(bad)).unwrap_err();
            assert!(error.to_string().contains("must stay"), "{bad}: {error}");
        }
    }
}
