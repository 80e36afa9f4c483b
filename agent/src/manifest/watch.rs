//! Watches the manifests folder.

use super::folder::{Folder, SETTLE, is_manifest};
use super::set::ManifestSet;
use anyhow::{Context, Result};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The folder is read again after so long even when nothing was heard, should the
/// kernel's queue of events have overflowed.
const RESCAN: Duration = Duration::from_secs(30);
/// The same where changes make no sound: behind symbolic links, or while the folder
/// is not there.
const RESCAN_UNHEARD: Duration = Duration::from_millis(500);
/// A file that is open for writing and has not changed for so long is read all the same.
const WRITER_SILENT_MAX: Duration = Duration::from_secs(30);

/// What has been heard.
#[derive(Debug, Default)]
struct Heard {
    /// Files that are being written, and when they last were.
    written: Mutex<BTreeMap<PathBuf, Instant>>,
    news: Notify,
}

impl Heard {
    fn written(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Instant>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: &Event, now: Instant) {
        let mut written = self.written();
        for path in &event.paths {
            match file_news(event.kind, path) {
                FileNews::None => return,
                FileNews::Written if is_manifest(path) => {
                    written.insert(path.clone(), now);
                }
                FileNews::Written | FileNews::Whole => {
                    written.remove(path);
                }
            }
        }
        if event.need_rescan() {
            written.clear();
        }
        self.news.notify_one();
    }

    /// Files that are being written now.
    fn being_written(&self, now: Instant) -> BTreeSet<PathBuf> {
        let mut written = self.written();
        written.retain(|_, last| now.duration_since(*last) < WRITER_SILENT_MAX);
        written.keys().cloned().collect()
    }
}

/// What an event says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileNews {
    /// Nothing: somebody reads; the agent itself does.
    None,
    /// It is being written; its closing will be heard.
    Written,
    /// It is as it is to be, or gone.
    Whole,
}

fn file_news(kind: EventKind, path: &Path) -> FileNews {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => FileNews::Whole,
        EventKind::Access(_) => FileNews::None,
        EventKind::Modify(ModifyKind::Data(_)) => FileNews::Written,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => FileNews::Whole,
        // A link, hard or symbolic, comes whole and is never closed.
        EventKind::Create(_) => match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() && meta.nlink() == 1 => FileNews::Written,
            Ok(_) | Err(_) => FileNews::Whole,
        },
        EventKind::Any | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => FileNews::Whole,
    }
}

/// The folder's watch: on an inode, which another may take the place of.
struct Watch {
    watcher: RecommendedWatcher,
    dir: PathBuf,
    inode: Option<(u64, u64)>,
}

impl Watch {
    fn new(dir: &Path, heard: &Arc<Heard>) -> Result<Self> {
        let heard = Arc::clone(heard);
        let tell = move |event: notify::Result<Event>| match event {
            Ok(event) => heard.take(&event, Instant::now()),
            Err(_) => heard.news.notify_one(),
        };
        let watcher = notify::recommended_watcher(tell).context("set up inotify")?;
        let mut watch = Self { watcher, dir: dir.to_owned(), inode: None };
        watch.follow().with_context(|| format!("watch {}", dir.display()))?;
        Ok(watch)
    }

    /// Watches what is at the path now.
    fn follow(&mut self) -> Result<()> {
        let meta = fs::metadata(&self.dir);
        let inode = meta.as_ref().ok().map(|meta| (meta.dev(), meta.ino()));
        if inode == self.inode && inode.is_some() {
            return Ok(());
        }
        if self.inode.take().is_some() {
            // The watch of an inode that is gone is gone.
            let _ = self.watcher.unwatch(&self.dir);
        }
        meta?;
        self.watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
        self.inode = inode;
        Ok(())
    }
}

/// Watches the folder and publishes every change. The first set is there when
/// this returns. `memory` is a folder of the agent's own.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch_folder(dir: &Path, node: &str, memory: PathBuf) -> Result<watch::Receiver<ManifestSet>> {
    let dir = std::path::absolute(dir).with_context(|| format!("find the manifests folder {}", dir.display()))?;
    let heard = Arc::new(Heard::default());
    let mut watch = Watch::new(&dir, &heard)?;
    let mut folder = Folder::new(dir.clone(), node.to_owned(), memory);
    let (publish, receiver) = watch::channel(folder.scan(Instant::now(), &BTreeSet::new()));
    tokio::spawn(async move {
        loop {
            let unheard = folder.has_links() || watch.inode.is_none() || dir.is_symlink();
            let patience = match (folder.in_doubt(), unheard) {
                (true, _) => SETTLE,
                (false, true) => RESCAN_UNHEARD,
                (false, false) => RESCAN,
            };
            let _ = tokio::time::timeout(patience, heard.news.notified()).await;
            if let Err(error) = watch.follow() {
                tracing::debug!(dir = %dir.display(), err = %format!("{error:#}"), "the manifests folder is away");
            }
            let now = Instant::now();
            let set = folder.scan(now, &heard.being_written(now));
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
    use notify::event::{CreateKind, DataChange, RemoveKind};
    use std::io::Write;

    #[test]
    fn what_an_event_says() {
        let check = |kind: EventKind, want: FileNews| assert_eq!(file_news(kind, Path::new("/none")), want, "{kind:?}");
        check(EventKind::Access(AccessKind::Open(AccessMode::Any)), FileNews::None);
        check(EventKind::Access(AccessKind::Close(AccessMode::Read)), FileNews::None);
        check(EventKind::Access(AccessKind::Close(AccessMode::Write)), FileNews::Whole);
        check(EventKind::Modify(ModifyKind::Data(DataChange::Any)), FileNews::Written);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::To)), FileNews::Whole);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::From)), FileNews::Whole);
        check(EventKind::Create(CreateKind::File), FileNews::Whole);
        check(EventKind::Remove(RemoveKind::File), FileNews::Whole);
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
