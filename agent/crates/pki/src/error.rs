//! What can go wrong with keys, certificates and the first trust.

use std::io;
use std::path::PathBuf;

/// What can go wrong with keys, certificates and the first trust, with what it was about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file is there and cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file, folder or symbolic link cannot be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate is not what it should be.
    #[error("{whose} is no usable certificate: {problem}")]
    Certificate {
        /// A path, or where it came from.
        whose: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A private key is not what it should be.
    #[error("{whose} is no usable private key: {problem}")]
    Key {
        /// A path, or where it came from.
        whose: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The private key and the certificate do not belong together.
    #[error("the private key in {whose} does not belong to its certificate")]
    KeyMismatch {
        /// A path, or where it came from.
        whose: String,
    },
    /// Where the store's symbolic link should be is something that it did not make.
    #[error("{path} should be a symbolic link and is not: move it away, the agent makes the link again")]
    NotALink {
        /// The path.
        path: PathBuf,
    },
    /// A key, a request or a certificate could not be made.
    #[error("make {what}")]
    Make {
        /// "a private key", "a certificate signing request", ….
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A host name that a certificate cannot carry.
    #[error("host name {name:?} cannot stand in a certificate")]
    HostName {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A CertificateSigningRequest of that name exists and is not ours.
    #[error(
        "a CertificateSigningRequest of the same name is not this node's: {problem}; delete it with `kubectl delete csr`"
    )]
    ForeignRequest {
        /// What differs.
        problem: &'static str,
    },
    /// Not a bootstrap token. The text itself is a secret and not repeated.
    #[error(
        "the token is not of the form [a-z0-9]{{6}}.[a-z0-9]{{16}}: make one with `kubeadm token create` on the control plane"
    )]
    Token,
    /// Not a pin.
    #[error(
        "CA certificate hash {text:?} {problem}; it is sha256: and 64 hexadecimal digits, as `kubeadm token create --print-join-command` shows"
    )]
    Pin {
        /// As given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `cluster-info` has no kubeconfig.
    #[error(
        "the ConfigMap kube-public/cluster-info has no key kubeconfig: this API server is not set up for bootstrap tokens; use --bootstrap-kubeconfig or --kubeconfig"
    )]
    NoTokenBootstrap,
    /// `cluster-info` is not signed with this token (yet: the controller manager signs a moment after the token was made).
    #[error(
        "the ConfigMap kube-public/cluster-info has no signature for token id {token_id}: the token expired or is not of this cluster; make one with `kubeadm token create` on the control plane"
    )]
    Unsigned {
        /// The public half of the token.
        token_id: String,
    },
    /// The signature was not made with this token's secret.
    #[error(
        "the signature of kube-public/cluster-info does not fit token id {token_id}: this API server cannot be trusted; check the server's address and the token"
    )]
    BadSignature {
        /// The public half of the token.
        token_id: String,
    },
    /// The kubeconfig inside `cluster-info` cannot be used.
    #[error("the kubeconfig in kube-public/cluster-info cannot be used: {problem}")]
    ClusterInfo {
        /// What is wrong with it.
        problem: String,
    },
    /// None of the cluster's CAs has a pinned key.
    #[error(
        "the cluster's CA has another key than the pinned one (found {found}): check --discovery-token-ca-cert-hash and the server's address"
    )]
    NotPinned {
        /// The hashes of the CAs found, as `--discovery-token-ca-cert-hash` takes them.
        found: String,
    },
    /// `cluster-info` read over verified TLS differs from what was read before.
    #[error(
        "the kubeconfig in kube-public/cluster-info was another one when it was read a second time, over verified TLS: someone answers in the API server's place, or it was just changed; join again"
    )]
    Changed,
    /// kubeadm's KubeletConfiguration cannot be used.
    #[error("the ConfigMap kube-system/kubelet-config cannot be used: {problem}")]
    KubeletConfig {
        /// What is wrong with it.
        problem: String,
    },
    /// The CA file that a join would write holds other CAs.
    #[error(
        "{path} is not this cluster's CA: when this machine has left its old cluster, move the file away and join again"
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
    },
    /// A document could not be put into YAML.
    #[error("write a kubeconfig as YAML: {problem}")]
    Yaml {
        /// Why.
        problem: String,
    },
}

impl PkiError {
    /// Whether asking the API server again in a while can heal this: only a signature that is not there
    /// yet does. kubeadm asks every 5 s for 5 minutes.
    pub fn heals_with_time(&self) -> bool {
        matches!(self, Self::Unsigned { .. })
    }
}
