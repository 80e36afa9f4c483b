//! What a container needs before libcontainer creates it: its standard streams and
//! its working directory.

use crate::error::Error;
use crate::exec::receive_master;
use crate::log::{Lines, Stream};
use libcontainer::oci_spec::runtime::Spec;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// One of the container's outputs.
pub struct Output {
    /// Non-blocking read end, or a terminal's master.
    pub fd: OwnedFd,
    /// Which of the two.
    pub stream: Stream,
    /// What has no line's end yet.
    pub lines: Lines,
}

/// The write ends and the listener that only the creation needs.
pub struct Channels {
    /// Read ends.
    pub outputs: Vec<Output>,
    /// Write ends of stdout and stderr; none with a terminal.
    pub writers: Vec<OwnedFd>,
    /// Read and write end of stdin, if it is kept open.
    pub stdin: Option<(OwnedFd, OwnedFd)>,
    /// Where libcontainer sends the terminal's master.
    pub console: Option<(UnixListener, PathBuf)>,
    /// Read and write end of the pipe for a failed `execve`.
    pub report: (OwnedFd, OwnedFd),
}

/// Opens pipes or a console socket, as the spec asks for.
///
/// # Errors
/// A pipe or socket cannot be made.
pub fn open_channels(folder: &Path, spec: &Spec, stdin: bool) -> Result<Channels, Error> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"));
    let process = spec.process().as_ref();
    let user = process.map(|p| (p.user().uid(), p.user().gid())).unwrap_or_default();
    let (mut outputs, mut writers, mut console) = (Vec::new(), Vec::new(), None);
    if process.and_then(|p| p.terminal()).unwrap_or(false) {
        // Bound through the folder's descriptor: socket paths end at 108 bytes.
        let here = File::open(folder).map_err(Error::file("open", folder))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/console.sock", here.as_raw_fd()));
        let listener = UnixListener::bind(&path).map_err(Error::file("bind", folder.join("console.sock")))?;
        console = Some((listener, folder.join("console.sock")));
    } else {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (fd, write) = pipe()?;
            set_nonblocking(&fd)?;
            // A process that is not root opens /dev/stdout by name, as with a shell's
            // `>/dev/stdout`, only if the pipe is its own.
            fchown(&write, Some(Uid::from_raw(user.0)), Some(Gid::from_raw(user.1))).map_err(Error::call("fchown"))?;
            outputs.push(Output { fd, stream, lines: Lines::default() });
            writers.push(write);
        }
    }
    let stdin = if stdin && console.is_none() { Some(pipe()?) } else { None };
    Ok(Channels { outputs, writers, stdin, console, report: pipe()? })
}

/// The terminal that libcontainer has sent.
///
/// # Errors
/// It has sent none.
pub fn terminal_output(listener: &UnixListener) -> Result<Output, Error> {
    listener.set_nonblocking(true).map_err(Error::call("fcntl"))?;
    let (socket, _) = listener.accept().map_err(Error::call("accept the terminal"))?;
    let fd = receive_master(&socket.into())?;
    set_nonblocking(&fd)?;
    Ok(Output { fd, stream: Stream::Stdout, lines: Lines::default() })
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Error> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop).map_err(Error::call("fcntl"))
}

/// Makes the working directory in the root filesystem if it is missing, as runc
/// does; libcontainer only changes into it. Each step is opened inside the root, so
/// that no link of the image leads out of it.
///
/// # Errors
/// The root cannot be opened or the folder not made.
pub fn make_working_dir(bundle: &Path, spec: &Spec) -> Result<(), Error> {
    use nix::fcntl::{OpenHow, ResolveFlag, openat2};
    let (Some(root), Some(process)) = (spec.root().as_ref(), spec.process().as_ref()) else { return Ok(()) };
    let cwd = process.cwd().strip_prefix("/").unwrap_or(process.cwd());
    let root = bundle.join(root.path());
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let base = openat(nix::fcntl::AT_FDCWD, &root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::file("open", &root)(errno.into()))?;
    let mut done = PathBuf::new();
    let mut parent = base.try_clone().map_err(Error::call("dup"))?;
    for part in cwd.components() {
        done.push(part);
        parent = match openat2(&base, &done, how) {
            Ok(fd) => fd,
            Err(nix::errno::Errno::ENOENT) => {
                // Below a volume's mount point it would be hidden; harmless.
                nix::sys::stat::mkdirat(&parent, part.as_os_str(), Mode::from_bits_truncate(0o755))
                    .map_err(|errno| Error::file("create working directory", &done)(errno.into()))?;
                openat2(&base, &done, how).map_err(|errno| Error::file("open", &done)(errno.into()))?
            }
            // A read-only or odd root: libcontainer's chdir has the last word.
            Err(_) => return Ok(()),
        };
    }
    Ok(())
}
