//! One manifest file: YAML or JSON documents to objects, every fault with the
//! file, the object and the field it is in.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use orlop_lb::ServiceManifest;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Largest manifest file, in bytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 8 << 20;

/// An object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    /// A Pod.
    Pod(Box<Pod>),
    /// A Service.
    Service(Box<ServiceManifest>),
    /// A ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// A Secret.
    Secret(Box<Secret>),
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The object, `Pod default/web`, as far as it can be told.
    pub object: Option<String>,
    /// What is wrong and where.
    pub message: String,
}

/// One object and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// `Pod default/web`.
    pub name: String,
    /// The object.
    pub object: Object,
}

/// All documents of a file: those that are sound, and what is wrong with the others.
pub(crate) fn parse(file: &Path, text: &str) -> (Vec<Found>, Vec<Problem>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (line, document) in documents(text) {
        let value = match serde_saphyr::from_str_with_options::<Value>(document, options()) {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                let message =
                    format!("the document that starts at line {line} is not valid YAML: {}", one_line(&error));
                problems.push(Problem { file: file.to_owned(), object: None, message });
                continue;
            }
        };
        let items = if value.get("kind").and_then(Value::as_str) == Some("List") {
            value.get("items").and_then(Value::as_array).cloned().unwrap_or_default()
        } else {
            vec![value]
        };
        for item in items {
            let name = name_of(&item);
            match object(item) {
                Ok(object) => found.push(Found { name: name.unwrap_or_default(), object }),
                Err(message) => {
                    let message = if name.is_none() { format!("document at line {line}: {message}") } else { message };
                    problems.push(Problem { file: file.to_owned(), object: name, message });
                }
            }
        }
    }
    (found, problems)
}

/// Kubernetes reads YAML 1.1, in which `defaultMode: 0644` is octal.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { legacy_octal_numbers: true }
}

/// Splits at lines that start with `---`, which is what YAML 1.2 calls a document
/// marker wherever it stands (9.1.2), block scalars included. Gives the number of
/// each document's first line.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((start_line, &text[start..offset]));
            (start, start_line) = (offset + 3, index + 1);
        }
        offset += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unreadable").to_owned()
}

fn name_of(value: &Value) -> Option<String> {
    let kind = value.get("kind")?.as_str()?;
    let metadata = value.get("metadata")?;
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or("default");
    Some(format!("{kind} {namespace}/{}", metadata.get("name")?.as_str()?))
}

fn object(value: Value) -> Result<Object, String> {
    let Some(fields) = value.as_object() else {
        return Err("a manifest must be a mapping with apiVersion, kind and metadata".to_owned());
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    match value.pointer("/metadata/name") {
        Some(Value::String(name)) if !name.is_empty() => {}
        None | Some(Value::Null | Value::String(_)) => return Err("metadata.name: Required value".to_owned()),
        Some(other) => {
            return Err(format!("metadata.name: Invalid value: {other}: must be a string; put it in quotes"));
        }
    }
    match (version.as_str(), kind.as_str()) {
        ("v1", "Pod") => typed::<Pod>(value).map(|pod| Object::Pod(Box::new(pod))),
        ("v1", "Service") => typed(value).map(|service| Object::Service(Box::new(service))),
        ("v1", "ConfigMap") => typed(value).map(|map| Object::ConfigMap(Box::new(map))),
        ("v1", "Secret") => typed(value).map(|secret| Object::Secret(Box::new(fold_string_data(secret)))),
        ("", _) => Err("apiVersion: Required value".to_owned()),
        (_, "") => Err("kind: Required value".to_owned()),
        (version, kind) => Err(format!(
            "kind: Unsupported value: \"{kind}\" of apiVersion \"{version}\": a manifests folder takes v1 Pods, \
             Services, ConfigMaps and Secrets; controllers such as Deployments need an API server"
        )),
    }
}

/// Deserializes with the field's path in every error; unknown fields are errors.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(&value, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path| unknown.push(field_path(&path.to_string())));
    match result {
        Err(error) => Err(format!("{}: Invalid value: {error}", track.path())),
        Ok(_) if !unknown.is_empty() => {
            let plural = if unknown.len() == 1 { "unknown field" } else { "unknown fields" };
            Err(format!("{plural} {}", unknown.join(", ")))
        }
        Ok(object) => Ok(object),
    }
}

/// `spec.containers.0.foo` as Kubernetes writes it: `spec.containers[0].foo`.
fn field_path(dotted: &str) -> String {
    let mut path = String::new();
    for part in dotted.split('.').filter(|part| *part != "?") {
        if part.bytes().all(|c| c.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
        }
    }
    path
}

/// `stringData` is write-only in the API: it overrides `data`.
fn fold_string_data(mut secret: Secret) -> Secret {
    for (key, text) in secret.string_data.take().unwrap_or_default() {
        secret.data.get_or_insert_default().insert(key, k8s_openapi::ByteString(text.into_bytes()));
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, names: &[&str], wrong: &[&str]) {
        let (found, problems) = parse(Path::new("m.yaml"), text);
        assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), names, "{problems:?}");
        assert_eq!(problems.len(), wrong.len(), "{problems:?}");
        for (problem, part) in problems.iter().zip(wrong) {
            let whole = format!("{:?} {}", problem.object, problem.message);
            assert!(whole.contains(part), "{whole:?} lacks {part:?}");
        }
    }

    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: busybox}]}\n";

    #[test]
    fn documents_stand_alone() {
        check(POD, &["Pod default/a"], &[]);
        check(&format!("---\n{POD}---\n# only a comment\n---\n{POD}"), &["Pod default/a", "Pod default/a"], &[]);
        check(&format!("{POD}---\nkind: [\n---\n{POD}"), &["Pod default/a", "Pod default/a"], &["line 5"]);
        check("", &[], &[]);
    }

    #[test]
    fn faults_name_object_and_field() {
        check(&POD.replace("image", "imagee"), &[], &["Pod default/a\") unknown field spec.containers[0].imagee"]);
        check(&POD.replace("{name: c,", "{name: 7,"), &[], &["spec.containers[0].name: Invalid value"]);
        check(&POD.replace("Pod", "Deployment"), &[], &["Unsupported value: \"Deployment\""]);
        check("just text", &[], &["must be a mapping"]);
        check("apiVersion: v1\nkind: Pod\nmetadata: {}\n", &[], &["metadata.name: Required value"]);
        check("apiVersion: v1\nkind: Pod\nmetadata: {name: true}\n", &[], &["must be a string; put it in quotes"]);
        check(&format!("{POD}kind: Pod\n"), &[], &["not valid YAML"]);
    }

    #[test]
    fn modes_are_octal() {
        let text = POD.replace(
            "spec: {",
            "spec: {volumes: [{name: v, emptyDir: {}}, {name: m, configMap: {defaultMode: 0640}}], ",
        );
        let (found, problems) = parse(Path::new("m.yaml"), &text);
        let Object::Pod(pod) = &found[0].object else { panic!("{problems:?}") };
        let map = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[1].config_map.as_ref().unwrap();
        assert_eq!(map.default_mode, Some(0o640));
    }

    #[test]
    fn a_list_is_its_items() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {k: v}}\n- {apiVersion: v1, kind: Nope, metadata: {name: m}}\n";
        check(list, &["ConfigMap default/m"], &["Nope default/m"]);
    }

    #[test]
    fn string_data_wins_over_data() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: YQ==}\nstringData: {k: b}\n";
        let (found, _) = parse(Path::new("m.yaml"), text);
        let Object::Secret(secret) = &found[0].object else { panic!("{found:?}") };
        assert_eq!(secret.data.as_ref().unwrap()["k"].0, b"b");
    }
}
