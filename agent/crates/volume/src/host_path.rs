//! hostPath volumes: a path of the node, checked before it is given to a pod.

use crate::VolumeError;
use crate::roots::parent;
use orlop_model::HostPathType;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Checks the path as the kubelet's host_path plugin does, and makes it where the
/// type says so. A path without a type is made as a folder when it is missing,
/// which is what CRI runtimes do at the mount.
///
/// # Errors
/// [`VolumeError::HostPathType`] in the kubelet's words, [`VolumeError::Io`].
pub(crate) fn prepare(path: &Path, kind: HostPathType) -> Result<(), VolumeError> {
    let missing = !path.exists();
    let make_folder = || {
        fs::create_dir_all(path).map_err(VolumeError::io("make", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(VolumeError::io("chmod", path))
    };
    match kind {
        HostPathType::Unset | HostPathType::DirectoryOrCreate if missing => return make_folder(),
        HostPathType::FileOrCreate if missing => {
            // Parents are not made, as in the kubelet.
            if !parent(path).is_dir() {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(VolumeError::Io {
                    action: "make file in missing folder",
                    path: path.to_path_buf(),
                    source,
                });
            }
            let file =
                File::options().write(true).create_new(true).open(path).map_err(VolumeError::io("make", path))?;
            return file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(VolumeError::io("chmod", path));
        }
        _ => {}
    }
    let found = fs::metadata(path).ok().map(|meta| meta.file_type());
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let (holds, kind) = match kind {
        HostPathType::Unset => (true, ""),
        HostPathType::Directory | HostPathType::DirectoryOrCreate => (is(fs::FileType::is_dir), "a directory"),
        HostPathType::File | HostPathType::FileOrCreate => (is(fs::FileType::is_file), "a file"),
        HostPathType::Socket => (is(fs::FileType::is_socket), "a socket file"),
        HostPathType::CharDevice => (is(fs::FileType::is_char_device), "a character device"),
        HostPathType::BlockDevice => (is(fs::FileType::is_block_device), "a block device"),
    };
    if holds { Ok(()) } else { Err(VolumeError::HostPathType { path: path.to_path_buf(), kind }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HostPathType as T;

    #[test]
    fn every_type_against_every_kind_of_path() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("dir", at("link")).unwrap();
        let mut number = 0;
        let mut check = |path: &Path, kind: T, want: Option<&str>| {
            number += 1;
            let got = prepare(path, kind).err().map(|error| error.to_string());
            let want = want.map(|kind| format!("hostPath type check failed: {} is not {kind}", path.display()));
            assert_eq!(got, want, "row {number}: {} as {kind:?}", path.display());
        };
        let (folder, file, socket) = (Some("a directory"), Some("a file"), Some("a socket file"));
        let (char, block) = (Some("a character device"), Some("a block device"));
        for (path, kind, want) in [
            (at("dir"), T::Unset, None),
            (at("dir"), T::Directory, None),
            (at("link"), T::Directory, None),
            (at("dir"), T::DirectoryOrCreate, None),
            (at("dir"), T::File, file),
            (at("dir"), T::FileOrCreate, file),
            (at("dir"), T::Socket, socket),
            (at("file"), T::File, None),
            (at("file"), T::FileOrCreate, None),
            (at("file"), T::Directory, folder),
            (at("file"), T::DirectoryOrCreate, folder),
            (at("file"), T::CharDevice, char),
            (at("file"), T::BlockDevice, block),
            (at("socket"), T::Socket, None),
            (at("socket"), T::File, file),
            ("/dev/null".into(), T::CharDevice, None),
            ("/dev/null".into(), T::BlockDevice, block),
            (at("none"), T::Directory, folder),
            (at("none"), T::File, file),
            (at("none"), T::Socket, socket),
            (at("none"), T::CharDevice, char),
        ] {
            check(&path, kind, want);
        }
        for (path, kind, mode) in [
            (at("made/deep"), T::DirectoryOrCreate, 0o40755),
            (at("unset/deep"), T::Unset, 0o40755),
            (at("made/file"), T::FileOrCreate, 0o100_644),
        ] {
            check(&path, kind, None);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode(), mode, "{}", path.display());
        }
        prepare(&at("missing/file"), T::FileOrCreate).unwrap_err();
        assert!(!at("missing").exists());
    }
}
