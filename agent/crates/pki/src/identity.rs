//! A private key with the certificate that belongs to it.

use crate::certificate::{CertificateFacts, certificates_in, certificates_to_pem};
use crate::{PkiError, PrivateKey, file};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use std::path::Path;

/// A private key with the certificate that belongs to it. That they fit was checked; whether the certificate
/// still holds is [`state`](crate::state)'s to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    facts: CertificateFacts,
}

impl Identity {
    /// From PEM texts, which may be the same one. The first certificate is the node's, the others its
    /// intermediates. `whose` is for the error.
    ///
    /// # Errors
    /// Either is missing or broken, or they do not belong together.
    pub fn from_pem(certificate: impl AsRef<[u8]>, key: &str, whose: &str) -> Result<Self, PkiError> {
        let key = PrivateKey::from_pem(key, whose)?;
        Self::new(certificate, key, whose)
    }

    /// From a certificate, as a CertificateSigningRequest's `status.certificate` has it, and the key whose
    /// request it answers.
    ///
    /// # Errors
    /// The certificate is missing or broken, or not for this key.
    pub fn new(certificate: impl AsRef<[u8]>, key: PrivateKey, whose: &str) -> Result<Self, PkiError> {
        let chain = certificates_in(certificate, whose)?;
        let facts = CertificateFacts::of(&chain[0], whose)?;
        if facts.spki != *key.public_key() {
            return Err(PkiError::KeyMismatch { whose: whose.into() });
        }
        Ok(Self { chain, key, facts })
    }

    /// From a certificate file and a key file (`tlsCertFile` and `tlsPrivateKeyFile` of the
    /// KubeletConfiguration). `None` when one of them is not there.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem), or a file cannot be read.
    pub fn load(certificate: &Path, key: &Path) -> Result<Option<Self>, PkiError> {
        let (Some(certificate_pem), Some(key_pem)) = (file::read(certificate)?, file::read(key)?) else {
            return Ok(None);
        };
        let whose = if certificate == key {
            key.display().to_string()
        } else {
            format!("{} with {}", certificate.display(), key.display())
        };
        Self::from_pem(&certificate_pem, &key_pem, &whose).map(Some)
    }

    /// The certificate and its intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// What the certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// For a rustls resolver, on either side of a connection.
    pub fn certified_key(&self) -> CertifiedKey {
        CertifiedKey::new(self.chain.clone(), self.key.signing())
    }

    /// Certificates, then the key, as the kubelet's stores have them. Secret.
    pub fn to_pem(&self) -> String {
        certificates_to_pem(&self.chain) + &self.key.to_pem()
    }
}
