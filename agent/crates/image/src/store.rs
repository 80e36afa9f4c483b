//! The images of this node, on disk.
//!
//! ```text
//! DIR/lock              held while images are loaded or removed
//! DIR/pulls.lock        held, shared, while images are pulled
//! DIR/records/HEX.json  one record an image, named for its id, written atomically
//! DIR/layers/HEX/       one unpacked layer, named for its diff id
//! DIR/layers/HEX.size   bytes of its tar stream
//! DIR/tmp/              layers being unpacked, blobs being downloaded
//! DIR/imported.json     what was found in the images folder, so that it is read once
//! ```
//!
//! Packed blobs are not kept: a container needs the unpacked layers, and a layer
//! that is there is known by its diff id. A layer counts only when a record names
//! it, and a record is written only after the file system has been synced; what a
//! crash leaves behind is therefore swept at the next [`ImageStore::open`].

use crate::archive::Archive;
use crate::find::{find, name_images};
use crate::load::{Places, install_layer, load_image, unpacked_size};
use crate::{Digest, ImageError, ImageRecord, Reference};
use orlop_model::ImageRef;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Shared by all who pull, exclusive for who sweeps.
const PULLS_LOCK: &str = "pulls.lock";

/// The images of this node. Cheap to clone; all calls block.
#[derive(Debug, Clone)]
pub struct ImageStore {
    dir: PathBuf,
}

/// What [`ImageStore::prune`] and [`ImageStore::remove`] took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Ids of images whose records are gone.
    pub images: Vec<Digest>,
    /// Diff ids of layers whose folders are gone.
    pub layers: Vec<Digest>,
}

impl ImageStore {
    /// Opens the store, making its folders (0700) where they are missing and
    /// sweeping what an interrupted load left.
    ///
    /// # Errors
    /// [`ImageError::Io`] or [`ImageError::NoSpace`] naming the folder.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let store = Self { dir: dir.into() };
        for folder in [store.dir.clone(), store.records_dir(), store.layers_dir(), store.scratch_dir()] {
            fs::create_dir_all(&folder).map_err(ImageError::io("make", &folder))?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
                .map_err(ImageError::io("chmod", &folder))?;
        }
        // Someone who loads or pulls right now holds a lock and needs what would be swept.
        let (pulls, path) = store.open_lock(PULLS_LOCK)?;
        let nobody_pulls = try_lock(&pulls, &path)?;
        if let (Some(_lock), true) = (store.try_lock()?, nobody_pulls) {
            let scratch = store.scratch_dir();
            fs::remove_dir_all(&scratch).map_err(ImageError::io("empty", &scratch))?;
            fs::create_dir(&scratch).map_err(ImageError::io("make", &scratch))?;
            store.sweep_layers()?;
        }
        Ok(store)
    }

    /// The store's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Loads every image of an OCI layout folder, an OCI layout archive or a
    /// `docker save` archive (plain, gzip or zstd) that this machine can run.
    ///
    /// `name` (`--name`) names the archive's only image; without a tag it is put
    /// before the bare tags of several. Without it: `io.containerd.image.name`, or
    /// `org.opencontainers.image.ref.name` (a full name, or a bare word, which is a
    /// tag), or Docker's `RepoTags`; a bare tag or a single unnamed image is called
    /// after the file. A name that another image had moves to the new one.
    ///
    /// # Errors
    /// Names the archive, the layer and the entry; nothing of a failed image stays.
    pub fn load(&self, path: &Path, name: Option<&str>) -> Result<Vec<ImageRecord>, ImageError> {
        let _lock = self.lock()?;
        let loaded = self.load_locked(path, name);
        if loaded.is_err() {
            // The image's own error is the one to report.
            let _ = self.sweep_layers();
        }
        loaded
    }

    fn load_locked(&self, path: &Path, name: Option<&str>) -> Result<Vec<ImageRecord>, ImageError> {
        let (layers, scratch) = (self.layers_dir(), self.scratch_dir());
        let archive = Archive::open(path, &scratch)?;
        let images = find(&archive)?;
        let names = name_images(name, &stem(path), &images, &archive)?;
        let places = Places { layers: &layers, scratch: &scratch };
        let records = images
            .iter()
            .zip(names)
            .map(|(image, names)| load_image(&archive, image, names, &places))
            .collect::<Result<Vec<_>, _>>()?;
        self.sync()?;
        records.into_iter().map(|record| self.keep(record)).collect()
    }

    /// The image that a pod means, if it is here. Understands short names, tags,
    /// digests and bare ids (`sha256:HEX` or 64 digits).
    ///
    /// # Errors
    /// [`ImageError::Reference`] for a malformed reference, [`ImageError::Io`].
    pub fn resolve(&self, image: &ImageRef) -> Result<Option<ImageRecord>, ImageError> {
        let text = image.as_str();
        if let Some(id) = Digest::parse(text).ok().or_else(|| Digest::from_hex(text)) {
            return Ok(self.list()?.into_iter().find(|record| record.id == id || record.has_digest(id)));
        }
        let wanted = Reference::try_from(image)?;
        Ok(self.list()?.into_iter().find(|record| record.answers_to(&wanted)))
    }

    /// The same for who cannot go on without it.
    ///
    /// # Errors
    /// [`ImageError::NotPresent`] says how to load it; otherwise as [`Self::resolve`].
    pub fn require(&self, image: &ImageRef) -> Result<ImageRecord, ImageError> {
        self.resolve(image)?.ok_or_else(|| ImageError::NotPresent { image: image.to_string() })
    }

    /// All images, sorted by first name, then id.
    ///
    /// # Errors
    /// [`ImageError::Io`], or [`ImageError::Json`] for a damaged record.
    pub fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        let dir = self.records_dir();
        let mut records = Vec::new();
        for item in fs::read_dir(&dir).map_err(ImageError::io("list", &dir))? {
            let path = item.map_err(ImageError::io("list", &dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) => records.push(parse(&path, &bytes)?),
                // Removed by another process since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ImageError::io("read", &path)(error)),
            }
        }
        records.sort_by(|a: &ImageRecord, b| (a.names.first(), a.id).cmp(&(b.names.first(), b.id)));
        Ok(records)
    }

    /// Takes a name away, and with the last name the image and its layers. An id
    /// takes all of an image's names. `in_use` are ids of images that containers
    /// (running or not yet removed) were made from: their layers are mounted.
    ///
    /// # Errors
    /// [`ImageError::NotPresent`], [`ImageError::InUse`], [`ImageError::Io`].
    pub fn remove(&self, image: &ImageRef, in_use: &BTreeSet<Digest>) -> Result<Removed, ImageError> {
        let _lock = self.lock()?;
        let mut record = self.require(image)?;
        match Reference::try_from(image) {
            Ok(name) if record.names.remove(&name) => {}
            _ => record.names.clear(),
        }
        if !record.names.is_empty() {
            self.write(&record)?;
            return Ok(Removed::default());
        }
        if in_use.contains(&record.id) {
            return Err(ImageError::InUse { image: record.id });
        }
        self.forget(record.id)?;
        Ok(Removed { images: vec![record.id], layers: self.sweep_layers()? })
    }

    /// Removes images that lost their last name to another one and that nobody uses.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub fn prune(&self, in_use: &BTreeSet<Digest>) -> Result<Removed, ImageError> {
        let _lock = self.lock()?;
        let mut images = Vec::new();
        for record in self.list()? {
            if record.names.is_empty() && !in_use.contains(&record.id) {
                self.forget(record.id)?;
                images.push(record.id);
            }
        }
        Ok(Removed { images, layers: self.sweep_layers()? })
    }

    /// Folders of the image's layers, lowest first.
    #[must_use]
    pub fn layer_dirs(&self, image: &ImageRecord) -> Vec<PathBuf> {
        let layers = self.layers_dir();
        image.layers.iter().map(|layer| layers.join(layer.hex())).collect()
    }

    fn records_dir(&self) -> PathBuf {
        self.dir.join("records")
    }
    fn layers_dir(&self) -> PathBuf {
        self.dir.join("layers")
    }
    /// Where layers are unpacked and blobs are put first.
    pub(crate) fn scratch_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }
    fn record_path(&self, id: Digest) -> PathBuf {
        self.records_dir().join(format!("{}.json", id.hex()))
    }

    fn open_lock(&self, name: &str) -> Result<(File, PathBuf), ImageError> {
        let path = self.dir.join(name);
        let file = File::options().create(true).append(true).open(&path).map_err(ImageError::io("open", &path))?;
        Ok((file, path))
    }

    /// Waits for other processes and threads that load or remove.
    fn lock(&self) -> Result<File, ImageError> {
        let (file, path) = self.open_lock("lock")?;
        file.lock().map_err(ImageError::io("lock", &path))?;
        Ok(file)
    }

    fn try_lock(&self) -> Result<Option<File>, ImageError> {
        let (file, path) = self.open_lock("lock")?;
        Ok(try_lock(&file, &path)?.then_some(file))
    }

    /// Keeps what a pull has in the folder for unpacking from being swept by another
    /// process's [`Self::open`], as long as the file lives.
    pub(crate) fn lock_for_pull(&self) -> Result<File, ImageError> {
        let (file, path) = self.open_lock(PULLS_LOCK)?;
        file.lock_shared().map_err(ImageError::io("lock", &path))?;
        Ok(file)
    }

    /// Bytes of the tar stream of a layer that is here.
    pub(crate) fn layer_size(&self, diff_id: Digest) -> Option<u64> {
        let layers = self.layers_dir();
        layers.join(diff_id.hex()).is_dir().then(|| unpacked_size(&layers, diff_id).unwrap_or(0))
    }

    /// Takes an image in whose layers were unpacked beside the store: `take` gives a
    /// layer's folder, or `None` when the layer should be here already. Gives `None`
    /// when one is neither here nor given: it was removed meanwhile.
    pub(crate) fn admit(
        &self,
        record: ImageRecord,
        take: impl FnMut(Digest) -> Option<(tempfile::TempDir, u64)>,
    ) -> Result<Option<ImageRecord>, ImageError> {
        let _lock = self.lock()?;
        let admitted = self.admit_locked(record, take);
        if admitted.is_err() {
            // The image's own error is the one to report.
            let _ = self.sweep_layers();
        }
        admitted
    }

    fn admit_locked(
        &self,
        record: ImageRecord,
        mut take: impl FnMut(Digest) -> Option<(tempfile::TempDir, u64)>,
    ) -> Result<Option<ImageRecord>, ImageError> {
        let layers = self.layers_dir();
        for &diff_id in &record.layers {
            if layers.join(diff_id.hex()).is_dir() {
                continue;
            }
            let Some((folder, unpacked_size)) = take(diff_id) else { return Ok(None) };
            install_layer(folder, diff_id, unpacked_size, &layers)?;
        }
        self.sync()?;
        self.keep(record).map(Some)
    }

    /// Puts all layers on disk before a record says they are there.
    fn sync(&self) -> Result<(), ImageError> {
        let layers = self.layers_dir();
        File::open(&layers)
            .and_then(|dir| Ok(nix::unistd::syncfs(&dir)?))
            .map_err(ImageError::io("sync the file system of", &layers))
    }

    /// Writes the record, merged with what was known, and takes its names from others.
    fn keep(&self, mut record: ImageRecord) -> Result<ImageRecord, ImageError> {
        for mut other in self.list()? {
            if other.id == record.id {
                record.names.extend(other.names);
                record.other_digests.extend(other.other_digests);
                record.repo_digests.extend(other.repo_digests);
                record.other_digests.insert(other.digest);
                record.other_digests.remove(&record.digest);
                continue;
            }
            let before = other.names.len();
            other.names.retain(|name| !record.names.contains(name));
            if other.names.len() != before {
                self.write(&other)?;
            }
        }
        self.write(&record)?;
        Ok(record)
    }

    fn write(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let path = self.record_path(record.id);
        let bytes = serde_json::to_vec_pretty(record).map_err(|source| json_error(&path, source))?;
        write_atomically(&path, &bytes)
    }

    fn forget(&self, id: Digest) -> Result<(), ImageError> {
        let path = self.record_path(id);
        fs::remove_file(&path).map_err(ImageError::io("remove", &path))
    }

    /// Removes layers that no record names. Needs the lock.
    fn sweep_layers(&self) -> Result<Vec<Digest>, ImageError> {
        let wanted: BTreeSet<Digest> = self.list()?.into_iter().flat_map(|record| record.layers).collect();
        let dir = self.layers_dir();
        let mut removed = Vec::new();
        for item in fs::read_dir(&dir).map_err(ImageError::io("list", &dir))? {
            let path = item.map_err(ImageError::io("list", &dir))?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(Digest::from_hex);
            let Some(layer) = stem.filter(|layer| !wanted.contains(layer)) else { continue };
            if path.extension().is_some() {
                fs::remove_file(&path).map_err(ImageError::io("remove", &path))?;
            } else {
                fs::remove_dir_all(&path).map_err(ImageError::io("remove", &path))?;
                removed.push(layer);
            }
        }
        removed.sort();
        Ok(removed)
    }
}

fn try_lock(file: &File, path: &Path) -> Result<bool, ImageError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(ImageError::io("lock", path)(error)),
    }
}

/// Writes beside the target, syncs and renames: readers see the old or the new file.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    use io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(ImageError::io("write", path))
}

pub(crate) fn json_error(path: &Path, source: serde_json::Error) -> ImageError {
    let entry = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    ImageError::Json { path: path.to_path_buf(), entry, source }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<ImageRecord, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| json_error(path, source))
}

/// An archive's file name without `.tar`, `.tar.gz` and the like, in lower case.
fn stem(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = [".gz", ".zst", ".tgz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    name.strip_suffix(".tar").or_else(|| name.strip_suffix(".oci")).unwrap_or(name).to_owned()
}
