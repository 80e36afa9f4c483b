//! The kubeconfig that a joining node begins with. Reading kubeconfigs, and writing the one that a node
//! goes on with, is the API client's: that one takes over what the first says about the server.

use crate::{BootstrapToken, PkiError};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    clusters: [NamedCluster<'a>; 1],
    contexts: [NamedContext<'a>; 1],
    current_context: &'a str,
    users: [NamedUser<'a>; 1],
}

#[derive(Serialize)]
struct NamedCluster<'a> {
    name: &'a str,
    cluster: Cluster<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster<'a> {
    certificate_authority_data: String,
    server: &'a str,
}

#[derive(Serialize)]
struct NamedContext<'a> {
    name: &'a str,
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    cluster: &'a str,
    user: &'a str,
}

#[derive(Serialize)]
struct NamedUser<'a> {
    name: &'a str,
    user: User<'a>,
}

#[derive(Serialize)]
struct User<'a> {
    token: &'a str,
}

/// The kubeconfig that a node asks for its first certificate with, as kubeadm names its parts
/// (`/etc/kubernetes/bootstrap-kubelet.conf`, mode 0600). `ca_pem` are the cluster's CAs.
///
/// # Errors
/// None that is known; the YAML writer may fail.
pub fn bootstrap_kubeconfig(server: &str, ca_pem: &str, token: &BootstrapToken) -> Result<String, PkiError> {
    let cluster = Cluster { certificate_authority_data: BASE64_STANDARD.encode(ca_pem), server };
    let config = Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: [NamedCluster { name: "kubernetes", cluster }],
        contexts: [NamedContext {
            name: "tls-bootstrap-token-user@kubernetes",
            context: Context { cluster: "kubernetes", user: "tls-bootstrap-token-user" },
        }],
        current_context: "tls-bootstrap-token-user@kubernetes",
        users: [NamedUser { name: "tls-bootstrap-token-user", user: User { token: token.reveal() } }],
    };
    serde_saphyr::to_string(&config).map_err(|err| PkiError::Yaml { problem: err.to_string() })
}
