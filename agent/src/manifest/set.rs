//! All manifests together: which object each file gives, who wins where two give
//! the same, and which objects a broken file still stands for.

use super::parse::{Found, Object, Problem};
use crate::pod::{Origin, PodSource};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use orlop_lb::ServiceManifest;
use orlop_model::{PodDesired, TokenAsk};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FileContent {
    /// Sound objects.
    pub found: Vec<Found>,
    /// Faults.
    pub problems: Vec<Problem>,
}

/// Objects by `namespace/name`, and every problem.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ManifestSet {
    /// Pods.
    pub pods: BTreeMap<String, Arc<PodSource>>,
    /// Services with their files.
    pub services: BTreeMap<String, (PathBuf, ServiceManifest)>,
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets' contents.
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Problems.
    pub problems: Vec<Problem>,
}

/// Joins files in the order of their names. The first to give an object has it.
pub(crate) fn join(files: &BTreeMap<PathBuf, FileContent>, node: &str) -> ManifestSet {
    let mut set = ManifestSet::default();
    let mut owner: BTreeMap<&str, &Path> = BTreeMap::new();
    for (file, content) in files {
        set.problems.extend(content.problems.iter().cloned());
        for Found { name, object } in &content.found {
            if let Some(first) = owner.get(name.as_str()) {
                let message = format!("{name} is also in {}, which holds: rename one of them", first.display());
                set.problems.push(Problem { file: file.clone(), object: Some(name.clone()), message });
                continue;
            }
            owner.insert(name, file);
            let key = name.split_once(' ').map_or_else(String::new, |(_, key)| key.to_owned());
            match object {
                Object::Pod(pod) => {
                    let origin = Origin::File(file.clone());
                    let source = PodSource { uid: pod_uid(pod, node), origin, pod: (**pod).clone() };
                    set.pods.insert(key, Arc::new(source));
                }
                Object::Service(service) => {
                    set.services.insert(key, (file.clone(), (**service).clone()));
                }
                Object::ConfigMap(map) => {
                    set.config_maps.insert(key, (**map).clone());
                }
                Object::Secret(secret) => {
                    let data = secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect();
                    set.secrets.insert(key, data);
                }
            }
        }
    }
    set
}

impl ManifestSet {
    /// Whether ConfigMaps and Secrets are the same.
    pub fn same_objects(&self, other: &Self) -> bool {
        self.config_maps == other.config_maps && self.secrets == other.secrets
    }
}

impl orlop_pod::Objects for ManifestSet {
    fn config_map(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, String>> {
        static EMPTY: BTreeMap<String, String> = BTreeMap::new();
        self.config_maps.get(&format!("{namespace}/{name}")).map(|map| map.data.as_ref().unwrap_or(&EMPTY))
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        self.secrets.get(&format!("{namespace}/{name}"))
    }
}

impl orlop_volume::Objects for ManifestSet {
    fn config_map(&self, namespace: &str, name: &str) -> Option<orlop_volume::ObjectData> {
        self.config_maps.get(&format!("{namespace}/{name}")).map(files_of)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<orlop_volume::ObjectData> {
        self.secrets.get(&format!("{namespace}/{name}")).cloned()
    }

    fn token(&self, _: &PodDesired, _: &TokenAsk) -> Result<String, String> {
        Err("there is no API server here that could give one".to_owned())
    }
}

/// A ConfigMap's keys and their contents.
pub(crate) fn files_of(map: &ConfigMap) -> orlop_volume::ObjectData {
    let text = map.data.iter().flatten().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    text.chain(binary).collect()
}

/// A re-read file takes the place of what was known of it, but an object it gave
/// before and now breaks stays as it was: a typing error stops no pod.
pub(crate) fn keep_broken(before: &FileContent, mut now: FileContent) -> FileContent {
    let unreadable = now.problems.iter().any(|p| p.object.is_none());
    for old in &before.found {
        let given = now.found.iter().any(|f| f.name == old.name);
        let broken = now.problems.iter().any(|p| p.object.as_deref() == Some(&old.name));
        if !given && (broken || unreadable) {
            now.found.push(old.clone());
        }
    }
    now
}

/// A version 8 UUID (RFC 9562) of node, namespace, name and spec. Labels and
/// annotations are left out: they change in place.
fn pod_uid(pod: &Pod, node: &str) -> String {
    let mut hash = Sha256::new();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    for part in [node, namespace, pod.metadata.name.as_deref().unwrap_or_default()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(serde_json::to_vec(&pod.spec).unwrap_or_default());
    let mut bytes: [u8; 16] = hash.finalize()[..16].try_into().expect("SHA-256 has 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn content(text: &str) -> FileContent {
        let (found, problems) = parse(Path::new("f.yaml"), text);
        FileContent { found, problems }
    }

    fn pod(name: &str, image: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n---\n"
        )
    }

    #[test]
    fn the_first_file_wins_and_the_other_is_told() {
        let files = BTreeMap::from([
            (PathBuf::from("a.yaml"), content(&pod("web", "one"))),
            (PathBuf::from("b.yaml"), content(&pod("web", "two"))),
        ]);
        let set = join(&files, "n");
        assert_eq!(set.pods["default/web"].origin, Origin::File("a.yaml".into()));
        assert!(set.problems[0].message.contains("also in a.yaml"), "{:?}", set.problems);
    }

    #[test]
    fn a_uid_follows_the_spec_only() {
        let uid = |text: &str, node: &str| {
            join(&BTreeMap::from([(PathBuf::from("a"), content(text))]), node).pods["default/web"].uid.clone()
        };
        let base = uid(&pod("web", "one"), "n");
        assert_eq!(uid(&pod("web", "one").replace("{name: web}", "{name: web, labels: {a: b}}"), "n"), base);
        assert_ne!(uid(&pod("web", "two"), "n"), base);
        assert_ne!(uid(&pod("web", "one"), "m"), base);
    }

    #[test]
    fn a_typing_error_stops_no_pod() {
        let before = content(&(pod("web", "one") + &pod("db", "one")));
        let names = |c: &FileContent| c.found.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
        let broken = keep_broken(&before, content("kind: [\n"));
        assert_eq!(names(&broken), ["Pod default/web", "Pod default/db"]);
        let one_broken = keep_broken(&before, content(&pod("web", "one").replace("image", "imagee")));
        assert_eq!(names(&one_broken), ["Pod default/web"]);
        assert!(keep_broken(&before, content("")).found.is_empty());
    }
}
