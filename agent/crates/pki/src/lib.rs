//! The node's keys and certificates, and the trust it starts with.
//!
//! ```text
//! SERVER, token, pins ── verify_cluster_info ── ClusterInfo ── JoinFiles: bootstrap-kubelet.conf, ca.crt, config.yaml
//!                                                                 │
//! CertificateStore ── current ── state ──── Good: use it, ask again at rotate_at ◄──────┐
//!      │                           └── else: pending_key ── CertificateRequest ── (API server) ── update
//!      └ pki/kubelet-client-current.pem → kubelet-client-DATE.pem
//! ```
//!
//! Files are the kubelet's, by name and content: it and Orlop can follow each other on a machine. Nothing here
//! touches the network or reads the clock; times and randomness are arguments (new keys come from the
//! kernel's randomness). All calls block for as long as a small file takes.
#![forbid(unsafe_code)]

mod certificate;
mod clusterinfo;
mod error;
mod file;
mod identity;
mod join;
mod key;
mod kubeconfig;
mod pem;
mod pin;
mod request;
mod rotation;
mod selfsigned;
mod store;
mod token;

pub use certificate::{CertificateFacts, certificates_in, certificates_to_pem};
pub use clusterinfo::{ClusterInfo, verify_cluster_info};
pub use error::PkiError;
pub use identity::Identity;
pub use join::{JoinFiles, default_kubelet_configuration, kubelet_configuration};
pub use key::PrivateKey;
pub use kubeconfig::bootstrap_kubeconfig;
pub use pin::CaPins;
pub use request::{CertificateRequest, Purpose};
pub use rotation::{CertificateState, rotate_at, state};
pub use selfsigned::SelfSigned;
pub use store::CertificateStore;
pub use token::BootstrapToken;
