//! The images folder: archives and layouts that are loaded by being there.

use crate::store::{json_error, write_atomically};
use crate::{Digest, ImageError, ImageRecord, ImageStore};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Endings of files that are taken for image archives.
const ARCHIVE_ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".oci", ".oci.tar"];

/// What [`ImageStore::import_folder`] did.
#[derive(Debug, Default)]
pub struct FolderImport {
    /// Images loaded now.
    pub loaded: Vec<ImageRecord>,
    /// Archives and layouts that were loaded before and have not changed.
    pub skipped: usize,
    /// Archives and layouts that could not be loaded; the others were.
    pub failed: Vec<(PathBuf, ImageError)>,
}

/// What an archive looked like when it was loaded, and what came out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Imported {
    /// A layout's index.json by digest; an archive by inode, size and change time,
    /// which change when its content does.
    mark: String,
    images: BTreeSet<Digest>,
}

impl ImageStore {
    /// Loads every layout folder and archive directly in `dir` that was not loaded
    /// before. A missing folder is an empty one. Files that do not look like
    /// images by their ending are left alone.
    ///
    /// # Errors
    /// [`ImageError::Io`] when `dir` cannot be listed; a single bad archive is in
    /// [`FolderImport::failed`].
    pub fn import_folder(&self, dir: &Path) -> Result<FolderImport, ImageError> {
        let mut known = self.read_imported();
        let have: BTreeSet<Digest> = self.list()?.into_iter().map(|record| record.id).collect();
        let mut result = FolderImport::default();
        let mut seen = BTreeMap::new();
        for path in candidates(dir)? {
            let mark = match mark(&path) {
                Ok(mark) => mark,
                Err(error) => {
                    result.failed.push((path.clone(), ImageError::io("read", &path)(error)));
                    continue;
                }
            };
            if let Some(before) = known.remove(&path)
                && before.mark == mark
                && before.images.is_subset(&have)
            {
                result.skipped += 1;
                seen.insert(path, before);
                continue;
            }
            match self.load(&path, None) {
                Ok(records) => {
                    let images = records.iter().map(|record| record.id).collect();
                    seen.insert(path, Imported { mark, images });
                    result.loaded.extend(records);
                }
                Err(error) => result.failed.push((path, error)),
            }
        }
        // What another folder brought stays known.
        known.retain(|path, _| path.parent() != Some(dir));
        known.extend(seen);
        if !result.loaded.is_empty() {
            self.write_imported(&known)?;
        }
        Ok(result)
    }

    fn imported_path(&self) -> PathBuf {
        self.dir().join("imported.json")
    }

    /// Only a memory: when it is missing or damaged everything is loaded again,
    /// which finds all layers in place.
    fn read_imported(&self) -> BTreeMap<PathBuf, Imported> {
        fs::read(self.imported_path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn write_imported(&self, imported: &BTreeMap<PathBuf, Imported>) -> Result<(), ImageError> {
        let path = self.imported_path();
        let bytes = serde_json::to_vec_pretty(imported).map_err(|source| json_error(&path, source))?;
        write_atomically(&path, &bytes)
    }
}

/// Layouts and archives in the folder, sorted, so that which of two equal names
/// wins does not depend on the file system.
fn candidates(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let items = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        items => items.map_err(ImageError::io("list", dir))?,
    };
    let mut paths = Vec::new();
    for item in items {
        let path = item.map_err(ImageError::io("list", dir))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let is_archive = ARCHIVE_ENDINGS.iter().any(|end| name.ends_with(end)) && path.is_file();
        if !name.starts_with('.') && (is_archive || path.join("index.json").is_file()) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn mark(path: &Path) -> io::Result<String> {
    if path.is_dir() {
        return Ok(Digest::of(&fs::read(path.join("index.json"))?).to_string());
    }
    let meta = fs::metadata(path)?;
    Ok(format!("{}:{}:{}.{:09}", meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
}
