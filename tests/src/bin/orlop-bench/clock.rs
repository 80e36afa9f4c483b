//! When a process runs: it makes a file, and inotify says so at once.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a process may take to run: far more than it ever does.
const RUNS_WITHIN: Duration = Duration::from_secs(60);

/// A folder in which processes make files.
pub struct Marks {
    folder: PathBuf,
    inotify: Inotify,
    seen: BTreeMap<String, Instant>,
}

impl Marks {
    /// Makes the folder.
    ///
    /// # Panics
    /// It cannot be made or watched.
    pub fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("make the folder of marks");
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).expect("inotify");
        inotify.add_watch(&folder, AddWatchFlags::IN_CREATE).expect("watch the folder of marks");
        Self { folder, inotify, seen: BTreeMap::new() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// When the file was made; waits for it.
    ///
    /// # Panics
    /// It does not come within a minute.
    pub fn wait(&mut self, name: &str) -> Instant {
        let until = Instant::now() + RUNS_WITHIN;
        let at = self.wait_while(name, || Instant::now() < until);
        at.unwrap_or_else(|| panic!("{name} did not run within {RUNS_WITHIN:?}"))
    }

    /// As [`Marks::wait`], for as long as `hope` says.
    pub fn wait_while(&mut self, name: &str, hope: impl Fn() -> bool) -> Option<Instant> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        loop {
            if let Some(at) = self.seen.remove(name) {
                return Some(at);
            }
            let last = !hope();
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, if last { PollTimeout::ZERO } else { PollTimeout::from(200_u16) });
            let now = Instant::now();
            for event in self.inotify.read_events().unwrap_or_default() {
                self.seen.extend(event.name.and_then(|name| name.into_string().ok()).map(|name| (name, now)));
            }
            if last {
                return self.seen.remove(name);
            }
        }
    }
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A note on how busy the machine is, beside the benches themselves.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("load average {} on {cpus} CPUs", load.split(' ').next().unwrap_or("unknown"))
}
