//! The manifests folder, watched.

use super::parse::{MANIFEST_BYTES_MAX, Problem, parse};
use super::set::{FileContent, ManifestSet, join, keep_broken};
use anyhow::{Context, Result};
use notify::{RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Changes this close together are read as one: an editor's save is several.
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
    stamps: BTreeMap<PathBuf, Stamp>,
    files: BTreeMap<PathBuf, FileContent>,
}

impl Folder {
    /// Nothing is read yet.
    pub fn new(dir: PathBuf, node: String) -> Self {
        Self { dir, node, stamps: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// Reads what has changed.
    pub fn scan(&mut self) -> ManifestSet {
        let mut set = match self.read_changed() {
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

    fn read_changed(&mut self) -> Result<()> {
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).with_context(|| format!("read the folder {}", self.dir.display()))? {
            let path = entry?.path();
            if let Some(stamp) = is_manifest(&path).then(|| stamp(&path)).flatten() {
                present.insert(path, stamp);
            }
        }
        self.files.retain(|path, _| present.contains_key(path));
        for (path, stamp) in &present {
            if self.stamps.get(path) == Some(stamp) {
                continue;
            }
            let before = self.files.remove(path).unwrap_or_default();
            self.files.insert(path.clone(), keep_broken(&before, read_one(path, stamp.size)));
        }
        self.stamps = present;
        Ok(())
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
/// this returns.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch_folder(dir: &Path, node: &str) -> Result<watch::Receiver<ManifestSet>> {
    let dir = dir.canonicalize().with_context(|| format!("find the manifests folder {}", dir.display()))?;
    let (tell, mut heard) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |_| {
        // A full channel already says that something changed.
        let _ = tell.try_send(());
    })
    .context("set up inotify")?;
    watcher.watch(&dir, RecursiveMode::NonRecursive).with_context(|| format!("watch {}", dir.display()))?;
    let mut folder = Folder::new(dir, node.to_owned());
    let (publish, receiver) = watch::channel(folder.scan());
    tokio::spawn(async move {
        let _watcher = watcher;
        loop {
            let _ = tokio::time::timeout(RESCAN, heard.recv()).await;
            tokio::time::sleep(SETTLE).await;
            let _ = heard.try_recv();
            let set = folder.scan();
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
