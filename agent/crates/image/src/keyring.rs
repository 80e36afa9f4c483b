//! Who may pull: credentials from docker configuration files and from Secrets.
//!
//! The rules are the kubelet's (pkg/credentialprovider/keyring.go): an entry's
//! host may hold globs in each of its labels, its port must be equal, its path
//! must be a prefix, and more specific entries come first. Nothing here reads the
//! network; only [`Keyring::add_files`] reads files.

mod glob;

use crate::{PullError, Reference};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of a credentials file that are read at most (`maxReadLength`, pkg/credentialprovider/config.go).
const FILE_BYTES_MAX: u64 = 10 << 20;
/// What an entry for Docker's hub is called once its `/v1/` is taken off.
const HUB_KEY: &str = "index.docker.io";

/// A user name and a password. Its `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Credential {
    /// User name.
    pub username: String,
    /// Password, or a token that stands for one.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Credentials in the order in which they are asked: sources as they were given,
/// and within a source the more specific entry first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Keyring {
    sources: Vec<Source>,
}

/// Entries of all Secrets of a pod, or of the node's files: sorted and matched together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Source {
    entries: BTreeMap<String, Vec<Credential>>,
}

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
}

/// One registry of a docker configuration. The kubelet knows no more fields.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

impl Keyring {
    /// No credentials: images are pulled anonymously.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no credentials at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.iter().all(|source| source.entries.is_empty())
    }

    /// Puts the credentials of a pod's Secrets behind what is there. Each Secret is
    /// its name (for errors), its type and its decoded data. Secrets of other types
    /// hold no credentials and are passed over, as the kubelet does.
    ///
    /// # Errors
    /// [`PullError::Configuration`] naming the Secret whose JSON does not parse.
    pub fn add_secrets<'a, D, B>(
        &mut self,
        secrets: impl IntoIterator<Item = (&'a str, &'a str, D)>,
    ) -> Result<(), PullError>
    where
        D: IntoIterator<Item = (&'a str, B)>,
        B: AsRef<[u8]>,
    {
        let mut source = Source::default();
        for (name, kind, data) in secrets {
            let (key, legacy) = match kind {
                "kubernetes.io/dockerconfigjson" => (".dockerconfigjson", false),
                "kubernetes.io/dockercfg" => (".dockercfg", true),
                _ => continue,
            };
            for (_, bytes) in data.into_iter().filter(|(entry, _)| *entry == key) {
                let parsed = if legacy { parse_legacy(bytes.as_ref()) } else { parse_config_json(bytes.as_ref()) };
                let entries = parsed.map_err(|problem| PullError::Configuration {
                    place: format!("Secret {name}"),
                    key: key.to_owned(),
                    problem,
                })?;
                source.add(entries);
            }
        }
        self.sources.push(source);
        Ok(())
    }

    /// Puts a user's credential for an image's registry behind what is there.
    pub fn add(&mut self, image: &Reference, credential: Credential) {
        let mut source = Source::default();
        source.add(BTreeMap::from([(image.registry().to_owned(), credential)]));
        self.sources.push(source);
    }

    /// Puts the node's own credentials behind what is there: of the first of these
    /// files that exists and parses, as the kubelet does. A file called `.dockercfg`
    /// is of the old form. A file that cannot be used is in the returned list and
    /// stops nothing.
    pub fn add_files(&mut self, paths: &[PathBuf]) -> Vec<PullError> {
        let mut problems = Vec::new();
        for path in paths {
            match read_file(path) {
                Ok(None) => {}
                Ok(Some(entries)) => {
                    let mut source = Source::default();
                    source.add(entries);
                    self.sources.push(source);
                    break;
                }
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }

    /// Puts another keyring's credentials behind these.
    pub fn append(&mut self, other: Self) {
        self.sources.extend(other.sources);
    }

    /// What to try for an image, in this order. Empty: anonymously.
    #[must_use]
    pub fn lookup(&self, image: &Reference) -> Vec<Credential> {
        let name = format!("{}/{}", image.registry(), image.repository());
        let mut found: Vec<Credential> = Vec::new();
        for credential in self.sources.iter().flat_map(|source| source.lookup(&name)) {
            // The same password from two Secrets gives the same answer.
            if !found.contains(credential) {
                found.push(credential.clone());
            }
        }
        found
    }
}

/// Where the kubelet looks: its own folder, `/`'s and root's `.docker`. The legacy form comes last.
#[must_use]
pub fn node_credential_files(root_dir: &Path) -> Vec<PathBuf> {
    let json = [root_dir.join("config.json"), "/root/.docker/config.json".into(), "/.docker/config.json".into()];
    let legacy = [root_dir.join(".dockercfg"), "/root/.dockercfg".into(), "/.dockercfg".into()];
    json.into_iter().chain(legacy).collect()
}

impl Source {
    fn add(&mut self, entries: BTreeMap<String, Credential>) {
        for (place, credential) in entries {
            self.entries.entry(entry_key(&place)).or_default().push(credential);
        }
    }

    fn lookup(&self, image: &str) -> Vec<&Credential> {
        // From the back of the alphabet, so that a/b comes before a.
        let matching = self.entries.iter().rev().filter(|(key, _)| matches(key, image));
        let found: Vec<&Credential> = matching.flat_map(|(_, credentials)| credentials).collect();
        match self.entries.get(HUB_KEY) {
            Some(hub) if found.is_empty() && image.starts_with("docker.io/") => hub.iter().collect(),
            _ => found,
        }
    }
}

/// `https://HOST/v1/PATH` → `HOST/PATH`.
fn entry_key(place: &str) -> String {
    let rest = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit('@').next().unwrap_or_default();
    let path = if path.starts_with("/v2/") || path.starts_with("/v1/") { &path[3..] } else { path };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

/// `URLsMatch` of the kubelet: labels by glob, port equal, path a prefix.
fn matches(key: &str, image: &str) -> bool {
    let ((key_host, key_port), key_path) = split(key);
    let ((host, port), path) = split(image);
    let (globs, labels): (Vec<&str>, Vec<&str>) = (key_host.split('.').collect(), host.split('.').collect());
    key_port == port
        && globs.len() == labels.len()
        && path.starts_with(key_path)
        && globs.iter().zip(labels).all(|(glob, label)| glob::matches(glob, label))
}

/// Host, port and path with its slash.
fn split(text: &str) -> ((&str, &str), &str) {
    let (host, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    // Brackets of an IPv6 address would be read as a class of characters.
    let bare = host.0.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    ((bare.unwrap_or(host.0), host.1), path)
}

fn read_file(path: &Path) -> Result<Option<BTreeMap<String, Credential>>, PullError> {
    use std::io::Read as _;
    let wrong = |problem: String| PullError::Configuration {
        place: path.display().to_string(),
        key: "auths".to_owned(),
        problem,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    let legacy = path.file_name().is_some_and(|name| name == ".dockercfg");
    let entries = if legacy { parse_legacy(&bytes) } else { parse_config_json(&bytes) };
    entries.map(Some).map_err(wrong)
}

fn parse_config_json(bytes: &[u8]) -> Result<BTreeMap<String, Credential>, String> {
    let config: DockerConfigJson = serde_json::from_slice(bytes).map_err(|error| place_only(&error))?;
    credentials(config.auths.unwrap_or_default())
}

fn parse_legacy(bytes: &[u8]) -> Result<BTreeMap<String, Credential>, String> {
    credentials(serde_json::from_slice(bytes).map_err(|error| place_only(&error))?)
}

/// serde's own words would quote a value, which may be the password.
fn place_only(error: &serde_json::Error) -> String {
    format!("it is no docker configuration: JSON is wrong at line {} column {}", error.line(), error.column())
}

fn credentials(entries: BTreeMap<String, Entry>) -> Result<BTreeMap<String, Credential>, String> {
    entries
        .into_iter()
        .map(|(place, entry)| {
            let credential = entry.credential().map_err(|problem| format!("the entry for {place} {problem}"))?;
            Ok((place, credential))
        })
        .collect()
}

impl Entry {
    /// `auth` wins over `username` and `password`.
    fn credential(self) -> Result<Credential, &'static str> {
        if self.auth.is_empty() {
            return Ok(Credential { username: self.username, password: self.password });
        }
        let text = self.auth.trim();
        let decoded = if text.ends_with('=') { STANDARD.decode(text) } else { STANDARD_NO_PAD.decode(text) };
        let decoded =
            decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or("has an auth that is no base64")?;
        let (username, password) =
            decoded.split_once(':').ok_or("has an auth that is not base64 of username:password")?;
        Ok(Credential { username: username.to_owned(), password: password.to_owned() })
    }
}

#[cfg(test)]
mod tests;
