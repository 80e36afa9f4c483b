//! ConfigMaps and Secrets as files.

use crate::VolumeError;
use orlop_model::KeyToPath;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Key → content. Of a ConfigMap `data` and `binaryData` together; of a Secret
/// `data` decoded.
pub type ObjectData = BTreeMap<String, Vec<u8>>;

/// Where ConfigMaps and Secrets are looked up: manifests today, an API server's
/// watch later.
pub trait Objects {
    /// A ConfigMap, if there is one.
    fn config_map(&self, namespace: &str, name: &str) -> Option<ObjectData>;
    /// A Secret, if there is one.
    fn secret(&self, namespace: &str, name: &str) -> Option<ObjectData>;
}

/// One file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileContent {
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Relative path → file.
pub(crate) type Payload = BTreeMap<PathBuf, FileContent>;

/// A ConfigMap or Secret volume, as far as both are alike.
pub(crate) struct ObjectVolume<'a> {
    pub secret: bool,
    pub name: &'a str,
    pub items: &'a [KeyToPath],
    pub default_mode: u32,
    pub optional: bool,
}

impl ObjectVolume<'_> {
    /// The files that the object makes. With no `items` every key is a file; with
    /// some, only those.
    pub(crate) fn payload(&self, namespace: &str, objects: &dyn Objects) -> Result<Payload, VolumeError> {
        let kind = if self.secret { "secret" } else { "configmap" };
        let found =
            if self.secret { objects.secret(namespace, self.name) } else { objects.config_map(namespace, self.name) };
        let data = match found {
            Some(data) => data,
            None if self.optional => ObjectData::new(),
            None => return Err(VolumeError::ObjectNotFound { kind, name: self.name.to_owned() }),
        };
        let mut payload = Payload::new();
        if self.items.is_empty() {
            for (key, bytes) in data {
                payload.insert(checked(Path::new(&key))?, FileContent { bytes, mode: self.default_mode });
            }
            return Ok(payload);
        }
        for item in self.items {
            let mode = item.mode.unwrap_or(self.default_mode);
            match data.get(&item.key) {
                Some(bytes) => {
                    payload.insert(checked(&item.path)?, FileContent { bytes: bytes.clone(), mode });
                }
                None if self.optional => {}
                None => {
                    let what = if self.secret { "secret" } else { "config" };
                    return Err(VolumeError::KeyNotFound { kind, what, key: item.key.clone() });
                }
            }
        }
        Ok(payload)
    }
}

/// Bytes of a path inside a volume, as the kubelet's AtomicWriter limits them.
const PATH_BYTES_MAX: usize = 4096;
/// Bytes of one part of it.
const PART_BYTES_MAX: usize = 255;

/// The rules of the kubelet's AtomicWriter: relative, no `..`, and the first part
/// does not start with `..`, which is where the writer keeps its own files.
fn checked(path: &Path) -> Result<PathBuf, VolumeError> {
    use std::path::Component;
    let bad = |problem| Err(VolumeError::Path { path: path.to_path_buf(), problem });
    let text = path.as_os_str().to_string_lossy();
    if text.is_empty() {
        return bad("is empty");
    }
    if path.is_absolute() {
        return bad("must not be absolute");
    }
    if text.len() > PATH_BYTES_MAX {
        return bad("is longer than 4096 characters");
    }
    if text.starts_with("..") {
        return bad("must not start with '..'");
    }
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) if part.len() > PART_BYTES_MAX => {
                return bad("has a part longer than 255 characters");
            }
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return bad("must not hold '..'"),
        }
    }
    if clean.as_os_str().is_empty() { bad("names no file") } else { Ok(clean) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;
    impl Objects for One {
        fn config_map(&self, namespace: &str, name: &str) -> Option<ObjectData> {
            (namespace == "default" && name == "one")
                .then(|| BTreeMap::from([("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())]))
        }
        fn secret(&self, namespace: &str, name: &str) -> Option<ObjectData> {
            self.config_map(namespace, name)
        }
    }

    fn item(key: &str, path: &str, mode: Option<u32>) -> KeyToPath {
        KeyToPath { key: key.into(), path: path.into(), mode }
    }

    fn check(volume: &ObjectVolume<'_>, want: Result<&[(&str, &str, u32)], &str>) {
        let got = volume.payload("default", &One).map_err(|error| error.to_string());
        let want = want.map_err(str::to_owned).map(|files| {
            files
                .iter()
                .map(|(path, text, mode)| (PathBuf::from(path), FileContent { bytes: (*text).into(), mode: *mode }))
                .collect()
        });
        assert_eq!(got, want);
    }

    #[test]
    fn keys_items_modes_and_what_is_missing() {
        let all = ObjectVolume { secret: false, name: "one", items: &[], default_mode: 0o644, optional: false };
        check(&all, Ok(&[("a", "1", 0o644), ("b", "2", 0o644)]));
        let items = [item("a", "x/y", Some(0o400)), item("b", "z", None)];
        check(&ObjectVolume { items: &items, ..all }, Ok(&[("x/y", "1", 0o400), ("z", "2", 0o644)]));
        check(&ObjectVolume { name: "two", ..all }, Err("configmap \"two\" not found"));
        check(&ObjectVolume { name: "two", secret: true, ..all }, Err("secret \"two\" not found"));
        check(&ObjectVolume { name: "two", optional: true, ..all }, Ok(&[]));
        let items = [item("c", "c", None), item("a", "a", None)];
        check(&ObjectVolume { items: &items, ..all }, Err("configmap references non-existent config key: c"));
        check(
            &ObjectVolume { items: &items, secret: true, ..all },
            Err("secret references non-existent secret key: c"),
        );
        check(&ObjectVolume { items: &items, optional: true, ..all }, Ok(&[("a", "1", 0o644)]));
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "..data", "..x", ".", &"x".repeat(256)] {
            checked(Path::new(bad)).expect_err(bad);
        }
        assert_eq!(checked(Path::new("./a//b/.c")).unwrap(), Path::new("a/b/.c"));
    }
}
