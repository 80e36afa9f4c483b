//! An agent that answers as a test says, and a command run against it.

use crate::api::{Request, Response};
use crate::cli::args::Cli;
use crate::cli::finish;
use crate::cli::streams::Streams;
use clap::Parser;
use orlop_wire::frame;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The agent; its socket is gone when it is dropped.
pub struct Fake {
    /// A folder for the test, the socket in it.
    pub dir: TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Listens; `answer` gets each request with its connection and descriptors and
    /// may return the last answer.
    pub fn start<F>(mut answer: F) -> Self
    where
        F: FnMut(&UnixStream, Request, Vec<OwnedFd>) -> Option<Response> + Send + 'static,
    {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("orlop.sock")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                let (request, fds) = frame::receive(&stream).unwrap();
                if let Some(response) = answer(&stream, request, fds) {
                    frame::send(&stream, &response, &[]).unwrap();
                }
            }
        });
        Self { dir, stop, thread: Some(thread) }
    }

    /// Gives every request the same answer.
    pub fn saying(response: Response) -> Self {
        Self::start(move |_, _, _| Some(response.clone()))
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("orlop.sock")
    }

    /// Runs a command line against it.
    pub fn run(&self, line: &[&str]) -> Outcome {
        run(&self.socket(), line)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(self.socket());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().expect("the fake agent is content");
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: u8,
    pub stdout: String,
    pub stderr: String,
}

/// Parses a command line that names this socket.
pub fn parse(socket: &std::path::Path, line: &[&str]) -> Cli {
    let socket = socket.to_str().unwrap();
    Cli::try_parse_from([&["orlop", "--socket", socket], line].concat()).unwrap()
}

/// Runs a command line to its end, its output in files.
pub fn run(socket: &std::path::Path, line: &[&str]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let streams = Streams {
        stdin: File::open("/dev/null").unwrap(),
        stdout: File::create(&out).unwrap(),
        stderr: File::create(&err).unwrap(),
    };
    let code = finish(parse(socket, line), &streams);
    Outcome { code, stdout: fs::read_to_string(out).unwrap(), stderr: fs::read_to_string(err).unwrap() }
}

/// Waits until `done` says so.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
