//! Reading and writing the kernel's small files, with the path in the error.

use crate::KernelError;
use std::fs;
use std::io::Write as _;
use std::path::Path;

pub(crate) fn read(path: &Path) -> Result<String, KernelError> {
    fs::read_to_string(path).map_err(|source| KernelError::Read { path: path.to_owned(), source })
}

/// One `write(2)`: kernfs and procfs take a value only whole. Never creates the file.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), KernelError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|source| KernelError::Open { path: path.to_owned(), source })?;
    file.write_all(value.as_bytes()).map_err(|source| KernelError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}
