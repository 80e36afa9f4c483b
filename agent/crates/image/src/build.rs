//! Makes OCI images from files: for the demo, for tests, for a node without a registry.
//!
//! The result is deterministic: the same input gives the same digests. Times are 0,
//! owners root unless set, and nothing of the building machine goes in.

use crate::oci::{NAME_OCI, this_architecture};
use crate::{Digest, ImageConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// How a layer's blob is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// A plain tar.
    Plain,
    /// gzip, what most images use.
    #[default]
    Gzip,
    /// Zstandard.
    Zstd,
}

/// One layer, entry by entry. Paths are relative to the container's root.
#[derive(Debug, Clone, Default)]
pub struct LayerBuilder {
    entries: Vec<Entry>,
    packing: Packing,
}

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    kind: tar::EntryType,
    mode: u32,
    owner: (u32, u32),
    link: Option<String>,
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl LayerBuilder {
    /// An empty layer, to be packed with gzip.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Packs the blob another way.
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    fn push(mut self, path: &str, kind: tar::EntryType, mode: u32, link: Option<&str>, content: Vec<u8>) -> Self {
        let (path, link) = (path.to_owned(), link.map(str::to_owned));
        self.entries.push(Entry { path, kind, mode, owner: (0, 0), link, content, xattrs: BTreeMap::new() });
        self
    }

    /// A folder.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.push(path, tar::EntryType::Directory, mode, None, Vec::new())
    }
    /// A file with this content.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.push(path, tar::EntryType::Regular, mode, None, content.into())
    }
    /// A file with the content of one on this machine.
    ///
    /// # Errors
    /// When `source` cannot be read; the error names it.
    pub fn copy(self, path: &str, mode: u32, source: &Path) -> io::Result<Self> {
        let content = fs::read(source)
            .map_err(|error| io::Error::new(error.kind(), format!("read {}: {error}", source.display())))?;
        Ok(self.file(path, mode, content))
    }
    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.push(path, tar::EntryType::Symlink, 0o777, Some(target), Vec::new())
    }
    /// A hard link to an earlier entry of the layer.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.push(path, tar::EntryType::Link, 0o644, Some(target), Vec::new())
    }
    /// Hides a file or folder of the layers below.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let marked = match path.rsplit_once('/') {
            Some((dir, name)) => format!("{dir}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&marked, 0, Vec::new())
    }
    /// Hides everything that the layers below have in a folder.
    #[must_use]
    pub fn opaque(self, dir: &str) -> Self {
        self.file(&format!("{dir}/.wh..wh..opq"), 0, Vec::new())
    }
    /// Owner and group of the entry added last.
    #[must_use]
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.owner = (uid, gid);
        }
        self
    }
    /// An extended attribute of the entry added last.
    #[must_use]
    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.xattrs.insert(name.to_owned(), value.to_vec());
        }
        self
    }

    /// The layer as a tar stream.
    ///
    /// # Errors
    /// When a path does not fit into a tar header.
    pub fn tar(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for entry in &self.entries {
            let xattrs: Vec<_> =
                entry.xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice())).collect();
            if !xattrs.is_empty() {
                tar.append_pax_extensions(xattrs.iter().map(|(name, value)| (name.as_str(), *value)))?;
            }
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(entry.kind);
            header.set_mode(entry.mode);
            header.set_uid(entry.owner.0.into());
            header.set_gid(entry.owner.1.into());
            header.set_mtime(0);
            header.set_size(entry.content.len() as u64);
            match &entry.link {
                Some(target) => tar.append_link(&mut header, &entry.path, target)?,
                None => tar.append_data(&mut header, &entry.path, entry.content.as_slice())?,
            }
        }
        tar.into_inner()
    }

    fn blob(&self) -> io::Result<Layer> {
        let tar = self.tar()?;
        let diff_id = Digest::of(&tar);
        let (bytes, media_type) = match self.packing {
            Packing::Plain => (tar, "application/vnd.oci.image.layer.v1.tar"),
            Packing::Gzip => {
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                gz.write_all(&tar)?;
                (gz.finish()?, "application/vnd.oci.image.layer.v1.tar+gzip")
            }
            Packing::Zstd => (zstd::encode_all(tar.as_slice(), 3)?, "application/vnd.oci.image.layer.v1.tar+zstd"),
        };
        Ok(Layer { diff_id, bytes, media_type })
    }
}

struct Layer {
    diff_id: Digest,
    bytes: Vec<u8>,
    media_type: &'static str,
}

/// One image to write.
#[derive(Debug, Clone, Default)]
pub struct ImageBuilder {
    /// Names: full, such as `busybox:1.36`, or a bare tag. Empty for none.
    pub names: Vec<String>,
    /// Layers, lowest first.
    pub layers: Vec<LayerBuilder>,
    /// What a container of it runs.
    pub config: ImageConfig,
    /// OCI's word for the machine it runs on (`amd64`); `None` is this one.
    pub architecture: Option<String>,
}

impl ImageBuilder {
    /// Debian's static busybox as a small distribution: `/bin/busybox`, a link in
    /// `/bin` for each of `applets`, `/etc/passwd` and `/etc/group` with root and
    /// nobody, an empty `/tmp`, `/var`, `/root`; runs `sh`. Its `sh` prefers its own
    /// applets to what PATH says.
    ///
    /// # Errors
    /// When `busybox` cannot be read.
    pub fn busybox(name: &str, busybox: &Path, applets: &[&str]) -> io::Result<Self> {
        let mut layer = LayerBuilder::new();
        for (dir, mode) in [
            ("bin", 0o755),
            ("etc", 0o755),
            ("proc", 0o555),
            ("sys", 0o555),
            ("dev", 0o755),
            ("root", 0o700),
            ("tmp", 0o1777),
            ("var", 0o755),
            ("var/tmp", 0o1777),
        ] {
            layer = layer.dir(dir, mode);
        }
        layer = layer.copy("bin/busybox", 0o755, busybox)?;
        for applet in applets.iter().filter(|applet| **applet != "busybox") {
            layer = layer.symlink(&format!("bin/{applet}"), "busybox");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
        layer = layer.file("etc/passwd", 0o644, passwd).file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n");
        let config = ImageConfig {
            cmd: vec!["sh".to_owned()],
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            ..ImageConfig::default()
        };
        Ok(Self { names: vec![name.to_owned()], layers: vec![layer], config, architecture: None })
    }
}

/// File name → content of an OCI layout.
type Files = BTreeMap<String, Vec<u8>>;

/// Writes the images as an OCI layout folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write_layout(dir: &Path, images: &[ImageBuilder]) -> io::Result<()> {
    for (name, bytes) in layout(images)? {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// Writes the images as an OCI layout in a tar archive, itself packed as asked.
///
/// # Errors
/// When the file cannot be written.
pub fn write_archive(path: &Path, images: &[ImageBuilder], packing: Packing) -> io::Result<()> {
    write_files(path, &layout(images)?, packing)
}

/// Writes the images as `docker save` did before Docker 25: `manifest.json`, one
/// configuration and one `layer.tar` a layer.
///
/// # Errors
/// When the file cannot be written.
pub fn write_docker_archive(path: &Path, images: &[ImageBuilder]) -> io::Result<()> {
    let (mut files, mut manifest) = (Files::new(), Vec::new());
    for image in images {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in &image.layers {
            let tar = layer.tar()?;
            let diff_id = Digest::of(&tar);
            let name = format!("{}/layer.tar", diff_id.hex());
            files.insert(name.clone(), tar);
            layers.push(name);
            diff_ids.push(diff_id);
        }
        let config = document(&configuration(image, &diff_ids))?;
        let name = format!("{}.json", Digest::of(&config).hex());
        files.insert(name.clone(), config);
        manifest.push(json!({ "Config": name, "RepoTags": image.names, "Layers": layers }));
    }
    files.insert("manifest.json".to_owned(), document(&Value::Array(manifest))?);
    write_files(path, &files, Packing::Plain)
}

fn write_files(path: &Path, files: &Files, packing: Packing) -> io::Result<()> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice())?;
    }
    let tar = tar.into_inner()?;
    let mut file = File::create(path)?;
    match packing {
        Packing::Plain => file.write_all(&tar),
        Packing::Zstd => file.write_all(&zstd::encode_all(tar.as_slice(), 3)?),
        Packing::Gzip => {
            let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            gz.write_all(&tar)?;
            gz.finish().map(drop)
        }
    }
}

fn layout(images: &[ImageBuilder]) -> io::Result<Files> {
    let (mut files, mut manifests) = (Files::new(), Vec::new());
    for image in images {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in &image.layers {
            let layer = layer.blob()?;
            diff_ids.push(layer.diff_id);
            layers.push(put(&mut files, layer.media_type, layer.bytes));
        }
        let config = document(&configuration(image, &diff_ids))?;
        let config = put(&mut files, "application/vnd.oci.image.config.v1+json", config);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        let mut descriptor = put(&mut files, media_type, document(&manifest)?);
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture(image) });
        if image.names.is_empty() {
            manifests.push(descriptor.clone());
        }
        for name in &image.names {
            descriptor["annotations"] = json!({ NAME_OCI: name });
            manifests.push(descriptor.clone());
        }
    }
    let index =
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests });
    files.insert("index.json".to_owned(), document(&index)?);
    files.insert("oci-layout".to_owned(), document(&json!({ "imageLayoutVersion": "1.0.0" }))?);
    Ok(files)
}

/// Adds a blob and gives its descriptor.
fn put(files: &mut Files, media_type: &str, bytes: Vec<u8>) -> Value {
    let digest = Digest::of(&bytes);
    let descriptor = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() });
    files.insert(crate::archive::blob_name(digest), bytes);
    descriptor
}

fn architecture(image: &ImageBuilder) -> &str {
    image.architecture.as_deref().unwrap_or(this_architecture())
}

fn configuration(image: &ImageBuilder, diff_ids: &[Digest]) -> Value {
    let config = &image.config;
    let set = |items: &std::collections::BTreeSet<String>| -> Value {
        items.iter().map(|item| (item.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let mut process = json!({
        "Entrypoint": config.entrypoint,
        "Cmd": config.cmd,
        "Env": config.env,
        "User": config.user,
        "WorkingDir": config.working_dir,
        "ExposedPorts": set(&config.exposed_ports),
        "Volumes": set(&config.volumes),
        "Labels": config.labels,
    });
    if let Some(signal) = &config.stop_signal {
        process["StopSignal"] = json!(signal);
    }
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(image),
        "os": "linux",
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": diff_ids.iter().map(Digest::to_string).collect::<Vec<_>>() },
    })
}

fn document(value: &Value) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(value)?)
}
