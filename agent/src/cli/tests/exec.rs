//! `orlop exec` with descriptors and with a terminal.

use super::fake::{Fake, parse, until};
use crate::api::{Request, Response};
use crate::cli::finish;
use crate::cli::streams::Streams;
use nix::libc;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use orlop_wire::frame;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::thread;

nix::ioctl_read_bad!(get_size, libc::TIOCGWINSZ, Winsize);
nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

fn size_of(terminal: &impl AsRawFd) -> (u16, u16) {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open and the kernel writes one `winsize`.
    unsafe { get_size(terminal.as_raw_fd(), &mut size) }.unwrap();
    (size.ws_row, size.ws_col)
}

fn resize(terminal: &impl AsRawFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open and the kernel reads one `winsize`.
    unsafe { set_size(terminal.as_raw_fd(), &size) }.unwrap();
}

fn say(stream: &UnixStream, response: &Response) {
    frame::send(stream, response, &[]).unwrap();
}

/// A process that copies its stdin to stdout, complains, and exits with 41.
fn copying(stream: &UnixStream, request: Request, fds: Vec<OwnedFd>) -> Option<Response> {
    let Request::Exec { command, tty, container, .. } = request else { panic!("{request:?}") };
    assert_eq!((command, tty, container.as_deref()), (vec!["cat".into(), "-u".into()], false, Some("app")));
    say(stream, &Response::ExecStarted);
    let [mut stdin, mut stdout, mut stderr] = <[OwnedFd; 3]>::try_from(fds).unwrap().map(File::from);
    std::io::copy(&mut stdin, &mut stdout).unwrap();
    stderr.write_all(b"done").unwrap();
    Some(Response::ExecExited { code: 41 })
}

/// A process that opens its stdout and stderr anew, as it can through
/// `/proc/self/fd`, and empties what is behind them.
fn hostile(stream: &UnixStream, _: Request, fds: Vec<OwnedFd>) -> Option<Response> {
    say(stream, &Response::ExecStarted);
    for fd in &fds[1..] {
        let anew = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let _ = File::options().write(true).truncate(true).open(anew);
    }
    File::from(fds.into_iter().nth(1).unwrap()).write_all(b"appended").unwrap();
    Some(Response::ExecExited { code: 0 })
}

#[test]
fn a_process_cannot_reach_the_files_behind_the_users_streams() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    std::fs::write(&path, "precious ").unwrap();
    let file = || File::options().append(true).open(&path).unwrap();
    let fake = Fake::start(hostile);
    let streams = Streams { stdin: File::open("/dev/null").unwrap(), stdout: file(), stderr: file() };
    assert_eq!(finish(parse(&fake.socket(), &["exec", "web", "--", "evil"]), &streams), 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious appended");
}

#[test]
fn streams_are_carried() {
    let check = |flags: &[&str], want: &str| {
        let fake = Fake::start(copying);
        let (stdin, mut typed) = nix::unistd::pipe().map(|(r, w)| (r, File::from(w))).unwrap();
        let (out, stdout) = nix::unistd::pipe().unwrap();
        let (err, stderr) = nix::unistd::pipe().unwrap();
        typed.write_all(b"some input").unwrap();
        drop(typed);
        let streams = Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
        let line = [&["exec", "web", "-c", "app"], flags, &["--", "cat", "-u"]].concat();
        assert_eq!(finish(parse(&fake.socket(), &line), &streams), 41);
        drop((streams, fake));
        let read = |fd: OwnedFd| {
            let mut text = String::new();
            File::from(fd).read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!((read(out).as_str(), read(err).as_str()), (want, "done"), "{flags:?}");
    };
    check(&["-i"], "some input");
    check(&[], "");
}

#[test]
fn an_agent_that_goes_away_under_a_process_is_four() {
    let fake = Fake::start(|stream, _, _| {
        say(stream, &Response::ExecStarted);
        None
    });
    let outcome = fake.run(&["exec", "web", "--", "sleep"]);
    assert_eq!(outcome.code, 4, "{outcome:?}");
}

/// Reads until what was read ends with `want`.
fn expect(terminal: &mut impl Read, want: &str) {
    let mut got = Vec::new();
    let mut bytes = [0; 256];
    while !got.ends_with(want.as_bytes()) {
        let count = terminal.read(&mut bytes).unwrap_or_else(|error| panic!("{error} after {got:?}"));
        assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&bytes[..count]);
    }
}

/// A process on a terminal: answers one line, waits for a size, exits with 7.
fn shell(stream: &UnixStream, request: Request, _: Vec<OwnedFd>) -> Option<Response> {
    assert!(matches!(request, Request::Exec { tty: true, .. }), "{request:?}");
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    frame::send(stream, &Response::ExecStarted, &[master.as_fd()]).unwrap();
    drop(master);
    let mut slave = File::from(slave);
    until("the first size", || size_of(&slave) == (24, 80));
    expect(&mut slave, "hello\n");
    slave.write_all(b"heard\n").unwrap();
    until("the second size", || size_of(&slave) == (50, 132));
    slave.write_all(b"bye\n").unwrap();
    Some(Response::ExecExited { code: 7 })
}

#[test]
fn a_terminal_is_relayed_resized_and_given_back() {
    let fake = Fake::start(shell);
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    resize(&master, 24, 80);
    let before = tcgetattr(&slave).unwrap();
    assert!(before.local_flags.contains(LocalFlags::ECHO));
    let copy = || File::from(slave.try_clone().unwrap());
    let streams = Streams { stdin: copy(), stdout: copy(), stderr: copy() };
    let cli = parse(&fake.socket(), &["exec", "-it", "web", "--", "sh"]);
    let command = thread::spawn(move || finish(cli, &streams));

    until("raw mode", || !tcgetattr(&slave).unwrap().local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON));
    let mut human = File::from(master);
    human.write_all(b"hello\r").unwrap();
    expect(&mut human, "heard\r\n");
    resize(&human, 50, 132);
    // The kernel tells a terminal's foreground processes; this one is nobody's terminal.
    // SAFETY: the thread is not joined yet, so its id is good.
    assert_eq!(unsafe { libc::pthread_kill(command.as_pthread_t(), libc::SIGWINCH) }, 0);
    expect(&mut human, "bye\r\n");
    assert_eq!(command.join().unwrap(), 7);
    assert_eq!(tcgetattr(&slave).unwrap(), before);
}

#[test]
fn a_signal_gives_the_terminal_back_before_it_ends_the_command() {
    let fake = Fake::start(|stream, _, _| {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        frame::send(stream, &Response::ExecStarted, &[master.as_fd()]).unwrap();
        // Until the command hangs up.
        let _ = stream.try_clone().unwrap().read(&mut [0]);
        drop((master, slave));
        None
    });
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let before = tcgetattr(&slave).unwrap();
    let copy = || File::from(slave.try_clone().unwrap());
    let streams = Streams { stdin: copy(), stdout: copy(), stderr: copy() };
    let cli = parse(&fake.socket(), &["exec", "-it", "web", "--", "sh"]);
    let command = thread::spawn(move || finish(cli, &streams));
    until("raw mode", || !tcgetattr(&slave).unwrap().local_flags.contains(LocalFlags::ECHO));
    // SAFETY: the thread is not joined yet, so its id is good; it holds the signal back before the terminal is raw.
    assert_eq!(unsafe { libc::pthread_kill(command.as_pthread_t(), libc::SIGTERM) }, 0);
    assert_eq!(command.join().unwrap(), 143);
    assert_eq!(tcgetattr(&slave).unwrap(), before);
    drop(master);
}

#[test]
fn input_that_ends_is_an_end_of_file_on_the_terminal() {
    let fake = Fake::start(|stream, _, _| {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        frame::send(stream, &Response::ExecStarted, &[master.as_fd()]).unwrap();
        drop(master);
        let mut text = String::new();
        let mut slave = File::from(slave);
        slave.read_to_string(&mut text).unwrap();
        writeln!(slave, "read {}", text.len()).unwrap();
        Some(Response::ExecExited { code: 0 })
    });
    let (stdin, mut typed) = nix::unistd::pipe().map(|(r, w)| (r, File::from(w))).unwrap();
    typed.write_all(b"one\nhalf").unwrap();
    drop(typed);
    let (out, stdout) = nix::unistd::pipe().unwrap();
    let streams = Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: File::create("/dev/null").unwrap() };
    assert_eq!(finish(parse(&fake.socket(), &["exec", "-it", "web", "--", "cat"]), &streams), 0);
    drop(streams);
    let mut text = String::new();
    File::from(out).read_to_string(&mut text).unwrap();
    assert!(text.ends_with("read 8\r\n"), "{text:?}");
}
