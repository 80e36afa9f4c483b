//! A container's seccomp filter for its execs, compiled once.
//!
//! libseccomp takes 10 to 20 ms to compile the default profile, far longer than
//! everything else an exec does, and probes are execs. So the program is kept in
//! the container's folder. It is compiled in a child, because what libseccomp
//! allocates meanwhile would stay with the monitor.

use crate::clone::fork;
use crate::error::{Error, chain};
use libcontainer::oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::fs;
use std::path::Path;

/// A program for `seccomp(2)`.
pub struct Filter {
    /// `struct sock_filter`s.
    program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    flags: libc::c_ulong,
}

/// The container's filter, compiled now if it is the first time.
///
/// # Errors
/// The profile cannot be compiled.
pub fn for_container(folder: &Path, profile: &LinuxSeccomp) -> Result<Filter, Error> {
    let path = folder.join("seccomp.bpf");
    if !path.exists() {
        compile_to(&path, profile)?;
    }
    let program = fs::read(&path).map_err(Error::file("read", &path))?;
    let flags = profile.flags().iter().flatten().map(number_of_flag).fold(0, |all, flag| all | flag);
    Ok(Filter { program, flags })
}

impl Filter {
    /// Confines this process: without no_new_privs that takes CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn install(&self) -> Result<(), Errno> {
        let count = self.program.len() / size_of::<libc::sock_filter>();
        // The kernel reads the program bytewise: it need not be aligned.
        let program = libc::sock_fprog {
            len: u16::try_from(count).map_err(|_| Errno::E2BIG)?,
            filter: self.program.as_ptr().cast_mut().cast(),
        };
        // SAFETY: reads `program` and the bytes it points to, which outlive the call.
        match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &program) } {
            0 => Ok(()),
            _ => Err(Errno::last()),
        }
    }
}

fn number_of_flag(flag: &LinuxSeccompFilterFlag) -> libc::c_ulong {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    }
}

fn compile_to(path: &Path, profile: &LinuxSeccomp) -> Result<(), Error> {
    let next = path.with_extension("next");
    let child = fork(|| {
        let done = compile(profile, &next);
        match done.and_then(|()| fs::rename(&next, path).map_err(Error::file("replace", path))) {
            Ok(()) => 0,
            Err(error) => {
                let _ = fs::write(&next, chain(&error));
                1
            }
        }
    });
    let child = child.map_err(Error::call("fork"))?;
    loop {
        match waitpid(child, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Err(Errno::EINTR) => {}
            _ => {
                let why = fs::read_to_string(&next).unwrap_or_default();
                return Err(Error::Request(format!("compile the seccomp filter: {why}")));
            }
        }
    }
}

/// As libcontainer translates a profile for the container's init.
fn compile(profile: &LinuxSeccomp, into: &Path) -> Result<(), Error> {
    let failed = |error: libseccomp::error::SeccompError| Error::Request(error.to_string());
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).map_err(failed)?;
    for arch in profile.architectures().iter().flatten() {
        context.add_arch(architecture(*arch)?).map_err(failed)?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        // libseccomp refuses a rule that says the same as the default.
        if action == default {
            continue;
        }
        let conditions = conditions(rule);
        for name in rule.names() {
            // A name that this kernel's headers or architecture do not have.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            for condition in &conditions {
                context.add_rule_conditional(action, call, condition).map_err(failed)?;
            }
        }
    }
    let file = fs::File::create(into).map_err(Error::file("create", into))?;
    context.export_bpf(&file).map_err(failed)
}

/// Comparisons of one rule apply together, except that libseccomp takes each
/// argument only once: then each comparison is a rule of its own, as runc does it.
fn conditions(rule: &LinuxSyscall) -> Vec<Vec<ScmpArgCompare>> {
    let args = rule.args().as_deref().unwrap_or_default();
    let all: Vec<ScmpArgCompare> = args
        .iter()
        .map(|arg| {
            let op = match arg.op() {
                LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
                LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
                LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
                LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
                LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
                LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
                // libcontainer takes the second value for the mask, where OCI says the
                // first; orlop-runtime writes specs that are right when read so.
                LinuxSeccompOperator::ScmpCmpMaskedEq => ScmpCompareOp::MaskedEqual(arg.value_two().unwrap_or(0)),
            };
            ScmpArgCompare::new(arg.index() as u32, op, arg.value())
        })
        .collect();
    let mut indices: Vec<usize> = args.iter().map(|arg| arg.index()).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() == args.len() { vec![all] } else { all.into_iter().map(|one| vec![one]).collect() }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, Error> {
    let errno = errno.map_or(libc::EPERM, |e| e as i32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno as u16),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(Error::Request("a profile with SCMP_ACT_NOTIFY cannot be used for exec".into()));
        }
    })
}

fn architecture(arch: Arch) -> Result<ScmpArch, Error> {
    Ok(match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        // Nothing that this program runs on.
        other => return Err(Error::Request(format!("seccomp architecture {other:?} is not supported"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcontainer::seccomp::initialize_seccomp;

    /// The default profile as OCI has it.
    fn profile() -> LinuxSeccomp {
        orlop_runtime::runtime_default_seccomp(&Default::default(), std::env::consts::ARCH).unwrap()
    }

    /// Errnos of `clone` with a new UTS namespace, of plain `clone`, of `unshare` and
    /// of `clone3` in a process confined by `install`.
    fn errnos(install: impl Fn() -> bool) -> Vec<i32> {
        let (read, write) = nix::unistd::pipe().unwrap();
        let child = fork(|| {
            if !install() {
                return 1;
            }
            let mut found = Vec::new();
            for flags in [libc::CLONE_NEWUTS | libc::SIGCHLD, libc::SIGCHLD] {
                // SAFETY: a copy of this process without a new stack, which ends at once.
                match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
                    -1 => found.push(Errno::last_raw() as u8),
                    // SAFETY: the grandchild ends here.
                    0 => unsafe { libc::_exit(0) },
                    _ => found.push(0),
                }
            }
            // SAFETY: takes a plain integer.
            unsafe { libc::unshare(libc::CLONE_NEWUTS) };
            found.push(Errno::last_raw() as u8);
            // SAFETY: refused before it reads anything.
            unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0) };
            found.push(Errno::last_raw() as u8);
            i32::from(nix::unistd::write(&write, &found).is_err())
        });
        waitpid(child.unwrap(), None).unwrap();
        let mut found = [0; 4];
        assert_eq!(nix::unistd::read(&read, &mut found), Ok(4));
        found.into_iter().map(i32::from).collect()
    }

    #[test]
    fn both_ways_to_install_the_default_profile_mean_the_same() {
        let want = [libc::EPERM, 0, libc::EPERM, libc::ENOSYS];
        let oci = profile();
        // If this fails, libcontainer has mended its reading of masked comparisons,
        // and `for_libcontainer` must go.
        assert_eq!(errnos(|| initialize_seccomp(&oci).is_ok())[0], 0, "libcontainer's hole");
        let profile = orlop_runtime::for_libcontainer(oci).unwrap();
        let folder = std::env::temp_dir().join(format!("orlop-seccomp-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let filter = for_container(&folder, &profile).unwrap();
        assert_eq!(errnos(|| filter.install().is_ok()), want, "ours");
        assert_eq!(errnos(|| initialize_seccomp(&profile).is_ok()), want, "libcontainer's");
        fs::remove_dir_all(&folder).unwrap();
    }
}
