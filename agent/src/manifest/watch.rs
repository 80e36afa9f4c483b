//! The manifests folder, watched.

use super::parse::{MANIFEST_BYTES_MAX, Problem, parse};
use super::set::{FileContent, ManifestSet, join, keep_broken};
use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// So long is waited for a file that is being written to be closed, and for one that
/// is gone to come back: an editor's save is several steps.
const SETTLE: Duration = Duration::from_millis(40);
/// The folder is read again after so long even when nothing was heard, should the
/// kernel's queue of events have overflowed.
const RESCAN: Duration = Duration::from_secs(30);

/// What tells a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Reads a folder and remembers what it read.
pub(crate) struct Folder {
    dir: PathBuf,
    node: String,
    memory: Memory,
    stamps: BTreeMap<PathBuf, Stamp>,
    files: BTreeMap<PathBuf, FileContent>,
}

impl Folder {
    /// Nothing is read yet.
    pub fn new(dir: PathBuf, node: String, memory: PathBuf) -> Self {
        Self { dir, node, memory: Memory(memory), stamps: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// Reads what has changed. Files that are gone are taken for gone only when
    /// `settled`.
    pub fn scan(&mut self, settled: bool) -> ManifestSet {
        let mut set = match self.read_changed(settled) {
            Ok(()) => join(&self.files, &self.node),
            Err(error) => {
                // The folder itself cannot be read: everything stays as it was.
                let mut set = join(&self.files, &self.node);
                set.problems.push(Problem { file: self.dir.clone(), object: None, message: format!("{error:#}") });
                set
            }
        };
        set.problems.sort_by(|a, b| (&a.file, &a.message).cmp(&(&b.file, &b.message)));
        set
    }

    fn read_changed(&mut self, settled: bool) -> Result<()> {
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).with_context(|| format!("read the folder {}", self.dir.display()))? {
            let path = entry?.path();
            if let Some(stamp) = is_manifest(&path).then(|| stamp(&path)).flatten() {
                present.insert(path, stamp);
            }
        }
        if settled {
            self.files.retain(|path, _| present.contains_key(path));
            self.memory.keep_only(present.keys());
        }
        for (path, stamp) in &present {
            if self.stamps.get(path) == Some(stamp) {
                continue;
            }
            let before = self.files.remove(path).or_else(|| self.memory.recall(path)).unwrap_or_default();
            let now = read_one(path, stamp.size);
            if now.problems.is_empty() {
                self.memory.keep(path);
            }
            self.files.insert(path.clone(), keep_broken(&before, now));
        }
        self.stamps = present;
        Ok(())
    }
}

/// Copies of manifests as they were when they last were sound, so that one that is
/// broken while the agent starts still stands for its objects.
struct Memory(PathBuf);

impl Memory {
    fn copy_of(&self, path: &Path) -> PathBuf {
        self.0.join(path.file_name().unwrap_or_default())
    }

    fn keep(&self, path: &Path) {
        let copy = self.copy_of(path);
        let temporary = self.0.join(".new");
        let kept = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        let kept = kept.and_then(|()| fs::copy(path, &temporary)).and_then(|_| fs::rename(&temporary, &copy));
        if let Err(error) = kept {
            tracing::warn!(copy = %copy.display(), %error, "manifest not remembered");
        }
    }

    fn recall(&self, path: &Path) -> Option<FileContent> {
        let text = fs::read_to_string(self.copy_of(path)).ok()?;
        let (found, problems) = parse(path, &text);
        Some(FileContent { found, problems })
    }

    /// Drops the copies of files that are gone.
    fn keep_only<'a>(&self, files: impl Iterator<Item = &'a PathBuf>) {
        let copies: BTreeSet<PathBuf> = files.map(|path| self.copy_of(path)).collect();
        for copy in fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if !copies.contains(&copy)
                && let Err(error) = fs::remove_file(&copy)
            {
                tracing::warn!(copy = %copy.display(), %error, "copy of a manifest not removed");
            }
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
    known && !hidden
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) })
}

fn read_one(path: &Path, size: u64) -> FileContent {
    let broken = |message: String| FileContent {
        found: Vec::new(),
        problems: vec![Problem { file: path.to_owned(), object: None, message }],
    };
    if size > MANIFEST_BYTES_MAX {
        return broken(format!("{size} bytes are more than a manifest may have ({MANIFEST_BYTES_MAX})"));
    }
    match fs::read(path).map(String::from_utf8) {
        Err(error) => broken(format!("cannot be read: {error}")),
        Ok(Err(_)) => broken("is not UTF-8 text".to_owned()),
        Ok(Ok(text)) => {
            let (found, problems) = parse(path, &text);
            FileContent { found, problems }
        }
    }
}

/// Watches the folder and publishes every change. The first set is there when
/// this returns. `memory` is a folder of the agent's own.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch_folder(dir: &Path, node: &str, memory: PathBuf) -> Result<watch::Receiver<ManifestSet>> {
    let dir = dir.canonicalize().with_context(|| format!("find the manifests folder {}", dir.display()))?;
    let heard = Arc::new((Notify::new(), Notify::new()));
    let tell = Arc::clone(&heard);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match news(&event) {
        News::None => {}
        News::Whole => tell.0.notify_one(),
        News::Partial => tell.1.notify_one(),
    })
    .context("set up inotify")?;
    watcher.watch(&dir, RecursiveMode::NonRecursive).with_context(|| format!("watch {}", dir.display()))?;
    let mut folder = Folder::new(dir, node.to_owned(), memory);
    let (publish, receiver) = watch::channel(folder.scan(true));
    tokio::spawn(async move {
        let _watcher = watcher;
        loop {
            let settled = wait(&heard.0, &heard.1).await;
            let set = folder.scan(settled);
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

/// What an event says of the folder.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Somebody reads; the agent itself does.
    None,
    /// A manifest is there as it is to be.
    Whole,
    /// Something is going on.
    Partial,
}

fn news(event: &notify::Result<notify::Event>) -> News {
    use notify::EventKind;
    use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
    let Ok(event) = event else { return News::Partial };
    let manifest = event.paths.iter().any(|path| is_manifest(path));
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To))
            if manifest =>
        {
            News::Whole
        }
        EventKind::Access(_) => News::None,
        _ => News::Partial,
    }
}

/// Waits for news, or for the time to look again; `true` when nothing is under way.
async fn wait(whole: &Notify, partial: &Notify) -> bool {
    tokio::select! {
        biased;
        () = whole.notified() => false,
        () = partial.notified() => {
            let settled = tokio::time::timeout(SETTLE, whole.notified()).await.is_err();
            if !settled {
                partial.notify_one();
            }
            settled
        }
        () = tokio::time::sleep(RESCAN) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: busybox}]}\n";

    #[test]
    fn a_file_broken_over_a_restart_still_stands_for_its_objects() {
        let dir = tempfile::tempdir().unwrap();
        let (manifests, memory) = (dir.path().join("m"), dir.path().join("memory"));
        fs::create_dir(&manifests).unwrap();
        let file = manifests.join("a.yaml");
        let scan = || Folder::new(manifests.clone(), "n".to_owned(), memory.clone()).scan(true);
        fs::write(&file, POD).unwrap();
        let sound = scan();
        assert_eq!(sound.pods.len(), 1);
        fs::write(&file, "kind: [").unwrap();
        let broken = scan();
        assert_eq!((broken.pods, broken.problems.len()), (sound.pods, 1));
    }

    #[test]
    fn a_deleted_file_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("memory");
        let manifests = dir.path().join("m");
        fs::create_dir(&manifests).unwrap();
        fs::write(manifests.join("a.yaml"), POD).unwrap();
        let mut folder = Folder::new(manifests.clone(), "n".to_owned(), memory.clone());
        assert_eq!(folder.scan(true).pods.len(), 1);
        fs::remove_file(manifests.join("a.yaml")).unwrap();
        assert_eq!(folder.scan(false).pods.len(), 1, "an editor may be putting it back");
        assert!(folder.scan(true).pods.is_empty());
        assert_eq!(fs::read_dir(memory).unwrap().count(), 0);
    }

    #[test]
    fn what_is_whole_is_read_at_once() {
        use notify::event::{AccessKind, AccessMode, CreateKind, Event, EventKind, ModifyKind, RemoveKind, RenameMode};
        let check = |kind: EventKind, path: &str, want: News| {
            assert_eq!(news(&Ok(Event::new(kind).add_path(path.into()))), want, "{kind:?} {path}");
        };
        check(EventKind::Access(AccessKind::Open(AccessMode::Any)), "a.yaml", News::None);
        check(EventKind::Access(AccessKind::Close(AccessMode::Read)), "a.yaml", News::None);
        check(EventKind::Access(AccessKind::Close(AccessMode::Write)), "a.yaml", News::Whole);
        check(EventKind::Access(AccessKind::Close(AccessMode::Write)), ".a.yaml.swp", News::None);
        check(EventKind::Create(CreateKind::File), "a.yaml", News::Partial);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "a.yaml", News::Whole);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "a.yaml~", News::Partial);
        check(EventKind::Modify(ModifyKind::Name(RenameMode::From)), "a.yaml", News::Partial);
        check(EventKind::Remove(RemoveKind::File), "a.yaml", News::Partial);
    }

    #[test]
    fn other_files_are_no_manifests() {
        for (name, is) in [("a.yaml", true), ("a.yml", true), ("a.json", true), (".a.yaml", false), ("a.yaml~", false)]
        {
            assert_eq!(is_manifest(Path::new(name)), is, "{name}");
        }
    }
}
