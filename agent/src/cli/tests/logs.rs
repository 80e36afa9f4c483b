//! `orlop logs` over real files.

use super::fake::{Fake, Outcome, parse};
use super::render::detail;
use crate::api::{LogView, Request, Response};
use crate::cli::finish;
use crate::cli::streams::Streams;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// A container's log folder and the agent that names it.
struct World {
    dir: TempDir,
    live: Arc<AtomicBool>,
    attempt: Arc<Mutex<u32>>,
    waiting: Arc<AtomicBool>,
    fake: Fake,
}

impl World {
    fn new(attempt: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let live = Arc::new(AtomicBool::new(true));
        let attempt = Arc::new(Mutex::new(attempt));
        let waiting = Arc::new(AtomicBool::new(false));
        let (path, lives, newest) = (dir.path().to_path_buf(), Arc::clone(&live), Arc::clone(&attempt));
        let waits = Arc::clone(&waiting);
        let fake = Fake::start(move |_, request, _| {
            if matches!(request, Request::Pod { .. }) {
                let mut detail = detail();
                if waits.load(Ordering::SeqCst) {
                    detail.pod.containers[1].state = "waiting".into();
                }
                return Some(Response::Pod(Box::new(detail)));
            }
            let (live, attempt) = (lives.load(Ordering::SeqCst), *newest.lock().unwrap());
            Some(Response::Log(LogView { dir: path.clone(), attempt, live }))
        });
        Self { dir, live, attempt, waiting, fake }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Appends to a log file.
    fn write(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn run(&self, flags: &[&str]) -> Outcome {
        self.fake.run(&[&["logs", "web"], flags].concat())
    }

    fn follow(&self, flags: &[&str]) -> Following {
        let (output, stdout) = nix::unistd::pipe().unwrap();
        let cli = parse(&self.fake.socket(), &[&["logs", "-f", "web"], flags].concat());
        let stderr = File::create(self.path("stderr")).unwrap();
        let streams = Streams { stdin: File::open("/dev/null").unwrap(), stdout: stdout.into(), stderr };
        let command = thread::spawn(move || finish(cli, &streams));
        Following { output: output.into(), command }
    }
}

struct Following {
    output: File,
    command: JoinHandle<u8>,
}

impl Following {
    fn expect(&mut self, want: &str) {
        let mut got = vec![0; want.len()];
        self.output.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), want);
    }

    fn ends(mut self, rest: &str) {
        let mut got = String::new();
        self.output.read_to_string(&mut got).unwrap();
        assert_eq!(got, rest);
        assert_eq!(self.command.join().unwrap(), 0);
    }
}

/// A raw line written at 10:00 and so many seconds.
fn raw(second: u32, stream: &str, tag: &str, content: &str) -> String {
    format!("2026-01-31T10:00:{second:02}.000000001Z {stream} {tag} {content}\n")
}

fn out(second: u32, content: &str) -> String {
    raw(second, "stdout", "F", content)
}

#[test]
fn pieces_are_joined_and_streams_kept_apart() {
    let world = World::new(0);
    let text = [
        raw(1, "stdout", "P", "one "),
        raw(2, "stderr", "F", "trouble"),
        raw(3, "stdout", "P", "and "),
        raw(4, "stdout", "F", "only"),
        "a line that its writer never finish".into(),
    ];
    world.write("0.log", &text.concat());
    let outcome = world.run(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (0, "one and only\n", "trouble\n"));
    let outcome = world.run(&["--timestamps"]);
    assert_eq!(outcome.stdout, "2026-01-31T10:00:01.000000001Z one and only\n");
    assert_eq!(outcome.stderr, "2026-01-31T10:00:02.000000001Z trouble\n");
}

#[test]
fn lines_are_chosen() {
    let world = World::new(0);
    // Rotated by the kubelet's naming; the oldest line began in the oldest file.
    world.write("0.log.20260131-100000", &[out(1, "a"), raw(2, "stdout", "P", "b1 ")].concat());
    world.write("0.log.20260131-100003", &[out(3, "b2"), out(4, "c")].concat());
    world.write("0.log", &[raw(5, "stderr", "P", "e1 "), out(6, "d"), raw(7, "stderr", "F", "e2")].concat());
    world.write("0.log.20260131-100002.gz", "not text");
    world.write("1.log", &out(8, "another attempt"));
    let check = |flags: &[&str], stdout: &str, stderr: &str| {
        let outcome = world.run(flags);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (stdout, stderr), "{flags:?}");
    };
    check(&[], "a\nb1 b2\nc\nd\n", "e1 e2\n");
    check(&["--tail", "0"], "", "");
    check(&["--tail", "1"], "d\n", "");
    check(&["--tail", "2"], "d\n", "e1 e2\n");
    check(&["--tail", "3"], "c\nd\n", "e1 e2\n");
    check(&["--tail", "4"], "b1 b2\nc\nd\n", "e1 e2\n");
    check(&["--tail", "99"], "a\nb1 b2\nc\nd\n", "e1 e2\n");
    check(&["--since", "2026-01-31T10:00:03Z"], "c\nd\n", "e1 e2\n");
    check(&["--since", "2026-01-31T10:00:06Z"], "d\n", "");
    check(&["--since", "2026-01-31T10:00:02Z", "--tail", "3"], "c\nd\n", "e1 e2\n");
}

#[test]
fn numbered_files_are_older_the_higher() {
    let world = World::new(0);
    world.write("0.log.10", &out(1, "a"));
    world.write("0.log.9", &out(2, "b"));
    world.write("0.log.1", &out(3, "c"));
    world.write("0.log", &out(4, "d"));
    assert_eq!(world.run(&[]).stdout, "a\nb\nc\nd\n");
}

#[test]
fn files_of_one_second_are_told_apart_by_number() {
    let world = World::new(0);
    world.write("0.log.20260131-100000.0002", &out(3, "c"));
    world.write("0.log.20260131-100000.0001", &out(2, "b"));
    world.write("0.log.20260131-100000", &out(1, "a"));
    world.write("0.log.20260131-100001", &out(4, "d"));
    assert_eq!(world.run(&[]).stdout, "a\nb\nc\nd\n");
}

#[test]
fn previous_is_the_attempt_that_ended_last() {
    let world = World::new(1);
    world.write("0.log", &out(1, "first"));
    world.write("1.log", &out(2, "second"));
    assert_eq!(world.run(&[]).stdout, "second\n");
    assert_eq!(world.run(&["--previous"]).stdout, "first\n");
    *world.attempt.lock().unwrap() = 0;
    assert_eq!(world.run(&["--previous"]).code, 3);
    // In CrashLoopBackOff the newest attempt has ended.
    world.waiting.store(true, Ordering::SeqCst);
    assert_eq!(world.run(&["--previous"]).stdout, "first\n");
    assert_eq!(world.run(&["--previous", "-c", "app"]).stdout, "first\n");
}

#[test]
fn following_goes_over_rotation_and_restart_to_the_end() {
    let world = World::new(0);
    world.write("0.log", &[out(1, "old"), out(2, "a")].concat());
    let mut following = world.follow(&["--tail", "1"]);
    following.expect("a\n");
    // A line that comes in two writes.
    world.write("0.log", "2026-01-31T10:00:03Z stdout F b");
    world.write("0.log", "c\n");
    following.expect("bc\n");

    // Two rotations at once, with a line before and in each.
    world.write("0.log", &out(4, "d"));
    world.rename("0.log", "0.log.20260131-100004");
    world.write("0.log", &out(5, "e"));
    world.rename("0.log", "0.log.20260131-100005");
    world.write("0.log", &out(6, "f"));
    following.expect("d\ne\nf\n");

    // The next attempt, while the last one's line is still without an end.
    world.write("0.log", &raw(7, "stdout", "P", "cut off"));
    *world.attempt.lock().unwrap() = 1;
    world.write("1.log", &out(8, "g"));
    following.expect("cut off\ng\n");

    world.live.store(false, Ordering::SeqCst);
    world.write("1.log", &out(9, "h"));
    following.ends("h\n");
}

#[test]
fn no_line_is_lost_or_told_twice_while_files_turn() {
    let world = World::new(0);
    world.write("0.log", "");
    let mut following = world.follow(&[]);
    let mut want = String::new();
    for number in 0..200 {
        world.write("0.log", &out(number % 60, &format!("line {number}")));
        want.push_str(&format!("line {number}\n"));
        if number % 7 == 6 {
            world.rename("0.log", &format!("0.log.20260131-{number:06}"));
            world.write("0.log", "");
        }
    }
    following.expect(&want);
    world.live.store(false, Ordering::SeqCst);
    following.ends("");
}

#[test]
fn following_waits_for_a_folder_that_is_not_there_yet() {
    let world = World::new(0);
    let hidden = world.dir.path().with_extension("hidden");
    fs::rename(world.dir.path(), &hidden).unwrap();
    let (output, stdout) = nix::unistd::pipe().unwrap();
    let cli = parse(&world.fake.socket(), &["logs", "-f", "web"]);
    let sink = || File::create("/dev/null").unwrap();
    let streams = Streams { stdin: sink(), stdout: stdout.into(), stderr: sink() };
    let command = thread::spawn(move || finish(cli, &streams));
    let mut following = Following { output: output.into(), command };
    fs::write(hidden.join("0.log"), out(1, "here")).unwrap();
    fs::rename(&hidden, world.dir.path()).unwrap();
    following.expect("here\n");
    world.live.store(false, Ordering::SeqCst);
    following.ends("");
}

#[test]
fn following_ends_when_nobody_reads() {
    let world = World::new(0);
    world.write("0.log", &out(1, "a"));
    let mut following = world.follow(&[]);
    following.expect("a\n");
    drop(following.output);
    assert_eq!(following.command.join().unwrap(), 141);
}
