//! The last steps before a container's own command runs: what libcontainer's
//! default executor does, without its three faults. It refuses a command that only
//! its owner may execute, it leaves the monitor's blocked and ignored signals to
//! the container, and an `execve` that fails after the start looks like exit 255.

use crate::error::Error;
use libcontainer::oci_spec::runtime::{Process, Spec};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{AccessFlags, execve, faccessat};
use std::ffi::CString;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

/// Search path when the environment has none, as Docker sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How runc words a command that is not there; [`command_error`] finds it again.
const NOT_FOUND: &str = "executable file not found in $PATH";
const NO_SUCH_FILE: &str = "no such file or directory";
const NOT_ALLOWED: &str = "permission denied";

/// Runs the container's command and reports an `execve` that fails.
#[derive(Clone)]
pub struct InitExecutor {
    /// A pipe's write end, close-on-exec: closed without a word when it worked.
    pub report: RawFd,
}

impl Executor for InitExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        process
            .map(locate)
            .unwrap_or_else(|| Err("the spec has no process".to_owned()))
            .map(drop)
            .map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let path = locate(process).map_err(ExecutorError::Other)?;
        reset_signals();
        let env = environment();
        let failure = execute(&path, process.args().as_deref().unwrap_or_default(), &env);
        // SAFETY: the monitor opened this descriptor for us and libcontainer has only
        // marked it close-on-exec.
        let report = unsafe { BorrowedFd::borrow_raw(self.report) };
        let _ = nix::unistd::write(report, failure.as_bytes());
        Err(ExecutorError::Other(failure))
    }
}

/// The environment that libcontainer has set in this process.
fn environment() -> Vec<String> {
    std::env::vars().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Blocked and ignored signals survive `execve`: the container gets a clean slate.
pub fn reset_signals() {
    // The kernel's own structure, which is smaller than this on every architecture:
    // all zero is the default action. libc's call refuses signals 32 and 33.
    let default = [0_u64; 8];
    for number in 1..=64 {
        // SAFETY: reads `default`, writes nothing; the default action runs no code of ours.
        // SIGKILL and SIGSTOP are refused.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), std::ptr::null::<u64>(), 8) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Replaces this process; comes back only with the reason why it could not.
pub fn execute(path: &Path, args: &[String], env: &[String]) -> String {
    let texts = |list: &[String]| -> Option<Vec<CString>> {
        list.iter().map(|text| CString::new(text.as_bytes()).ok()).collect()
    };
    let name = args.first().map_or("", String::as_str);
    let (Ok(file), Some(argv), Some(envp)) =
        (CString::new(path.as_os_str().as_encoded_bytes()), texts(args), texts(env))
    else {
        return format!("exec: {name:?}: an argument or variable holds a NUL byte");
    };
    let errno = match execve(&file, &argv, &envp) {
        Err(errno) => errno,
        Ok(never) => match never {},
    };
    let reason = match errno {
        Errno::ENOENT => NO_SUCH_FILE.to_owned(),
        Errno::EACCES => NOT_ALLOWED.to_owned(),
        Errno::ENOEXEC => "exec format error".to_owned(),
        other => other.desc().to_owned(),
    };
    format!("exec: {name:?}: {reason}")
}

/// Finds the command in the file system and with the rights that this process has
/// now; the error is in runc's words.
pub fn locate(process: &Process) -> Result<PathBuf, String> {
    let name = process.args().as_ref().and_then(|a| a.first()).map_or("", String::as_str);
    if name.is_empty() {
        return Err("no command is given, and the image has none".to_owned());
    }
    if name.contains('/') {
        let path = PathBuf::from(name);
        return check(&path).map(|()| path).map_err(|why| format!("exec: {name:?}: {why}"));
    }
    let env = process.env().as_deref().unwrap_or_default();
    let search = env.iter().rev().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut failure = NOT_FOUND;
    for folder in search.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        match check(&Path::new(folder).join(name)) {
            Ok(()) => return Ok(Path::new(folder).join(name)),
            Err(NO_SUCH_FILE) => {}
            Err(why) => failure = why,
        }
    }
    Err(format!("exec: {name:?}: {failure}"))
}

fn check(path: &Path) -> Result<(), &'static str> {
    match path.metadata() {
        Ok(data) if data.is_dir() => return Err(NOT_ALLOWED),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(NOT_ALLOWED),
        Err(_) => return Err(NO_SUCH_FILE),
    }
    faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).map_err(|_| NOT_ALLOWED)
}

/// If this text says that a command could not be executed, the error with its
/// shell exit code: 127 when it is not there, 126 when it may not or cannot run.
pub fn command_error(text: &str) -> Option<Error> {
    let at = text.find("exec: \"").or_else(|| text.find("no command is given"))?;
    let message = text[at..].to_owned();
    let missing = message.contains(NOT_FOUND) || message.contains(NO_SUCH_FILE) || !message.starts_with("exec");
    Some(Error::Command { message, code: if missing { 127 } else { 126 } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcontainer::oci_spec::runtime::ProcessBuilder;

    #[test]
    fn commands_are_found_as_a_shell_would() {
        let check = |args: &[&str], env: &[&str], want: Result<&str, i32>| {
            let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let process = ProcessBuilder::default().args(owned(args)).env(owned(env)).build().unwrap();
            let got = locate(&process).map_err(|text| match command_error(&text) {
                Some(Error::Command { code, .. }) => code,
                _ => 0,
            });
            assert_eq!(got, want.map(PathBuf::from), "{args:?} {env:?}");
        };
        check(&["busybox"], &["PATH=/nowhere:/bin"], Ok("/bin/busybox"));
        check(&["/bin/busybox"], &[], Ok("/bin/busybox"));
        check(&["no-such-command"], &["PATH=/bin"], Err(127));
        check(&["/no/such"], &[], Err(127));
        check(&["/etc"], &[], Err(126));
        check(&["/etc/passwd"], &[], Err(126));
        check(&["passwd"], &["PATH=/etc:/nowhere"], Err(126));
        check(&[""], &[], Err(127));
    }
}
