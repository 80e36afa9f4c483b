//! Kubeconfigs that a joining node writes. Reading them, with all their forms, is the API client's.

use crate::{BootstrapToken, PkiError};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use std::path::Path;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    user: &'a str,
}

#[derive(Serialize)]
struct NamedUser<'a> {
    name: &'a str,
    user: User<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", untagged)]
enum User<'a> {
    Token {
        token: &'a str,
    },
    #[serde(rename_all = "kebab-case")]
    Certificate {
        client_certificate: &'a Path,
        client_key: &'a Path,
    },
}

/// The kubeconfig that a node asks for its first certificate with, as kubeadm names its parts
/// (`/etc/kubernetes/bootstrap-kubelet.conf`, mode 0600). `ca_pem` are the cluster's CAs.
///
/// # Errors
/// None that is known; the YAML writer may fail.
pub fn bootstrap_kubeconfig(server: &str, ca_pem: &str, token: &BootstrapToken) -> Result<String, PkiError> {
    text(&Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: [cluster("kubernetes", server, ca_pem)],
        contexts: [NamedContext {
            name: "tls-bootstrap-token-user@kubernetes",
            context: Context { cluster: "kubernetes", namespace: None, user: "tls-bootstrap-token-user" },
        }],
        current_context: "tls-bootstrap-token-user@kubernetes",
        users: [NamedUser { name: "tls-bootstrap-token-user", user: User::Token { token: token.reveal() } }],
    })
}

/// The kubeconfig that a node lives with, as the kubelet names its parts (`/etc/kubernetes/kubelet.conf`, mode
/// 0600). `certificate` is [`CertificateStore::current_path`](crate::CertificateStore::current_path): the
/// file behind it changes, the kubeconfig does not.
///
/// # Errors
/// `certificate` is not UTF-8.
pub fn kubelet_kubeconfig(server: &str, ca_pem: &str, certificate: &Path) -> Result<String, PkiError> {
    let user = User::Certificate { client_certificate: certificate, client_key: certificate };
    text(&Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: [cluster("default-cluster", server, ca_pem)],
        contexts: [NamedContext {
            name: "default-context",
            context: Context { cluster: "default-cluster", namespace: Some("default"), user: "default-auth" },
        }],
        current_context: "default-context",
        users: [NamedUser { name: "default-auth", user }],
    })
}

fn cluster<'a>(name: &'a str, server: &'a str, ca_pem: &str) -> NamedCluster<'a> {
    NamedCluster { name, cluster: Cluster { certificate_authority_data: BASE64_STANDARD.encode(ca_pem), server } }
}

fn text(config: &Kubeconfig<'_>) -> Result<String, PkiError> {
    serde_saphyr::to_string(config).map_err(|err| PkiError::Yaml { problem: err.to_string() })
}
