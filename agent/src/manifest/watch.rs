//! Watches the manifests folder.

use super::folder::{Folder, Heard, SETTLE, is_manifest};
use super::set::ManifestSet;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};
use orlop_kernel::AsyncInotify;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The folder is read again after so long even when nothing was heard.
const RESCAN: Duration = Duration::from_secs(30);
/// The same where changes make no sound: behind symbolic links, or while the folder
/// is not there.
const RESCAN_UNHEARD: Duration = Duration::from_millis(500);
/// A file that is open for writing and has not changed for so long is read all the same.
const WRITER_SILENT_MAX: Duration = Duration::from_secs(30);

/// The folder's watch: on an inode, which another may take the place of.
///
/// The kernel queues an event before the system call that caused it returns. So who
/// has read a file and then empties the queue knows of every write before the
/// reading; a thread between (the `notify` crate's) would leave that to chance.
struct Watch {
    inotify: AsyncInotify,
    dir: PathBuf,
    on: Option<(WatchDescriptor, (u64, u64))>,
    /// Files that are being written, and when they last were.
    written: BTreeMap<PathBuf, Instant>,
    /// The last [`Watch::hear`] took an event. What it told of may have happened
    /// after the look at the folder, and nothing will tell of it again.
    heard: bool,
}

impl Watch {
    fn new(dir: &Path) -> Result<Self> {
        let inotify = AsyncInotify::new()?;
        let mut watch = Self { inotify, dir: dir.to_owned(), on: None, written: BTreeMap::new(), heard: false };
        watch.follow().with_context(|| format!("watch {}", dir.display()))?;
        Ok(watch)
    }

    /// Watches what is at the path now.
    fn follow(&mut self) -> Result<()> {
        let inode = fs::metadata(&self.dir).map(|meta| (meta.dev(), meta.ino()));
        if let (Some((_, on)), Ok(inode)) = (&self.on, &inode)
            && on == inode
        {
            return Ok(());
        }
        if let Some((old, _)) = self.on.take() {
            // The watch of an inode that is gone is gone already.
            let _ = self.inotify.rm_watch(old);
            self.written.clear();
        }
        let inode = inode?;
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MOVE_SELF;
        self.on = Some((self.inotify.add_watch(&self.dir, what | AddWatchFlags::IN_ONLYDIR)?, inode));
        Ok(())
    }

    /// Takes all events up to now.
    fn hear(&mut self) -> Heard {
        let now = Instant::now();
        self.heard = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    self.heard |= !events.is_empty();
                    events.iter().for_each(|event| self.take(event, now));
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        self.written.retain(|_, last| now.duration_since(*last) < WRITER_SILENT_MAX);
        Heard { now, written: self.written.keys().cloned().collect() }
    }

    fn take(&mut self, event: &InotifyEvent, now: Instant) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.written.clear();
        }
        let Some(path) = event.name.as_ref().map(|name| self.dir.join(name)).filter(|path| is_manifest(path)) else {
            return;
        };
        if being_written(event.mask, &path) {
            self.written.insert(path, now);
        } else {
            self.written.remove(&path);
        }
    }
}

/// Whether an event says that the file's closing will be heard later.
fn being_written(mask: AddWatchFlags, path: &Path) -> bool {
    if mask.contains(AddWatchFlags::IN_CREATE) {
        // A link, hard or symbolic, comes whole and is never closed.
        return fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.nlink() == 1);
    }
    mask.contains(AddWatchFlags::IN_MODIFY)
}

/// Watches the folder and publishes every change. The first set is there when
/// this returns. `memory` is a folder of the agent's own.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch_folder(dir: &Path, node: &str, memory: PathBuf) -> Result<watch::Receiver<ManifestSet>> {
    let dir = std::path::absolute(dir).with_context(|| format!("find the manifests folder {}", dir.display()))?;
    let mut watch = Watch::new(&dir)?;
    let mut folder = Folder::new(dir, node.to_owned(), memory);
    let (publish, receiver) = watch::channel(folder.scan(|| watch.hear()));
    tokio::spawn(async move {
        loop {
            let unheard = folder.has_links() || watch.on.is_none() || watch.dir.is_symlink();
            let patience = match (folder.in_doubt() || watch.heard, unheard) {
                (true, _) => SETTLE,
                (false, true) => RESCAN_UNHEARD,
                (false, false) => RESCAN,
            };
            watch.inotify.wait(patience).await;
            if let Err(error) = watch.follow() {
                tracing::debug!(dir = %watch.dir.display(), err = %format!("{error:#}"), "the manifests folder is away");
            }
            // What woke it; the look at the folder that follows sees its effect.
            watch.hear();
            let set = folder.scan(|| watch.hear());
            publish.send_if_modified(|old| {
                let changed = *old != set;
                *old = set;
                changed
            });
            if publish.is_closed() {
                return;
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_an_event_says() {
        use AddWatchFlags as Flags;
        let dir = tempfile::tempdir().unwrap();
        let (file, link, hard) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        let check = |mask, path: &Path, want| assert_eq!(being_written(mask, path), want, "{mask:?} {path:?}");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        check(Flags::IN_CREATE, &file, true);
        check(Flags::IN_CREATE, &link, false);
        fs::hard_link(&file, &hard).unwrap();
        check(Flags::IN_CREATE, &hard, false);
        check(Flags::IN_MODIFY, &file, true);
        for whole in [Flags::IN_CLOSE_WRITE, Flags::IN_MOVED_TO, Flags::IN_MOVED_FROM, Flags::IN_DELETE] {
            check(whole, &file, false);
        }
    }

    fn pod(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n---\n"
        )
    }

    async fn until(sets: &mut watch::Receiver<ManifestSet>, pods: &[&str]) {
        let holds = |set: &ManifestSet| set.pods.keys().map(String::as_str).eq(pods.iter().copied());
        let wait = tokio::time::timeout(Duration::from_secs(20), sets.wait_for(holds)).await;
        wait.unwrap_or_else(|_| panic!("never {pods:?}")).unwrap();
    }

    #[tokio::test]
    async fn a_slow_writer_takes_nothing_away() {
        let dir = tempfile::tempdir().unwrap();
        let (manifests, file) = (dir.path().join("m"), dir.path().join("m/a.yaml"));
        fs::create_dir(&manifests).unwrap();
        fs::write(&file, pod("a")).unwrap();
        let mut sets = watch_folder(&manifests, "n", dir.path().join("memory")).unwrap();
        let mut writer = fs::File::create(&file).unwrap();
        // Another file tells when the first one's emptiness has been heard of.
        for round in 0..10 {
            let name = format!("b{round}");
            fs::write(manifests.join("b.yaml"), pod(&name)).unwrap();
            until(&mut sets, &["default/a", &format!("default/{name}")]).await;
        }
        writer.write_all((pod("a") + &pod("c")).as_bytes()).unwrap();
        drop(writer);
        until(&mut sets, &["default/a", "default/b9", "default/c"]).await;
    }

    /// What `cp set/* manifests/` does, over and over: no look may find a pod gone or
    /// another than it is.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_same_content_written_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = dir.path().join("m");
        fs::create_dir(&manifests).unwrap();
        // The pod is spread over several writes.
        let padding = "# padding\n".repeat(4000);
        let text = |n: usize| {
            let lines: String = (0..200).map(|i| format!("    - \"{i}\"\n")).collect();
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}}}\nspec:\n  containers:\n  - name: c\n    image: i\n    args:\n{lines}{padding}"
            )
        };
        let write = |n: usize| {
            let mut file = fs::File::create(manifests.join(format!("{n}.yaml"))).unwrap();
            text(n).as_bytes().chunks(700).for_each(|chunk| file.write_all(chunk).unwrap());
        };
        (0..6).for_each(write);
        let mut sets = watch_folder(&manifests, "n", dir.path().join("memory")).unwrap();
        until(&mut sets, &["default/p0", "default/p1", "default/p2", "default/p3", "default/p4", "default/p5"]).await;
        let first = sets.borrow_and_update().pods.clone();
        let writer = std::thread::scope(|scope| scope.spawn(|| (0..40).for_each(|_| (0..6).for_each(write))).join());
        writer.unwrap();
        fs::write(manifests.join("last.yaml"), pod("last")).unwrap();
        loop {
            tokio::time::timeout(Duration::from_secs(20), sets.changed()).await.unwrap().unwrap();
            let mut pods = sets.borrow_and_update().pods.clone();
            let last = pods.remove("default/last").is_some();
            assert_eq!(pods, first);
            if last {
                return;
            }
        }
    }

    #[tokio::test]
    async fn another_folder_in_its_place_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = dir.path().join("m");
        fs::create_dir(&manifests).unwrap();
        fs::write(manifests.join("a.yaml"), pod("a")).unwrap();
        let mut sets = watch_folder(&manifests, "n", dir.path().join("memory")).unwrap();
        fs::rename(&manifests, dir.path().join("old")).unwrap();
        fs::create_dir(&manifests).unwrap();
        fs::write(manifests.join("b.yaml"), pod("b")).unwrap();
        until(&mut sets, &["default/b"]).await;
        fs::write(manifests.join("c.yaml"), pod("c")).unwrap();
        until(&mut sets, &["default/b", "default/c"]).await;
    }

    #[tokio::test]
    async fn links_are_followed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (folder, name) in [("v1", "a"), ("v2", "b")] {
            fs::create_dir(path(folder)).unwrap();
            fs::write(path(folder).join("x.yaml"), pod(name)).unwrap();
        }
        symlink(path("v1"), path("m")).unwrap();
        let mut sets = watch_folder(&path("m"), "n", path("memory")).unwrap();
        until(&mut sets, &["default/a"]).await;
        symlink(path("v2"), path("new")).unwrap();
        fs::rename(path("new"), path("m")).unwrap();
        until(&mut sets, &["default/b"]).await;
    }
}
