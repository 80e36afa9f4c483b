//! Which devices a container may use, on cgroup v2.
//!
//! v1 has a controller with files, which libcontainer writes. v2 has none: a BPF
//! program at the cgroup decides. libcontainer's own needs a C library and is not
//! built in; without any, a container with CAP_MKNOD, which is in the default set,
//! could make a node of the host's disk and read it. The program is a list of
//! comparisons, loaded with plain `bpf(2)`.

use crate::error::Error;
use libcontainer::oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// linux/bpf.h: `BPF_DEVCG_ACC_*` and `BPF_DEVCG_DEV_*`.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK: u32 = 1;
const CHAR: u32 = 2;
/// Commands, types and flags of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// A device that may be used; `None` is every type or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    typ: Option<u32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: u32,
}

const fn any(typ: u32) -> Allowed {
    Allowed { typ: Some(typ), major: None, minor: None, access: MKNOD }
}

const fn char(major: i32, minor: Option<i32>) -> Allowed {
    Allowed { typ: Some(CHAR), major: Some(major), minor, access: MKNOD | READ | WRITE }
}

/// What every container may use (runc's `AllowedDevices`): nodes can be made of
/// anything but opened only of null, zero, full, random, urandom, tty, console,
/// ptmx and terminals.
const DEFAULT: [Allowed; 11] = [
    any(CHAR),
    any(BLOCK),
    char(1, Some(3)),
    char(1, Some(5)),
    char(1, Some(7)),
    char(1, Some(8)),
    char(1, Some(9)),
    char(5, Some(0)),
    char(5, Some(1)),
    char(5, Some(2)),
    char(136, None),
];

/// Confines the processes of a v2 cgroup to these rules and the default ones.
/// Rules that refuse say nothing new: what is not allowed is refused.
///
/// # Errors
/// The program cannot be loaded or attached.
pub fn confine(cgroup: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let mut allowed: Vec<Allowed> = rules.iter().filter(|rule| rule.allow()).map(from_rule).collect();
    allowed.extend(DEFAULT);
    let program = load(&assemble(&allowed)).map_err(Error::call("load the device program"))?;
    let folder = File::open(cgroup).map_err(Error::file("open", cgroup))?;
    attach(&folder, &program).map_err(|errno| Error::file("attach the device program to", cgroup)(errno.into()))
}

fn from_rule(rule: &LinuxDeviceCgroup) -> Allowed {
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).and_then(|n| i32::try_from(n).ok());
    let access = rule.access().as_deref().unwrap_or("rwm");
    Allowed {
        typ: match rule.typ() {
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHAR),
            Some(LinuxDeviceType::A | LinuxDeviceType::P) | None => None,
        },
        major: number(rule.major()),
        minor: number(rule.minor()),
        access: [('m', MKNOD), ('r', READ), ('w', WRITE)]
            .iter()
            .filter(|(letter, _)| access.contains(*letter))
            .fold(0, |bits, (_, bit)| bits | bit),
    }
}

/// `struct bpf_insn`: code, registers (source in the high half), offset, immediate.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// Instruction classes of linux/bpf.h, put together.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const JUMP_UNEQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// r2 is the device's type, r3 the access, r4 and r5 its numbers
/// (`struct bpf_cgroup_dev_ctx`); each rule jumps over its own "yes".
fn assemble(allowed: &[Allowed]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_WORD, 0x12, 0, 0),
        op(MOVE_REGISTER, 0x23, 0, 0),
        op(AND, 0x02, 0, 0xffff),
        op(SHIFT_RIGHT, 0x03, 0, 16),
        op(LOAD_WORD, 0x14, 4, 0),
        op(LOAD_WORD, 0x15, 8, 0),
    ];
    for rule in allowed {
        let mut tests = Vec::new();
        if let Some(typ) = rule.typ {
            tests.push(op(JUMP_UNEQUAL, 0x02, 0, typ as i32));
        }
        // Bits asked for beyond the allowed ones must be none.
        tests.push(op(MOVE_REGISTER, 0x31, 0, 0));
        tests.push(op(AND, 0x01, 0, !(rule.access as i32)));
        tests.push(op(JUMP_UNEQUAL, 0x01, 0, 0));
        tests.extend(rule.major.map(|n| op(JUMP_UNEQUAL, 0x04, 0, n)));
        tests.extend(rule.minor.map(|n| op(JUMP_UNEQUAL, 0x05, 0, n)));
        let length = tests.len();
        for (at, test) in tests.iter_mut().enumerate().filter(|(_, t)| t.code == JUMP_UNEQUAL) {
            // Over the rest of the tests and the two instructions of "yes".
            test.offset = (length - at - 1 + 2) as i16;
        }
        program.extend(tests);
        program.extend([op(MOVE, 0x00, 0, 1), op(EXIT, 0, 0, 0)]);
    }
    program.extend([op(MOVE, 0x00, 0, 0), op(EXIT, 0, 0, 0)]);
    program
}

/// The front of `union bpf_attr` for BPF_PROG_LOAD; what follows may be left out.
#[repr(C)]
struct LoadAttributes {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let attributes = LoadAttributes {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attributes point to `program` and a static text, which outlive the call.
    match unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &attributes, size_of::<LoadAttributes>()) } {
        -1 => Err(Errno::last()),
        // SAFETY: the kernel has just made this descriptor for us.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

fn attach(cgroup: &File, program: &OwnedFd) -> Result<(), Errno> {
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: reads the attributes, which are plain numbers.
    match unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &attributes, size_of::<AttachAttributes>()) } {
        -1 => Err(Errno::last()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::clone;
    use libcontainer::oci_spec::runtime::LinuxDeviceCgroupBuilder;
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::fs;

    /// Opens a device from inside a confined cgroup; gives the errno, 0 for success.
    fn open_confined(name: &str, rules: &[LinuxDeviceCgroup], device: &str) -> i32 {
        let root =
            if Path::new("/sys/fs/cgroup/unified").exists() { "/sys/fs/cgroup/unified" } else { "/sys/fs/cgroup" };
        let cgroup = Path::new(root).join(format!("orlop-device-{}-{name}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        confine(&cgroup, rules).unwrap();
        let procs = fs::OpenOptions::new().write(true).open(cgroup.join("cgroup.procs")).unwrap();
        let path = std::ffi::CString::new(device).unwrap();
        // The test runner has threads: the child makes system calls only.
        let child = clone(0, || {
            if nix::unistd::write(&procs, b"0").is_err() {
                return 255;
            }
            // SAFETY: opens a valid path without a mode.
            match unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK) } {
                -1 => Errno::last_raw(),
                _ => 0,
            }
        });
        let status = waitpid(child.unwrap(), None).unwrap();
        fs::remove_dir(&cgroup).unwrap();
        match status {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_is_allowed_can_be_opened() {
        let check = |name: &str, rules: &[LinuxDeviceCgroup], device: &str, want: i32| {
            assert_eq!(open_confined(name, rules, device), want, "{name}: {device}");
        };
        let refuse = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build().unwrap();
        let all = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().unwrap();
        let folder = tempdir();
        // Major 1, minor 11 is the kernel log; the node is opened, never read.
        let kmsg = folder.join("kmsg");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::sys::stat::mknod(&kmsg, nix::sys::stat::SFlag::S_IFCHR, mode, nix::sys::stat::makedev(1, 11)).unwrap();
        check("null", std::slice::from_ref(&refuse), "/dev/null", 0);
        check("zero", std::slice::from_ref(&refuse), "/dev/zero", 0);
        check("kmsg", &[refuse], kmsg.to_str().unwrap(), libc::EPERM);
        check("privileged", &[all], kmsg.to_str().unwrap(), 0);
        fs::remove_dir_all(&folder).unwrap();
    }

    fn tempdir() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("orlop-device-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}
