//! Where an image is loaded from: an OCI layout folder, or a tar archive with a
//! layout or with what `docker save` writes. Both are a set of named blobs.

use crate::error::is_full;
use crate::limits::{ARCHIVE_ENTRIES_MAX, ARCHIVE_LINKS_MAX, LAYER_BYTES_MAX, MANIFEST_BYTES_MAX};
use crate::{Digest, ImageError};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Buffer between a file and its decompressor.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// What one entry of a tar archive holds.
enum Entry {
    /// Content at an offset, so many bytes.
    Content { offset: u64, size: u64 },
    /// The content of another entry: old `docker save` links equal layers.
    Link(String),
}

enum Kind {
    Folder,
    Tar { file: File, entries: HashMap<String, Entry> },
}

/// A set of named blobs.
pub(crate) struct Archive {
    path: PathBuf,
    kind: Kind,
}

impl Archive {
    /// Opens a folder or an archive, plain or compressed. A compressed archive is
    /// unpacked into an unnamed file in `scratch` first, because its blobs do not
    /// stand in the order in which they are needed.
    pub(crate) fn open(path: &Path, scratch: &Path) -> Result<Self, ImageError> {
        let kind = if path.is_dir() {
            Kind::Folder
        } else {
            let file = seekable(path, scratch)?;
            let entries = index(path, &file)?;
            Kind::Tar { file, entries }
        };
        Ok(Self { path: path.to_path_buf(), kind })
    }

    /// What was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file of that name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Folder => self.path.join(name).is_file(),
            Kind::Tar { entries, .. } => resolve(entries, name).is_some(),
        }
    }

    /// A file's content and its size in bytes.
    pub(crate) fn open_file(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), ImageError> {
        let missing = || ImageError::Missing { path: self.path.clone(), entry: name.to_owned() };
        match &self.kind {
            Kind::Folder => {
                let path = self.path.join(name);
                let file = File::open(&path).map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => ImageError::Io { action: "open", path: path.clone(), source },
                })?;
                let size = file.metadata().map_err(ImageError::io("stat", &path))?.len();
                Ok((Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, file)), size))
            }
            Kind::Tar { file, entries } => {
                let (offset, size) = resolve(entries, name).ok_or_else(missing)?;
                let slice = Slice { file, offset, left: size };
                Ok((Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, slice)), size))
            }
        }
    }

    /// A small file whole.
    pub(crate) fn read_small(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (reader, size) = self.open_file(name)?;
        if size > MANIFEST_BYTES_MAX {
            let what = "a document's size in bytes";
            return Err(ImageError::Limit { path: self.path.clone(), what, max: MANIFEST_BYTES_MAX });
        }
        let mut bytes = Vec::new();
        reader.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).map_err(ImageError::io("read", &self.path))?;
        Ok(bytes)
    }

    /// A small blob whole, checked against its digest.
    pub(crate) fn read_blob(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let bytes = self.read_small(&blob_name(digest))?;
        self.expect("blob", digest.to_string(), Digest::of(&bytes).to_string())?;
        Ok(bytes)
    }

    /// `Ok` when what was found is what was promised.
    pub(crate) fn expect(&self, what: &'static str, want: String, got: String) -> Result<(), ImageError> {
        if want == got {
            return Ok(());
        }
        Err(ImageError::Mismatch { path: self.path.clone(), what, want, got })
    }

    /// Reads a document.
    pub(crate) fn parse<T: DeserializeOwned>(&self, entry: &str, bytes: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(bytes).map_err(|source| ImageError::Json {
            path: self.path.clone(),
            entry: entry.to_owned(),
            source,
        })
    }
}

/// Path of a blob in an OCI layout.
pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A part of a file, read without moving its position.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buf[..want], self.offset)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Follows links of the archive, a bounded number of times.
fn resolve(entries: &HashMap<String, Entry>, name: &str) -> Option<(u64, u64)> {
    let mut name = name;
    for _ in 0..=ARCHIVE_LINKS_MAX {
        match entries.get(name)? {
            Entry::Content { offset, size } => return Some((*offset, *size)),
            Entry::Link(target) => name = target,
        }
    }
    None
}

/// Decompresses by magic number; media types lie and Docker's have changed.
pub(crate) fn decompress<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let mut got = 0;
    while got < magic.len() {
        match reader.read(&mut magic[got..])? {
            0 => break,
            n => got += n,
        }
    }
    let whole = io::Cursor::new(magic).take(got as u64).chain(reader);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

/// The archive as a file that can be read at any place.
fn seekable(path: &Path, scratch: &Path) -> Result<File, ImageError> {
    let file = File::open(path).map_err(ImageError::io("open", path))?;
    let meta = file.metadata().map_err(ImageError::io("stat", path))?;
    if !meta.is_file() {
        let problem = "it is neither a folder nor a regular file".to_owned();
        return Err(ImageError::NotAnImage { path: path.to_path_buf(), problem });
    }
    let mut magic = [0; 4];
    let short = file.read_exact_at(&mut magic, 0).is_err();
    if short || !matches!(magic, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(file);
    }
    let mut plain = tempfile::tempfile_in(scratch).map_err(ImageError::io("make a temporary file in", scratch))?;
    let unpacked = decompress(BufReader::with_capacity(READ_BUFFER_BYTES, file))
        .and_then(|reader| io::copy(&mut reader.take(LAYER_BYTES_MAX + 1), &mut plain));
    match unpacked {
        Ok(bytes) if bytes > LAYER_BYTES_MAX => {
            let what = "its size in bytes once unpacked";
            Err(ImageError::Limit { path: path.to_path_buf(), what, max: LAYER_BYTES_MAX })
        }
        Ok(_) => {
            plain.rewind().map_err(ImageError::io("read a copy of", path))?;
            Ok(plain)
        }
        Err(source) if is_full(&source) => {
            Err(ImageError::NoSpace { path: scratch.to_path_buf(), what: path.display().to_string(), source })
        }
        Err(source) => Err(ImageError::Io { action: "decompress", path: path.to_path_buf(), source }),
    }
}

/// Where each entry stands in the archive.
fn index(path: &Path, file: &File) -> Result<HashMap<String, Entry>, ImageError> {
    let mut entries = HashMap::new();
    let mut archive = tar::Archive::new(file);
    let not_tar = |e: io::Error| ImageError::NotAnImage {
        path: path.to_path_buf(),
        problem: format!("it is no tar archive ({e})"),
    };
    for entry in archive.entries_with_seek().map_err(not_tar)? {
        let entry = entry.map_err(not_tar)?;
        let Some(name) = plain_name(&entry.path_bytes(), "") else { continue };
        let kind = entry.header().entry_type();
        let item = if kind.is_file() || kind == tar::EntryType::Continuous {
            Entry::Content { offset: entry.raw_file_position(), size: entry.size() }
        } else if kind.is_symlink() || kind.is_hard_link() {
            // A symbolic link counts from its own folder, a hard link from the top.
            let base = if kind.is_symlink() { name.rsplit_once('/').map_or("", |(dir, _)| dir) } else { "" };
            match entry.link_name_bytes().and_then(|target| plain_name(&target, base)) {
                Some(target) => Entry::Link(target),
                None => continue,
            }
        } else {
            continue;
        };
        entries.insert(name, item);
        if entries.len() > ARCHIVE_ENTRIES_MAX {
            let what = "its number of entries";
            return Err(ImageError::Limit { path: path.to_path_buf(), what, max: ARCHIVE_ENTRIES_MAX as u64 });
        }
    }
    if entries.is_empty() {
        let problem = "it is an empty archive".to_owned();
        return Err(ImageError::NotAnImage { path: path.to_path_buf(), problem });
    }
    Ok(entries)
}

/// A name without `.`, `..` and double slashes; `None` when it leads out or is
/// not UTF-8. Names are only keys here, never paths of this machine.
fn plain_name(bytes: &[u8], base: &str) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries() {
        for (name, base, want) in [
            ("./blobs/sha256/x", "", Some("blobs/sha256/x")),
            ("a//b/", "", Some("a/b")),
            ("../b/layer.tar", "a", Some("b/layer.tar")),
            ("../../x", "a", None),
            ("..", "", None),
            (".", "", None),
        ] {
            assert_eq!(plain_name(name.as_bytes(), base).as_deref(), want, "{name:?} from {base:?}");
        }
    }

    #[test]
    fn links_end() {
        let mut entries = HashMap::from([
            ("a".to_owned(), Entry::Link("b".to_owned())),
            ("b".to_owned(), Entry::Link("a".to_owned())),
            ("c".to_owned(), Entry::Link("d".to_owned())),
        ]);
        assert_eq!(resolve(&entries, "a"), None);
        assert_eq!(resolve(&entries, "c"), None);
        entries.insert("d".to_owned(), Entry::Content { offset: 512, size: 3 });
        assert_eq!(resolve(&entries, "c"), Some((512, 3)));
    }

    #[test]
    fn decompress_by_magic() {
        use std::io::Write as _;
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"hello").unwrap();
        let packed = [gz.finish().unwrap(), zstd::encode_all(&b"hello"[..], 1).unwrap(), b"hello".to_vec()];
        for bytes in packed {
            let mut text = String::new();
            decompress(&bytes[..]).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
        }
        let mut short = Vec::new();
        decompress(&b"ab"[..]).unwrap().read_to_end(&mut short).unwrap();
        assert_eq!(short, b"ab");
    }
}
