//! `/proc/self/mountinfo`, proc_pid_mountinfo(5).

use crate::{KernelError, file};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Mount id.
    pub id: u64,
    /// Mount id of the parent.
    pub parent: u64,
    /// Root of the mount inside its file system.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Per-mount options, for example `rw,relatime`.
    pub options: String,
    /// Propagation, for example `shared:1`; empty when private.
    pub propagation: Vec<String>,
    /// File system type.
    pub fs_type: String,
    /// Source.
    pub source: String,
    /// Per-superblock options.
    pub super_options: String,
}

/// Parses the whole file; lines that are not understood are left out.
#[must_use]
pub fn parse_mountinfo(text: &str) -> Vec<MountPoint> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<MountPoint> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let (id, parent) = (left.next()?.parse().ok()?, left.next()?.parse().ok()?);
    let _device = left.next()?;
    let (root, target, options) = (left.next()?, left.next()?, left.next()?);
    let mut right = right.split(' ');
    Some(MountPoint {
        id,
        parent,
        root: unescape(root),
        target: unescape(target),
        options: options.to_owned(),
        propagation: left.map(str::to_owned).collect(),
        fs_type: right.next()?.to_owned(),
        source: unescape(right.next()?).to_string_lossy().into_owned(),
        super_options: right.next().unwrap_or_default().to_owned(),
    })
}

/// The kernel writes space, tab, newline, backslash (and `#`) as `\ooo`.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| bytes.get(at + 1..at + 4)).flatten();
        let value =
            octal.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(out).into()
}

/// The mounts at or below `path` that this process sees, in the order they were
/// made, so that undoing goes from the back. A path that is not there has none.
///
/// # Errors
/// `/proc` is not mounted.
pub fn mounts_below(path: &Path) -> Result<Vec<MountPoint>, KernelError> {
    let text = file::read(Path::new("/proc/thread-self/mountinfo"))?;
    // mountinfo shows paths resolved; a path that cannot be resolved is compared as it is.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Ok(parse_mountinfo(&text).into_iter().filter(|mount| mount.target.starts_with(&path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_options_escapes_and_missing_fields() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:7 - ext3 /dev/ro\\040ot rw,errors=continue\n\
                    31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\nnonsense\n";
        let mounts = parse_mountinfo(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].target, Path::new("/mnt 2\\x"));
        assert_eq!(mounts[0].root, Path::new("/mnt1"));
        assert_eq!(mounts[0].propagation, ["master:1", "shared:7"]);
        assert_eq!((mounts[0].fs_type.as_str(), mounts[0].source.as_str()), ("ext3", "/dev/ro ot"));
        assert_eq!((mounts[1].id, mounts[1].parent), (31, 23));
        assert!(mounts[1].propagation.is_empty());
    }

    #[test]
    fn a_backslash_that_starts_no_octal_number_stays() {
        assert_eq!(unescape("a\\9zz\\"), Path::new("a\\9zz\\"));
    }
}
