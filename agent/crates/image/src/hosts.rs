//! Where a registry's images are really fetched: containerd's `certs.d`.
//!
//! ```text
//! certs.d/r.example:5000/hosts.toml │ certs.d/_default/hosts.toml │ neither
//!                └──────────────────────┬──────────────────────────────┘
//!                      hosts in the order in which they are tried
//! ```
//!
//! The file's meaning is containerd's (docs/hosts.md and core/remotes/docker/config/hosts.go):
//! mirrors in the file's order, the registry itself last.

mod toml_file;

use crate::PullError;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::path::{Path, PathBuf};
use toml_file::{HostTable, OneOrMany, Pair};

/// The host that serves `docker.io`.
const HUB_HOST: &str = "registry-1.docker.io";

/// One host that may serve a registry's images.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Host {
    /// `https://mirror.example/v2`: what the repository's path is put behind.
    pub base: Url,
    /// The registry's name, sent as `ns=` to hosts that are not the registry itself.
    pub namespace: Option<String>,
    /// May say which digest a tag has.
    pub resolves: bool,
    /// May serve content by its digest.
    pub pulls: bool,
    pub tls: Tls,
    /// Sent with every request to this host, and to no other.
    pub headers: HeaderMap,
}

/// How a host proves who it is, and we to it. Paths of PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tls {
    /// Trusted besides the system's.
    pub authorities: Vec<PathBuf>,
    /// Certificate and key; with one file it holds both.
    pub identities: Vec<(PathBuf, Option<PathBuf>)>,
    pub skip_verify: bool,
}

impl Host {
    /// `mirror.example:5000`, for errors.
    pub(crate) fn name(&self) -> String {
        authority(&self.base)
    }
}

/// Host and port (where it is not the scheme's own) of a URL.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The hosts for a registry (`docker.io`, `r.example:5000`), read from the first of
/// the folders that has something for it.
pub(crate) fn hosts_of(registry: &str, certs_dirs: &[PathBuf]) -> Result<Vec<Host>, PullError> {
    for folder in certs_dirs.iter().flat_map(|dir| candidates(registry, dir)) {
        if !folder.is_dir() {
            continue;
        }
        let file = folder.join("hosts.toml");
        return match std::fs::read_to_string(&file) {
            Ok(text) => parse(registry, &file, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => with_certificates(registry, &folder),
            Err(error) => Err(wrong(&file, "hosts.toml", error.to_string())),
        };
    }
    Ok(vec![own_host(registry)?])
}

/// `hostPaths` of containerd: a ':' may stand as it is or as `HOST_PORT_`.
fn candidates(registry: &str, dir: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.extend([registry.to_owned(), "_default".to_owned()]);
    names.into_iter().map(|name| dir.join(name)).collect()
}

/// The registry itself as far as nobody says otherwise. `localhost` and loopback
/// addresses speak plain http unless their port is 443 or none, as containerd takes it.
fn own_host(registry: &str) -> Result<Host, PullError> {
    let (name, port) = match registry.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (registry, None),
    };
    let local = is_loopback(name);
    let scheme = if local && !matches!(port, None | Some("443")) { "http" } else { "https" };
    let host = if registry == "docker.io" { HUB_HOST } else { registry };
    let base = Url::parse(&format!("{scheme}://{host}/v2"))
        .map_err(|error| PullError::InvalidName { text: registry.to_owned(), problem: error.to_string() })?;
    let tls = Tls { skip_verify: local, ..Tls::default() };
    Ok(Host { base, namespace: None, resolves: true, pulls: true, tls, headers: HeaderMap::new() })
}

pub(crate) fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A folder without `hosts.toml` holds Docker's certificates: `*.crt` are
/// authorities, `*.cert` with `*.key` identities.
fn with_certificates(registry: &str, folder: &Path) -> Result<Vec<Host>, PullError> {
    let entries = std::fs::read_dir(folder).map_err(|error| wrong(folder, "certificates", error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut host = own_host(registry)?;
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => host.tls.authorities.push(path),
            Some("cert") => host.tls.identities.push((path.clone(), Some(path.with_extension("key")))),
            _ => {}
        }
    }
    Ok(vec![host])
}

fn parse(registry: &str, file: &Path, text: &str) -> Result<Vec<Host>, PullError> {
    let parsed = toml_file::parse(text).map_err(|(key, problem)| wrong(file, &key, problem))?;
    let mut hosts = Vec::new();
    for (url, table) in &parsed.hosts {
        let key = format!("host.{url:?}");
        hosts.push(host(registry, url, table, &Source { file, key: &key })?);
    }
    let source = Source { file, key: "server" };
    hosts.push(match parsed.server.as_deref().filter(|server| !server.is_empty()) {
        Some(server) => host(registry, server, &parsed.root, &source)?,
        None => apply(own_host(registry)?, &parsed.root, &source)?,
    });
    Ok(hosts)
}

/// Where a setting stands.
struct Source<'a> {
    file: &'a Path,
    key: &'a str,
}

impl Source<'_> {
    fn wrong(&self, key: &str, problem: impl Into<String>) -> PullError {
        let key = if key.is_empty() { self.key.to_owned() } else { format!("{}.{key}", self.key) };
        wrong(self.file, &key, problem.into())
    }

    /// Relative paths begin at the file's folder.
    fn path(&self, text: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("/")).join(text)
    }
}

fn wrong(file: &Path, key: &str, problem: String) -> PullError {
    PullError::Configuration { place: file.display().to_string(), key: key.to_owned(), problem }
}

fn host(registry: &str, url: &str, table: &HostTable, source: &Source<'_>) -> Result<Host, PullError> {
    let full = if url.starts_with("http") { url.to_owned() } else { format!("https://{url}") };
    let mut base = Url::parse(&full).map_err(|error| source.wrong("", format!("{url:?} is no URL: {error}")))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(source.wrong("", format!("{url:?} is not http://HOST or https://HOST")));
    }
    let path = base.path().trim_end_matches('/').to_owned();
    let overridden = table.override_path.unwrap_or(false);
    base.set_path(&if path.ends_with("/v2") || overridden { path } else { format!("{path}/v2") });
    base.set_query(None);
    let own = own_host(registry)?;
    // The hub's own server knows that it is the hub.
    let namespace = (base.host_str() != own.base.host_str()
        || base.port() != own.base.port() && authority(&base) != registry)
        .then(|| registry.to_owned());
    let bare = Host { base, namespace, resolves: true, pulls: true, tls: Tls::default(), headers: HeaderMap::new() };
    apply(bare, table, source)
}

/// What a table says over what a host is without it.
fn apply(mut host: Host, table: &HostTable, source: &Source<'_>) -> Result<Host, PullError> {
    if let Some(capabilities) = &table.capabilities {
        for capability in capabilities {
            if !matches!(capability.as_str(), "pull" | "resolve" | "push" | "referrers") {
                let problem = format!("{capability:?} is none of pull, resolve, push, referrers");
                return Err(source.wrong("capabilities", problem));
            }
        }
        // containerd reads an empty list as none given.
        if !capabilities.is_empty() {
            host.resolves = capabilities.iter().any(|c| c == "resolve");
            host.pulls = capabilities.iter().any(|c| c == "pull");
        }
    }
    if let Some(skip) = table.skip_verify {
        host.tls.skip_verify = skip;
    }
    host.tls.authorities = table.ca.iter().flat_map(OneOrMany::all).map(|path| source.path(path)).collect();
    host.tls.identities = table
        .client
        .iter()
        .flat_map(Pair::all)
        .map(|(certificate, key)| (source.path(certificate), key.map(|key| source.path(key))))
        .collect();
    for (name, values) in table.header.iter().flatten() {
        let at = |problem: String| source.wrong(&format!("header.{name}"), problem);
        let name: HeaderName = name.parse().map_err(|_| at("is no header name".to_owned()))?;
        for value in values.all() {
            // The value may be a token, so it is not quoted.
            let mut value: HeaderValue =
                value.parse().map_err(|_| at("has a value that no header can have".to_owned()))?;
            value.set_sensitive(true);
            host.headers.append(name.clone(), value);
        }
    }
    Ok(host)
}

#[cfg(test)]
mod tests;
