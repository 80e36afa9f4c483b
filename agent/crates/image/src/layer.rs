//! Unpacks one layer into a folder that overlayfs can stack.
//!
//! A layer comes from a stranger and is unpacked by root, so no path of it is
//! ever handed to the kernel whole: the parent folder is opened below the layer's
//! root (`openat2` with `RESOLVE_IN_ROOT`: neither `..` nor a symbolic link of the
//! layer leads out), and the last part of the path is used only with calls that
//! do not follow links.
//!
//! Whiteouts become what overlayfs understands: `.wh.NAME` a character device 0:0
//! called NAME, `.wh..wh..opq` the attribute `trusted.overlay.opaque`. A whiteout
//! hides only what lower layers hold (OCI image-spec, layer.md), whatever the
//! order of entries.

use crate::limits::LAYER_ENTRIES_MAX;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
const XATTR_OPAQUE: &str = "trusted.overlay.opaque";
const PAX_XATTR_PREFIX: &str = "SCHILY.xattr.";

/// Why a layer did not unpack, and at which entry.
#[derive(Debug)]
pub(crate) struct UnpackError {
    /// Path in the layer; empty between entries.
    pub entry: String,
    pub cause: Cause,
}

#[derive(Debug)]
pub(crate) enum Cause {
    /// The layer tries what no layer may.
    Hostile(&'static str),
    /// [`LAYER_ENTRIES_MAX`].
    TooManyEntries,
    Io(io::Error),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Unpacks the tar stream into `root`, an empty folder.
pub(crate) fn unpack(reader: impl Read, root: &Path) -> Result<(), UnpackError> {
    let between = |cause: Cause| UnpackError { entry: String::new(), cause };
    let root = nix::fcntl::open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| between(errno.into()))?;
    let mut unpacker = Unpacker { root, folder_times: Vec::new() };
    let mut archive = tar::Archive::new(reader);
    let mut count = 0;
    for entry in archive.entries().map_err(|error| between(error.into()))? {
        let mut entry = entry.map_err(|error| between(error.into()))?;
        let name = entry.path_bytes().into_owned();
        let at = |cause: Cause| UnpackError { entry: String::from_utf8_lossy(&name).into_owned(), cause };
        count += 1;
        if count > LAYER_ENTRIES_MAX {
            return Err(at(Cause::TooManyEntries));
        }
        unpacker.entry(&name, &mut entry).map_err(at)?;
    }
    unpacker.finish().map_err(between)
}

struct Unpacker {
    root: OwnedFd,
    /// Folders' modification times, set last because every new child changes them.
    folder_times: Vec<(PathBuf, TimeSpec)>,
}

/// What an entry's header and extensions say about it.
struct Attributes {
    mode: Mode,
    uid: Uid,
    gid: Gid,
    mtime: TimeSpec,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, name: &[u8], entry: &mut tar::Entry<'_, R>) -> Result<(), Cause> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = relative(name)?;
        let attributes = attributes(entry)?;
        let Some(last) = path.file_name().map(OsStr::to_owned) else {
            // The layer's own root.
            let root = openat(&self.root, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            set_attributes(&root, &attributes)?;
            self.folder_times.push((PathBuf::from("."), attributes.mtime));
            return Ok(());
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        if last.as_bytes() == WHITEOUT_OPAQUE {
            return Ok(set_opaque(&parent)?);
        }
        if last.as_bytes().starts_with(WHITEOUT_META_PREFIX) {
            return Ok(()); // aufs's own bookkeeping
        }
        if let Some(hidden) = last.as_bytes().strip_prefix(WHITEOUT_PREFIX) {
            return whiteout(&parent, OsStr::from_bytes(hidden));
        }
        self.make(&path, &parent, &last, entry, &attributes)
    }

    fn make<R: Read>(
        &mut self,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &mut tar::Entry<'_, R>,
        attributes: &Attributes,
    ) -> Result<(), Cause> {
        use tar::EntryType as T;
        let kind = entry.header().entry_type();
        if kind == T::Directory {
            make_folder(parent, name, attributes)?;
            self.folder_times.push((path.to_path_buf(), attributes.mtime));
            return Ok(());
        }
        clear(parent, name)?;
        let device = |entry: &tar::Entry<'_, R>| -> Result<_, Cause> {
            let (major, minor) = (entry.header().device_major()?, entry.header().device_minor()?);
            Ok(makedev(major.unwrap_or(0).into(), minor.unwrap_or(0).into()))
        };
        match kind {
            T::Regular | T::Continuous | T::GNUSparse => return write_file(parent, name, entry, attributes),
            T::Link => return self.hard_link(parent, name, entry),
            T::Symlink => {
                let target = entry.link_name_bytes().ok_or(Cause::Hostile("is a symbolic link to nothing"))?;
                symlinkat(OsStr::from_bytes(&target), parent, name)?;
                return set_link_attributes(parent, name, attributes);
            }
            T::Char => mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), device(entry)?)?,
            T::Block => mknodat(parent, name, SFlag::S_IFBLK, Mode::empty(), device(entry)?)?,
            T::Fifo => mknodat(parent, name, SFlag::S_IFIFO, Mode::empty(), 0)?,
            _ => return Err(Cause::Hostile("is of a kind that no layer may hold")),
        }
        // A device or pipe is not opened for its attributes: opening one acts.
        set_link_attributes(parent, name, attributes)?;
        let path = magic_path(parent, name);
        Ok(std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(attributes.mode.bits()))?)
    }

    /// The folder that a path's last part stands in, made where it is missing.
    fn parent(&self, path: &Path) -> Result<OwnedFd, Cause> {
        match self.open_folder(path) {
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(Cause::Hostile("stands below something that is no folder"));
            }
            other => return Ok(other?),
        }
        let mut so_far = PathBuf::new();
        let mut folder = self.open_folder(&so_far)?;
        for part in path.components() {
            match mkdirat(&folder, part.as_os_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            so_far.push(part);
            // From the root each time, so that a link on the way resolves as above.
            folder = match self.open_folder(&so_far) {
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                    return Err(Cause::Hostile("stands below a link that leads nowhere"));
                }
                other => other?,
            };
        }
        Ok(folder)
    }

    fn open_folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        openat2(&self.root, path, how)
    }

    fn hard_link<R: Read>(&self, parent: &OwnedFd, name: &OsStr, entry: &tar::Entry<'_, R>) -> Result<(), Cause> {
        let target = entry.link_name_bytes().ok_or(Cause::Hostile("is a hard link to nothing"))?;
        let target = relative(&target)?;
        let missing = Cause::Hostile("is a hard link to what this layer does not hold");
        let Some(target_name) = target.file_name() else { return Err(missing) };
        let folder = match self.open_folder(target.parent().unwrap_or(Path::new(""))) {
            Ok(folder) => folder,
            Err(_) => return Err(missing),
        };
        match linkat(&folder, target_name, parent, name, AtFlags::empty()) {
            Err(Errno::ENOENT | Errno::EPERM) => Err(missing),
            other => Ok(other?),
        }
    }

    fn finish(self) -> Result<(), Cause> {
        for (path, mtime) in self.folder_times.iter().rev() {
            // A later entry may have put a file in the folder's place.
            let Ok(folder) = self.open_folder(path) else { continue };
            nix::sys::stat::futimens(&folder, mtime, mtime)?;
        }
        Ok(())
    }
}

/// The path without a leading '/' and without '.'. Docker and containerd read an
/// absolute name below the layer's root too; a '..' no honest writer makes.
fn relative(name: &[u8]) -> Result<PathBuf, Cause> {
    let mut path = PathBuf::new();
    for part in name.split(|&c| c == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Cause::Hostile("leads out of the layer by '..'")),
            part if part.contains(&0) => return Err(Cause::Hostile("has a name with a zero byte")),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Attributes, Cause> {
    let mut xattrs = Vec::new();
    let mut pax_mtime = None;
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Ok(key) = extension.key() else { continue };
            if let Some(name) = key.strip_prefix(PAX_XATTR_PREFIX) {
                // They steer overlayfs: a redirect or a metacopy would show another layer's file.
                if name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") {
                    return Err(Cause::Hostile("carries an attribute that belongs to overlayfs"));
                }
                xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
            } else if key.starts_with("GNU.sparse.") {
                // The content would be a map and pieces; no image builder writes them.
                return Err(Cause::Hostile("is a sparse file in GNU's pax form, which is not understood"));
            } else if key == "mtime" {
                pax_mtime = extension.value().ok().and_then(pax_time);
            }
        }
    }
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|_| Cause::Hostile("has an owner above 2^32"));
    let seconds = i64::try_from(header.mtime()?).unwrap_or(0);
    Ok(Attributes {
        mode: Mode::from_bits_truncate(header.mode()? & 0o7777),
        uid: Uid::from_raw(id(header.uid()?)?),
        gid: Gid::from_raw(id(header.gid()?)?),
        mtime: pax_mtime.unwrap_or(TimeSpec::new(seconds, 0)),
        xattrs,
    })
}

/// `SECONDS[.FRACTION]`, possibly negative.
fn pax_time(text: &str) -> Option<TimeSpec> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    Some(match (nanos, text.starts_with('-')) {
        (0, _) | (_, false) => TimeSpec::new(seconds, nanos),
        (_, true) => TimeSpec::new(seconds - 1, 1_000_000_000 - nanos),
    })
}

/// `/proc/self/fd/N/NAME`: a path call that acts in an opened folder and, for
/// calls that do not follow links, on NAME itself.
fn magic_path(parent: &OwnedFd, name: &OsStr) -> PathBuf {
    let mut path = OsString::from(format!("/proc/self/fd/{}/", parent.as_raw_fd()));
    path.push(name);
    PathBuf::from(OsString::from_vec(path.into_vec()))
}

fn stat_of(parent: &OwnedFd, name: &OsStr) -> Result<Option<FileStat>, Errno> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn is_whiteout(stat: &FileStat) -> bool {
    kind_of(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Removes what an earlier entry of this layer put there.
fn clear(parent: &OwnedFd, name: &OsStr) -> Result<(), Cause> {
    match stat_of(parent, name)? {
        None => Ok(()),
        Some(stat) if kind_of(&stat) == SFlag::S_IFDIR => Ok(std::fs::remove_dir_all(magic_path(parent, name))?),
        Some(_) => Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?),
    }
}

fn whiteout(parent: &OwnedFd, name: &OsStr) -> Result<(), Cause> {
    if matches!(name.as_bytes(), b"" | b"." | b"..") {
        return Err(Cause::Hostile("is a whiteout of no name"));
    }
    match stat_of(parent, name)? {
        None => Ok(mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?),
        // This layer's own folder stays; only what lower layers hold in it goes.
        Some(stat) if kind_of(&stat) == SFlag::S_IFDIR => {
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            Ok(set_opaque(&openat(parent, name, flags, Mode::empty())?)?)
        }
        Some(_) => Ok(()),
    }
}

fn set_opaque(folder: &OwnedFd) -> io::Result<()> {
    xattr::set_deref(format!("/proc/self/fd/{}", folder.as_raw_fd()), XATTR_OPAQUE, b"y")
}

fn make_folder(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<(), Cause> {
    let before = stat_of(parent, name)?;
    let hides = before.as_ref().is_some_and(is_whiteout);
    if before.is_none_or(|stat| kind_of(&stat) != SFlag::S_IFDIR) {
        clear(parent, name)?;
        mkdirat(parent, name, Mode::from_bits_truncate(0o700))?;
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    if hides {
        set_opaque(&folder)?;
    }
    set_attributes(&folder, attributes)
}

fn write_file<R: Read>(
    parent: &OwnedFd,
    name: &OsStr,
    entry: &mut tar::Entry<'_, R>,
    attributes: &Attributes,
) -> Result<(), Cause> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(parent, name, flags, Mode::from_bits_truncate(0o600))?);
    let size = entry.size();
    let written = io::copy(entry, &mut file)?;
    if written != size {
        return Err(Cause::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the layer is cut off")));
    }
    let file = OwnedFd::from(file);
    set_attributes(&file, attributes)?;
    Ok(nix::sys::stat::futimens(&file, &attributes.mtime, &attributes.mtime)?)
}

/// Owner before mode before extended attributes: a change of owner clears set-uid
/// bits and `security.capability`.
fn set_attributes(fd: &OwnedFd, attributes: &Attributes) -> Result<(), Cause> {
    fchown(fd, Some(attributes.uid), Some(attributes.gid))?;
    fchmod(fd, attributes.mode)?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    for (name, value) in &attributes.xattrs {
        supported(xattr::set_deref(&path, name, value))?;
    }
    Ok(())
}

/// The same for what is not opened: links, devices and pipes.
fn set_link_attributes(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<(), Cause> {
    fchownat(parent, name, Some(attributes.uid), Some(attributes.gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let path = magic_path(parent, name);
    for (key, value) in &attributes.xattrs {
        match supported(xattr::set(&path, key, value)) {
            // xattr(7): only files and folders carry user attributes.
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) && key.starts_with("user.") => {}
            other => other?,
        }
    }
    Ok(utimensat(parent, name, &attributes.mtime, &attributes.mtime, UtimensatFlags::NoFollowSymlink)?)
}

/// An attribute that this file system (or this kind of file) cannot carry is left
/// out, as containerd does.
fn supported(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
