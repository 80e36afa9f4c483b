//! A place of its own for a part of the demonstration: a thread in namespaces that
//! end with it. What the thread starts or opens is in those namespaces, too, so
//! nothing on the host has a name that could be left behind.

use std::path::Path;
use std::process::{Command, Stdio, id};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

type Job = Box<dyn FnOnce() + Send>;

/// A running thread in a network namespace of its own.
pub struct Place {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    netns: String,
}

impl Place {
    /// A place with nothing but loopback in its network; with `bpffs`, also with mounts
    /// of its own, among them a fresh bpffs at that folder.
    pub fn new(name: &str, bpffs: Option<&Path>) -> Result<Self> {
        let bpffs = bpffs.map(Path::to_path_buf);
        let (jobs, queue) = channel::<Job>();
        let (ready, is_ready) = sync_channel::<Result<String>>(1);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            let entered = enter(bpffs.as_deref());
            let go = entered.is_ok();
            if ready.send(entered).is_ok() && go {
                queue.into_iter().for_each(|job| job());
            }
        });
        let thread = thread.context("start a thread")?;
        let netns = is_ready.recv().map_err(|_| anyhow!("the thread of {name} ended"))??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), netns })
    }

    /// Path of the network namespace, valid in this process and its children.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// Does something there and waits for it.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = sync_channel(1);
        let send = move || {
            let _ = answer.send(job());
        };
        self.jobs
            .as_ref()
            .and_then(|jobs| jobs.send(Box::new(send)).ok())
            .ok_or_else(|| anyhow!("the thread of this namespace has ended"))?;
        answered.recv().map_err(|_| anyhow!("the thread of this namespace has ended"))?
    }

    /// Runs `ip` there.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new("ip").args(&arguments).stdin(Stdio::null()).output().context("start ip")?;
            if !output.status.success() {
                bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread, and only it, into new namespaces.
fn enter(bpffs: Option<&Path>) -> Result<String> {
    let flags =
        if bpffs.is_some() { CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS } else { CloneFlags::CLONE_NEWNET };
    unshare(flags).context("make namespaces")?;
    if let Some(folder) = bpffs {
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
        mount(Some("bpffs"), folder, Some("bpf"), MsFlags::empty(), none)
            .with_context(|| format!("mount a bpffs at {}", folder.display()))?;
    }
    Ok(format!("/proc/{}/task/{}/ns/net", id(), gettid()))
}
