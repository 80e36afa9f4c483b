//! The thin part that reads files.

use crate::ConfigError;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 3 << 20;
/// Deepest folder of drop-ins looked into.
const DROP_IN_DEPTH_MAX: usize = 16;

/// A text and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, named in every error and warning.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is no UTF-8 or is larger than 3 MiB.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned(), max_bytes: FILE_BYTES_MAX });
        }
        Ok(Self { path: path.to_owned(), text })
    }

    /// Reads a file that may be missing.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn read_if_there(path: &Path) -> Result<Option<Self>, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }
}

/// The files of a drop-in folder (KEP-3983).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DropIns {
    /// Files that end in `.conf`, of the folder and the folders in it, in lexical order:
    /// a later one wins.
    pub sources: Vec<Source>,
    /// All others, which are not looked at.
    pub skipped: Vec<PathBuf>,
}

impl DropIns {
    /// Reads a folder.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or folders are nested deeper than 16.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let mut found = Self::default();
        found.walk(folder, 0)?;
        Ok(found)
    }

    fn walk(&mut self, folder: &Path, depth: usize) -> Result<(), ConfigError> {
        let failed = |source| ConfigError::Read { path: folder.to_owned(), source };
        if depth > DROP_IN_DEPTH_MAX {
            return Err(failed(io::Error::other("folders are nested too deep")));
        }
        let mut entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                self.walk(&path, depth + 1)?;
            } else if path.extension().is_some_and(|end| end == "conf") {
                self.sources.push(Source::read(&path)?);
            } else {
                self.skipped.push(path);
            }
        }
        Ok(())
    }
}
