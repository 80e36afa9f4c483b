//! Small files, written so that no reader and no crash sees half of one.

use crate::PkiError;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Writes `content` to `path` with exactly `mode`, through a file beside it and a rename. The folder is made
/// with mode 0755 when it is missing.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) -> Result<(), PkiError> {
    let failed = |source| PkiError::Write { path: path.into(), source };
    let folder = path.parent().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    folder_made(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?);
    name.push(".new");
    let beside = folder.join(name);
    let done = replace(&beside, path, mode, content);
    if done.is_err() {
        // The first error is the one to report; a leftover is removed by the next write.
        let _ = fs::remove_file(&beside);
    }
    done.map_err(failed)
}

fn replace(beside: &Path, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    remove(beside)?; // of a crash
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.write_all(content)?;
    // Not left to the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    sync_folder_of(path)
}

/// Makes a rename or a new name in `path`'s folder outlive a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Makes a folder, and those above it, with mode 0755.
pub(crate) fn folder_made(folder: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(|source| PkiError::Write { path: folder.into(), source })
}

/// The file's text; `None` when there is none (a dangling link too).
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Read { path: path.into(), source }),
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}
