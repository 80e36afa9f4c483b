//! ConfigMaps, Secrets, tokens and the downward API as files.

use crate::VolumeError;
use orlop_model::{DownwardFile, KeyToPath, NodeAllocatable, PodDesired, Projection, TokenAsk, VolumeSource};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Key → content. Of a ConfigMap `data` and `binaryData` together; of a Secret
/// `data` decoded.
pub type ObjectData = BTreeMap<String, Vec<u8>>;

/// Where ConfigMaps, Secrets and tokens are looked up: manifests, or what an API
/// server's watches have brought.
pub trait Objects {
    /// A ConfigMap, if there is one.
    fn config_map(&self, namespace: &str, name: &str) -> Option<ObjectData>;
    /// A Secret, if there is one.
    fn secret(&self, namespace: &str, name: &str) -> Option<ObjectData>;
    /// A token of the pod's service account, bound to the pod. Renewing it in time is
    /// the caller's: the file takes whatever is given at [`crate::update`].
    ///
    /// # Errors
    /// Why there is none, in the API server's words.
    fn token(&self, pod: &PodDesired, ask: &TokenAsk) -> Result<String, String>;
}

/// What files are made of.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// ConfigMaps, Secrets and tokens.
    pub objects: &'a dyn Objects,
    /// Stands for a limit that a container does not give.
    pub allocatable: NodeAllocatable,
}

/// One file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileContent {
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner; `None` stays root.
    pub user: Option<u32>,
}

/// Relative path → file.
pub(crate) type Payload = BTreeMap<PathBuf, FileContent>;

/// Whether the volume's content is written by us from objects and the pod itself.
pub(crate) fn is_written(source: &VolumeSource) -> bool {
    match source {
        VolumeSource::ConfigMap { .. }
        | VolumeSource::Secret { .. }
        | VolumeSource::Downward { .. }
        | VolumeSource::Projected { .. } => true,
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => false,
    }
}

/// The files that the volume has.
pub(crate) fn payload(pod: &PodDesired, source: &VolumeSource, sources: &Sources<'_>) -> Result<Payload, VolumeError> {
    let object = |secret, name, items, default_mode, optional| {
        ObjectFiles { secret, name, items, default_mode, optional }.payload(pod.key.namespace(), sources.objects)
    };
    match source {
        VolumeSource::ConfigMap { name, items, default_mode, optional } => {
            object(false, name, items, *default_mode, *optional)
        }
        VolumeSource::Secret { name, items, default_mode, optional } => {
            object(true, name, items, *default_mode, *optional)
        }
        VolumeSource::Downward { items, default_mode } => downward(pod, items, *default_mode, sources),
        VolumeSource::Projected { sources: list, default_mode } => projected(pod, list, *default_mode, sources),
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => Ok(Payload::new()),
    }
}

/// Later sources win where paths meet; every source that fails is named.
fn projected(
    pod: &PodDesired,
    list: &[Projection],
    default_mode: u32,
    sources: &Sources<'_>,
) -> Result<Payload, VolumeError> {
    let (mut all, mut errors) = (Payload::new(), Vec::new());
    for source in list {
        let made = match source {
            Projection::ConfigMap { name, items, optional } => {
                let files = ObjectFiles { secret: false, name, items, default_mode, optional: *optional };
                files.payload(pod.key.namespace(), sources.objects)
            }
            Projection::Secret { name, items, optional } => {
                let files = ObjectFiles { secret: true, name, items, default_mode, optional: *optional };
                files.payload(pod.key.namespace(), sources.objects)
            }
            Projection::Downward { items } => downward(pod, items, default_mode, sources),
            Projection::Token { path, ask } => token(pod, path, ask, default_mode, sources),
        };
        match made {
            Ok(made) => all.extend(made),
            Err(VolumeError::Several(several)) => errors.extend(several),
            Err(error) => errors.push(error),
        }
    }
    // The kubelet's aggregate says the same thing once.
    let mut said = std::collections::BTreeSet::new();
    errors.retain(|error| said.insert(error.to_string()));
    match errors.len() {
        0 => Ok(all),
        1 => Err(errors.remove(0)),
        _ => Err(VolumeError::Several(errors)),
    }
}

/// The token's file is its user's own, when all containers run as one; fsGroup then
/// makes 0640 of 0600 (pkg/volume/projected).
fn token(
    pod: &PodDesired,
    path: &Path,
    ask: &TokenAsk,
    default_mode: u32,
    sources: &Sources<'_>,
) -> Result<Payload, VolumeError> {
    let user = only_user(pod);
    let mode = if user.is_some() || pod.security.fs_group.is_some() { 0o600 } else { default_mode };
    let token = sources.objects.token(pod, ask).map_err(VolumeError::Token)?;
    Ok(Payload::from([(checked(path)?, FileContent { bytes: token.into_bytes(), mode, user })]))
}

/// The user that every container of the pod runs as, if all say the same one (the
/// kubelet's `FsUserFrom`).
fn only_user(pod: &PodDesired) -> Option<u32> {
    let mut users = pod.containers.iter().map(|container| container.security.run_as_user);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

fn downward(
    pod: &PodDesired,
    items: &[DownwardFile],
    default_mode: u32,
    sources: &Sources<'_>,
) -> Result<Payload, VolumeError> {
    let mut payload = Payload::new();
    for item in items {
        let text = orlop_pod::downward_file(&item.source, pod, &sources.allocatable)
            .map_err(|error| VolumeError::Downward(error.to_string()))?;
        let mode = item.mode.unwrap_or(default_mode);
        payload.insert(checked(&item.path)?, FileContent { bytes: text.into_bytes(), mode, user: None });
    }
    Ok(payload)
}

/// Files of a ConfigMap or Secret, as far as both are alike.
struct ObjectFiles<'a> {
    secret: bool,
    name: &'a str,
    items: &'a [KeyToPath],
    default_mode: u32,
    optional: bool,
}

impl ObjectFiles<'_> {
    /// The files that the object makes. With no `items` every key is a file; with
    /// some, only those.
    fn payload(&self, namespace: &str, objects: &dyn Objects) -> Result<Payload, VolumeError> {
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
                payload.insert(checked(Path::new(&key))?, file(bytes, self.default_mode));
            }
            return Ok(payload);
        }
        for item in self.items {
            let mode = item.mode.unwrap_or(self.default_mode);
            match data.get(&item.key) {
                Some(bytes) => {
                    payload.insert(checked(&item.path)?, file(bytes.clone(), mode));
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

fn file(bytes: Vec<u8>, mode: u32) -> FileContent {
    FileContent { bytes, mode, user: None }
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
        fn token(&self, _: &PodDesired, _: &TokenAsk) -> Result<String, String> {
            Err("no tokens here".into())
        }
    }

    fn item(key: &str, path: &str, mode: Option<u32>) -> KeyToPath {
        KeyToPath { key: key.into(), path: path.into(), mode }
    }

    fn check(volume: &ObjectFiles<'_>, want: Result<&[(&str, &str, u32)], &str>) {
        let got = volume.payload("default", &One).map_err(|error| error.to_string());
        let want = want.map_err(str::to_owned).map(|files| {
            files.iter().map(|(path, text, mode)| (PathBuf::from(path), file((*text).into(), *mode))).collect()
        });
        assert_eq!(got, want);
    }

    #[test]
    fn keys_items_modes_and_what_is_missing() {
        let all = ObjectFiles { secret: false, name: "one", items: &[], default_mode: 0o644, optional: false };
        check(&all, Ok(&[("a", "1", 0o644), ("b", "2", 0o644)]));
        let items = [item("a", "x/y", Some(0o400)), item("b", "z", None)];
        check(&ObjectFiles { items: &items, ..all }, Ok(&[("x/y", "1", 0o400), ("z", "2", 0o644)]));
        check(&ObjectFiles { name: "two", ..all }, Err("configmap \"two\" not found"));
        check(&ObjectFiles { name: "two", secret: true, ..all }, Err("secret \"two\" not found"));
        check(&ObjectFiles { name: "two", optional: true, ..all }, Ok(&[]));
        let items = [item("c", "c", None), item("a", "a", None)];
        check(&ObjectFiles { items: &items, ..all }, Err("configmap references non-existent config key: c"));
        check(&ObjectFiles { items: &items, secret: true, ..all }, Err("secret references non-existent secret key: c"));
        check(&ObjectFiles { items: &items, optional: true, ..all }, Ok(&[("a", "1", 0o644)]));
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "..data", "..x", ".", &"x".repeat(256)] {
            checked(Path::new(bad)).expect_err(bad);
        }
        assert_eq!(checked(Path::new("./a//b/.c")).unwrap(), Path::new("a/b/.c"));
    }
}
