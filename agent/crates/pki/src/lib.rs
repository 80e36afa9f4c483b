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
//!
//! # From nothing to a certificate that is always good
//!
//! `ask` stands for the API client: it creates the CertificateSigningRequest, waits until somebody approved and
//! signed it (minutes, or until Monday), and returns `status.certificate`. With the bootstrap kubeconfig it asks
//! as the token, later as the node itself.
//!
//! ```
//! use jiff::Timestamp;
//! use orlop_pki::{CertificateRequest, CertificateState, CertificateStore, Identity, PkiError, PrivateKey, state};
//!
//! /// The certificate to use now, and when to come back for the next one.
//! fn current<E: From<PkiError>>(
//!     store: &CertificateStore,
//!     want: &CertificateRequest,
//!     now: Timestamp,
//!     random: f64, // drawn once a certificate
//!     ask: impl FnOnce(&CertificateRequest, &PrivateKey) -> Result<String, E>,
//! ) -> Result<(Identity, Timestamp), E> {
//!     // What is damaged is logged, and replaced like what is missing.
//!     let held = store.current().ok().flatten();
//!     if let Some(held) = &held {
//!         if let CertificateState::Good { rotate_at } = state(now, Some(held.facts()), want, random) {
//!             return Ok((held.clone(), rotate_at));
//!         }
//!     }
//!     // Written down before it is used: after a restart, the same key finds the same request.
//!     let key = store.pending_key()?;
//!     let certificate = ask(want, &key)?;
//!     let issued = store.update(&certificate, &key, now)?;
//!     let facts = issued.facts();
//!     let rotate_at = orlop_pki::rotate_at(facts.not_before, facts.not_after, random);
//!     Ok((issued, rotate_at))
//! }
//! ```
//!
//! An agent does not wait like this where it holds a certificate that is still good (`Due`, `Lacking`): it goes on with
//! that one and asks beside its work. After the first certificate it writes `kubelet.conf`, which names
//! [`CertificateStore::current_path`] and never changes again, and removes the bootstrap kubeconfig
//! ([`JoinFiles::drop_bootstrap`]). Without a `kubelet.conf` what the store holds is not used: it may be of
//! another cluster. After a denial, [`CertificateStore::drop_pending_key`]: the same key would find the same denial.
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
