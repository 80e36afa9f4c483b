//! The manifests folder: what its files say, read when they change.
//!
//! What appears is taken at once. What vanishes, a file or an object out of a file,
//! is taken for gone only when it still is a moment later: an editor's save and a
//! shell's redirection empty a file before they fill it.

use super::parse::{MANIFEST_BYTES_MAX, Problem, parse};
use super::set::{FileContent, ManifestSet, join, keep_broken};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So long what vanished has to stay away.
pub(super) const SETTLE: Duration = Duration::from_millis(40);

/// What tells a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// What vanished: how its file looked then (`None`: not at all), and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doubt {
    stamp: Option<Stamp>,
    since: Instant,
}

/// What is going on in the folder.
#[derive(Debug)]
pub(crate) struct Heard {
    /// When.
    pub now: Instant,
    /// Files that somebody is writing.
    pub written: BTreeSet<PathBuf>,
}

/// A file as it was read: `None` when it is gone, an error's text when it cannot be read.
struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    text: Option<Result<String, String>>,
}

impl Seen {
    fn look(path: &Path, stamp: Option<Stamp>) -> Self {
        Self { path: path.to_owned(), stamp, text: stamp.map(|stamp| read_one(path, stamp.size)) }
    }
}

/// Reads a folder and remembers what it read.
pub(crate) struct Folder {
    dir: PathBuf,
    node: String,
    memory: Memory,
    stamps: BTreeMap<PathBuf, Stamp>,
    files: BTreeMap<PathBuf, FileContent>,
    doubts: BTreeMap<PathBuf, Doubt>,
    /// Some file was being written.
    unread: bool,
    links: bool,
}

impl Folder {
    /// Nothing is read yet. `memory` is a folder of the agent's own.
    pub fn new(dir: PathBuf, node: String, memory: PathBuf) -> Self {
        Self {
            dir,
            node,
            memory: Memory(memory),
            stamps: BTreeMap::new(),
            files: BTreeMap::new(),
            doubts: BTreeMap::new(),
            unread: false,
            links: false,
        }
    }

    /// Something vanished or could not be read whole and has to be looked at again
    /// after [`SETTLE`].
    pub fn in_doubt(&mut self) -> bool {
        std::mem::take(&mut self.unread) || !self.doubts.is_empty()
    }

    /// Some manifest is a symbolic link: what it points to changes unheard.
    pub fn has_links(&self) -> bool {
        self.links
    }

    /// Reads what has changed. `hear` tells what is going on at the moment it is
    /// called; it is called after the reading, so that nothing half-written is taken.
    pub fn scan(&mut self, hear: impl FnOnce() -> Heard) -> ManifestSet {
        let trouble = self.read_changed(hear).err();
        let mut set = join(&self.files, &self.node);
        // The folder itself cannot be read: everything stays as it was.
        set.problems.extend(trouble.map(|error| Problem {
            file: self.dir.clone(),
            object: None,
            message: format!("{error:#}"),
        }));
        set.problems.sort_by(|a, b| (&a.file, &a.message).cmp(&(&b.file, &b.message)));
        set
    }

    fn read_changed(&mut self, hear: impl FnOnce() -> Heard) -> Result<()> {
        let mut present = BTreeMap::new();
        self.links = false;
        for entry in fs::read_dir(&self.dir).with_context(|| format!("read the folder {}", self.dir.display()))? {
            let entry = entry?;
            if let Some(stamp) = is_manifest(&entry.path()).then(|| stamp(&entry.path())).flatten() {
                self.links |= entry.file_type().is_ok_and(|kind| kind.is_symlink());
                present.insert(entry.path(), stamp);
            }
        }
        let known: BTreeSet<PathBuf> = self.files.keys().chain(present.keys()).cloned().collect();
        let changed = |path: &PathBuf| !present.contains_key(path) || present.get(path) != self.stamps.get(path);
        let (changed, same): (Vec<PathBuf>, Vec<PathBuf>) = known.into_iter().partition(changed);
        self.doubts.retain(|path, _| !same.contains(path));
        let seen: Vec<Seen> = changed.into_iter().map(|path| Seen::look(&path, present.get(&path).copied())).collect();
        let heard = hear();
        for seen in seen {
            // Whoever writes has not finished, or has begun after the look at the folder.
            if heard.written.contains(&seen.path) || stamp(&seen.path) != seen.stamp {
                self.doubts.remove(&seen.path);
                self.unread = true;
            } else {
                self.take(seen, heard.now);
            }
        }
        self.memory.keep_only(self.files.keys());
        Ok(())
    }

    fn take(&mut self, seen: Seen, now: Instant) {
        let Seen { path, stamp, text } = seen;
        let before = self.files.get(&path).cloned().or_else(|| self.memory.recall(&path)).unwrap_or_default();
        let content = text.as_ref().map(|text| keep_broken(&before, understand(&path, text.as_deref())));
        let given = |name: &str| content.iter().flat_map(|c| &c.found).any(|found| found.name == name);
        if !before.found.iter().all(|found| given(&found.name)) && !self.confirmed(&path, stamp, now) {
            // Until then it is as it was; the first time after a start, as remembered.
            self.files.entry(path).or_insert(before);
            return;
        }
        self.doubts.remove(&path);
        match (content, text, stamp) {
            (Some(content), Some(text), Some(stamp)) => {
                if let (true, Ok(text)) = (content.problems.is_empty(), text) {
                    self.memory.keep(&path, &text);
                }
                self.stamps.insert(path.clone(), stamp);
                self.files.insert(path, content);
            }
            _ => {
                self.stamps.remove(&path);
                self.files.remove(&path);
            }
        }
    }

    /// Whether the same was seen long enough ago; notes it if not.
    fn confirmed(&mut self, path: &Path, stamp: Option<Stamp>, now: Instant) -> bool {
        let doubt = self.doubts.entry(path.to_owned()).or_insert(Doubt { stamp, since: now });
        if doubt.stamp != stamp {
            *doubt = Doubt { stamp, since: now };
        }
        now.duration_since(doubt.since) >= SETTLE
    }
}

/// Copies of manifests as they were when they last were sound, so that one that is
/// broken while the agent starts still stands for its objects.
struct Memory(PathBuf);

impl Memory {
    fn copy_of(&self, path: &Path) -> PathBuf {
        self.0.join(path.file_name().unwrap_or_default())
    }

    fn keep(&self, path: &Path, text: &str) {
        let copy = self.copy_of(path);
        let temporary = self.0.join(".new");
        let kept = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        let kept = kept.and_then(|()| fs::write(&temporary, text)).and_then(|()| fs::rename(&temporary, &copy));
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

/// Whether a file of this name counts: YAML or JSON, and not hidden.
pub(super) fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
    known && !hidden
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) })
}

fn read_one(path: &Path, size: u64) -> Result<String, String> {
    if size > MANIFEST_BYTES_MAX {
        return Err(format!("{size} bytes are more than a manifest may have ({MANIFEST_BYTES_MAX})"));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

fn understand(path: &Path, text: Result<&str, &String>) -> FileContent {
    match text {
        Ok(text) => {
            let (found, problems) = parse(path, text);
            FileContent { found, problems }
        }
        Err(message) => {
            let problem = Problem { file: path.to_owned(), object: None, message: message.clone() };
            FileContent { found: Vec::new(), problems: vec![problem] }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: busybox}]}\n";

    struct Bench {
        dir: tempfile::TempDir,
        folder: Folder,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("m")).unwrap();
            Self { folder: Self::folder(&dir), dir, start: Instant::now() }
        }
        fn folder(dir: &tempfile::TempDir) -> Folder {
            Folder::new(dir.path().join("m"), "n".to_owned(), dir.path().join("memory"))
        }
        fn file(&self) -> PathBuf {
            self.dir.path().join("m/a.yaml")
        }
        /// Pods and problems after a look at `ms` after the start.
        fn look(&mut self, ms: u64) -> (usize, usize) {
            let now = self.start + Duration::from_millis(ms);
            let set = self.folder.scan(|| Heard { now, written: BTreeSet::new() });
            (set.pods.len(), set.problems.len())
        }
    }

    #[test]
    fn a_file_broken_over_a_restart_still_stands_for_its_objects() {
        let mut bench = Bench::new();
        fs::write(bench.file(), POD).unwrap();
        assert_eq!(bench.look(0), (1, 0));
        fs::write(bench.file(), "kind: [").unwrap();
        bench.folder = Bench::folder(&bench.dir);
        assert_eq!(bench.look(0), (1, 1));
        assert_eq!(bench.look(1000), (1, 1));
    }

    #[test]
    fn what_vanishes_is_gone_when_it_stays_away() {
        let mut bench = Bench::new();
        fs::write(bench.file(), POD).unwrap();
        assert_eq!(bench.look(0), (1, 0));
        for gone in [|path: &Path| fs::remove_file(path), |path: &Path| fs::write(path, "")] {
            fs::write(bench.file(), POD).unwrap();
            assert_eq!(bench.look(0), (1, 0));
            gone(&bench.file()).unwrap();
            assert_eq!(bench.look(0), (1, 0), "it may come back");
            assert!(bench.folder.in_doubt());
            assert_eq!(bench.look(39), (1, 0));
            assert_eq!(bench.look(40), (0, 0));
            assert!(!bench.folder.in_doubt());
        }
    }

    #[test]
    fn what_comes_back_was_never_gone() {
        let mut bench = Bench::new();
        fs::write(bench.file(), POD).unwrap();
        bench.look(0);
        fs::write(bench.file(), "").unwrap();
        assert_eq!(bench.look(10), (1, 0));
        fs::write(bench.file(), POD).unwrap();
        assert_eq!(bench.look(60), (1, 0));
        fs::write(bench.file(), "").unwrap();
        assert_eq!(bench.look(70), (1, 0), "a new doubt has its own time");
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let mut bench = Bench::new();
        fs::write(bench.file(), POD).unwrap();
        bench.look(0);
        fs::write(bench.file(), "").unwrap();
        let written = BTreeSet::from([bench.file()]);
        for ms in [0, 1000, 2000] {
            let (now, written) = (bench.start + Duration::from_millis(ms), written.clone());
            let set = bench.folder.scan(|| Heard { now, written });
            assert_eq!(set.pods.len(), 1);
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again() {
        let mut bench = Bench::new();
        fs::write(bench.file(), POD.replace("busybox", "busy")).unwrap();
        let (file, now) = (bench.file(), bench.start);
        let set = bench.folder.scan(|| {
            fs::write(&file, POD).unwrap();
            Heard { now, written: BTreeSet::new() }
        });
        assert!(set.pods.is_empty() && bench.folder.in_doubt());
        assert_eq!(bench.look(0), (1, 0));
    }

    #[test]
    fn the_copy_goes_with_the_file() {
        let mut bench = Bench::new();
        fs::write(bench.file(), POD).unwrap();
        bench.look(0);
        fs::remove_file(bench.file()).unwrap();
        bench.look(10);
        bench.look(100);
        assert_eq!(fs::read_dir(bench.dir.path().join("memory")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_read_changes_nothing() {
        let mut bench = Bench::new();
        fs::write(bench.file(), POD).unwrap();
        bench.look(0);
        fs::rename(bench.dir.path().join("m"), bench.dir.path().join("elsewhere")).unwrap();
        assert_eq!(bench.look(10), (1, 1));
        assert_eq!(bench.look(1000), (1, 1));
    }

    #[test]
    fn other_files_are_no_manifests() {
        for (name, is) in [("a.yaml", true), ("a.yml", true), ("a.json", true), (".a.yaml", false), ("a.yaml~", false)]
        {
            assert_eq!(is_manifest(Path::new(name)), is, "{name}");
        }
    }
}
