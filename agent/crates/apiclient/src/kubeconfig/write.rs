//! The kubeconfig that a node goes on with after its bootstrap (kubeadm's `kubelet.conf`).

use crate::error::ApiError;
use crate::settings::{Pem, Settings};
use k8s_openapi::ByteString;
use serde::Serialize;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct File<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    clusters: [NamedCluster<'a>; 1],
    contexts: [NamedContext; 1],
    current_context: &'static str,
    users: [NamedUser<'a>; 1],
}

#[derive(Serialize)]
struct NamedCluster<'a> {
    name: &'static str,
    cluster: Cluster<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster<'a> {
    server: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure_skip_tls_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_url: Option<&'a str>,
}

#[derive(Serialize)]
struct NamedContext {
    name: &'static str,
    context: Context,
}

#[derive(Serialize)]
struct Context {
    cluster: &'static str,
    namespace: &'static str,
    user: &'static str,
}

#[derive(Serialize)]
struct NamedUser<'a> {
    name: &'static str,
    user: User<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct User<'a> {
    client_certificate: &'a Path,
    client_key: &'a Path,
}

/// Writes a kubeconfig that reaches the server as `reach` does and takes certificate and
/// key from files, so that rotation needs no other one. Mode 0600, replaced atomically;
/// the names in it are the kubelet's (`pkg/kubelet/certificate/bootstrap`).
///
/// # Errors
/// When the file cannot be written.
pub fn write_kubeconfig(path: &Path, reach: &Settings, certificate: &Path, key: &Path) -> Result<(), ApiError> {
    let (authority, data) = match &reach.authority {
        Some(Pem::File(file)) => (Some(file.as_path()), None),
        Some(Pem::Data(data)) => (None, Some(ByteString(data.clone()))),
        None => (None, None),
    };
    let cluster = Cluster {
        server: &reach.server,
        certificate_authority: authority,
        certificate_authority_data: data,
        tls_server_name: reach.server_name.as_deref(),
        insecure_skip_tls_verify: reach.insecure,
        proxy_url: reach.proxy.as_deref(),
    };
    let context = Context { cluster: "default-cluster", namespace: "default", user: "default-auth" };
    let user = User { client_certificate: certificate, client_key: key };
    let file = File {
        api_version: "v1",
        kind: "Config",
        clusters: [NamedCluster { name: "default-cluster", cluster }],
        contexts: [NamedContext { name: "default-context", context }],
        current_context: "default-context",
        users: [NamedUser { name: "default-auth", user }],
    };
    let write = |source| ApiError::Write { path: path.to_owned(), source };
    let text = serde_saphyr::to_string(&file).map_err(|error| write(io::Error::other(error.to_string())))?;
    replace(path, &text).map_err(write)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It begins its life with mode 0600.
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}
