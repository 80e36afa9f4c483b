//! HTTP clients, one for each way in which a host proves itself.

use super::error::PullError;
use super::registry::reason;
use crate::hosts::{Host, Tls, is_loopback};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime};

/// Clients kept for the next pull; a node talks to a handful of registries.
const CLIENTS_MAX: usize = 64;

/// Clients that were made before, so that connections are used again.
#[derive(Default)]
pub(super) struct Clients {
    made: Mutex<HashMap<Key, Client>>,
}

/// A file that was replaced makes a new client.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    tls: Tls,
    encrypted: bool,
    proxied: bool,
    written: Vec<Option<SystemTime>>,
}

impl Clients {
    /// The client for a host. Reads files: not for an async thread.
    pub(super) fn for_host(&self, host: &Host, connect: Duration) -> Result<Client, PullError> {
        let files =
            host.tls.authorities.iter().chain(host.tls.identities.iter().flat_map(|(a, b)| [a].into_iter().chain(b)));
        let written = files.map(|path| std::fs::metadata(path).and_then(|data| data.modified()).ok()).collect();
        let encrypted = host.base.scheme() == "https";
        // As Go does: a proxy has no way to this machine's loopback.
        let proxied = !host.base.host_str().is_some_and(is_loopback);
        let key = Key { tls: host.tls.clone(), encrypted, proxied, written };
        if let Some(client) = self.lock().get(&key) {
            return Ok(client.clone());
        }
        let client = build(&key, connect, &host.name())?;
        let mut made = self.lock();
        if made.len() >= CLIENTS_MAX {
            made.clear();
        }
        made.insert(key, client.clone());
        Ok(client)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Client>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build(key: &Key, connect: Duration, host: &str) -> Result<Client, PullError> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Someone in this process may have installed the same before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let authorities = authorities(&key.tls)?;
    let identity = identity(&key.tls)?;
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("orlop/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect)
            // Redirects are followed by hand, without credentials.
            .redirect(Policy::none())
            // A layer's digest is of the bytes as they come.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .danger_accept_invalid_certs(key.encrypted && key.tls.skip_verify);
        let builder = if key.proxied { builder } else { builder.no_proxy() };
        match &identity {
            Some(identity) => builder.identity(identity.clone()),
            None => builder,
        }
    };
    match builder().tls_certs_merge(authorities.clone()).build() {
        // A machine without the system's authorities can still speak plain http.
        Err(_) if !key.encrypted => builder().tls_certs_only(authorities).build(),
        other => other,
    }
    .map_err(|error| {
        let problem = format!("TLS cannot be set up ({}); is the package ca-certificates there?", reason(&error));
        PullError::Unavailable { host: host.to_owned(), problem }
    })
}

fn authorities(tls: &Tls) -> Result<Vec<Certificate>, PullError> {
    let mut all = Vec::new();
    for path in &tls.authorities {
        let none = || wrong(path, "ca", "holds no PEM certificates");
        let found = Certificate::from_pem_bundle(&read(path, "ca")?).map_err(|_| none())?;
        if found.is_empty() {
            return Err(none());
        }
        all.extend(found);
    }
    Ok(all)
}

/// rustls presents one identity: the first of containerd's list.
fn identity(tls: &Tls) -> Result<Option<Identity>, PullError> {
    let Some((certificate, key)) = tls.identities.first() else { return Ok(None) };
    let mut pem = read(certificate, "client")?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(read(key, "client")?);
    }
    let none = |_| wrong(certificate, "client", "is no PEM certificate with its key");
    Identity::from_pem(&pem).map(Some).map_err(none)
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, PullError> {
    std::fs::read(path).map_err(|error| wrong(path, key, &error.to_string()))
}

fn wrong(path: &Path, key: &str, problem: &str) -> PullError {
    PullError::Configuration { place: path.display().to_string(), key: key.to_owned(), problem: problem.to_owned() }
}
