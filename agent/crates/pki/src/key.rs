//! A private key: made, read, written, and used to sign requests.

use crate::{PkiError, pem};
use rcgen::SignatureAlgorithm;
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Signature schemes that requests are signed with, and their names in rcgen.
const SCHEMES: [(SignatureScheme, &SignatureAlgorithm); 4] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
    (SignatureScheme::ED25519, &rcgen::PKCS_ED25519),
    (SignatureScheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
];

/// A private key. `Debug` shows its kind, never the key.
#[derive(Clone)]
pub struct PrivateKey {
    der: Arc<PrivateKeyDer<'static>>,
    signing: Arc<dyn rustls::sign::SigningKey>,
    scheme: SignatureScheme,
    algorithm: &'static SignatureAlgorithm,
    /// The SubjectPublicKeyInfo, DER.
    spki: Vec<u8>,
    /// The bits inside it: what rcgen wants.
    public: Vec<u8>,
}

impl PrivateKey {
    /// A new ECDSA key on P-256, as the kubelet makes them.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|source| PkiError::Make { what: "a private key", source })?;
        let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        Self::from_der(der, "a new key")
    }

    /// The first private key in PEM text: PKCS#8, SEC1 (`EC PRIVATE KEY`, what the kubelet writes) or PKCS#1
    /// (`RSA PRIVATE KEY`). `whose` is for the error: a path, or where the text came from.
    ///
    /// # Errors
    /// No key in it, or one that TLS here cannot use.
    pub fn from_pem(pem: &str, whose: &str) -> Result<Self, PkiError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|err| PkiError::Key { whose: whose.into(), problem: err.to_string() })?;
        Self::from_der(der, whose)
    }

    fn from_der(der: PrivateKeyDer<'static>, whose: &str) -> Result<Self, PkiError> {
        let failed = |problem: String| PkiError::Key { whose: whose.into(), problem };
        let signing = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|err| failed(err.to_string()))?;
        let spki = signing.public_key().ok_or_else(|| failed("its public half is unknown".into()))?.to_vec();
        let (scheme, algorithm) =
            SCHEMES
                .into_iter()
                .find(|(scheme, _)| signing.choose_scheme(&[*scheme]).is_some())
                .ok_or_else(|| failed("it is neither ECDSA P-256 or P-384 nor Ed25519 nor RSA".into()))?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&spki).map_err(|err| failed(err.to_string()))?;
        let public = info.subject_public_key.data.to_vec();
        Ok(Self { der: Arc::new(der), signing, scheme, algorithm, spki, public })
    }

    /// As PEM text, in the form it was read or made in.
    pub fn to_pem(&self) -> String {
        let label = match &*self.der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            // The enum is open; rustls took the key, and all other forms that it takes are PKCS#8.
            _ => "PRIVATE KEY",
        };
        pem::block(label, self.der.secret_der())
    }

    /// As rustls takes it, for example in `with_client_auth_cert`.
    pub fn der(&self) -> PrivateKeyDer<'static> {
        self.der.clone_key()
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> SubjectPublicKeyInfoDer<'_> {
        SubjectPublicKeyInfoDer::from(self.spki.as_slice())
    }

    /// Whether it is an RSA key: its requests also ask for the usage "key encipherment".
    pub fn is_rsa(&self) -> bool {
        self.scheme == SignatureScheme::RSA_PKCS1_SHA256
    }

    pub(crate) fn signing(&self) -> Arc<dyn rustls::sign::SigningKey> {
        Arc::clone(&self.signing)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl PartialEq for PrivateKey {
    /// Keys are equal when their public halves are.
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PrivateKey {}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self.signing.choose_scheme(&[self.scheme]).ok_or(rcgen::Error::RingUnspecified)?;
        signer.sign(message).map_err(|_| rcgen::Error::RingUnspecified)
    }
}
