//! What a certificate says, as far as a node asks.

use crate::{PkiError, pem};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// What a certificate says, as far as a node asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject's first common name; empty when it has none.
    pub common_name: String,
    /// The subject's organizations, in their order.
    pub organizations: Vec<String>,
    /// Host names among the subject's other names.
    pub dns_names: Vec<String>,
    /// Addresses among the subject's other names.
    pub ips: Vec<IpAddr>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// The SubjectPublicKeyInfo, DER, byte by byte as in the certificate.
    pub spki: Vec<u8>,
}

impl CertificateFacts {
    /// Reads one certificate, DER. Its signature is not checked. `whose` is for the error.
    ///
    /// # Errors
    /// Not a certificate.
    pub fn of(der: &[u8], whose: &str) -> Result<Self, PkiError> {
        let failed = |problem: String| PkiError::Certificate { whose: whose.into(), problem };
        let (_, parsed) = X509Certificate::from_der(der).map_err(|err| failed(err.to_string()))?;
        let subject = parsed.subject();
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(String::from);
        let mut facts = Self {
            common_name: subject.iter_common_name().find_map(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            dns_names: Vec::new(),
            ips: Vec::new(),
            not_before: moment(parsed.validity().not_before.timestamp()),
            not_after: moment(parsed.validity().not_after.timestamp()),
            spki: parsed.public_key().raw.to_vec(),
        };
        let names = parsed.subject_alternative_name().map_err(|err| failed(err.to_string()))?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => facts.dns_names.push((*name).into()),
                GeneralName::IPAddress(bytes) => facts.ips.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(facts)
    }

    /// The pin of its key, as `--discovery-token-ca-cert-hash` takes it: `sha256:` and the SHA-256 of the
    /// SubjectPublicKeyInfo, lower-case hexadecimal.
    pub fn pin(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.spki);
        digest.as_ref().iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
    }
}

/// Certificates that never run out end with the year 9999 (RFC 5280, 4.1.2.5); the last [`Timestamp`] is a
/// day before.
fn moment(second: i64) -> Timestamp {
    let nearest = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(second).unwrap_or(nearest)
}

/// Addresses stand in certificates as 4 or 16 bytes (RFC 5280, 4.2.1.6).
fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// All certificates in PEM text, in order; other blocks are passed over. `whose` is for the error.
///
/// # Errors
/// None in it, or a broken block.
pub fn certificates_in(pem: impl AsRef<[u8]>, whose: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let failed = |problem: String| PkiError::Certificate { whose: whose.into(), problem };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_ref())
        .collect::<Result<_, _>>()
        .map_err(|err| failed(err.to_string()))?;
    if found.is_empty() {
        return Err(failed("there is no PEM block CERTIFICATE in it".into()));
    }
    Ok(found)
}

/// Certificates as PEM text.
pub fn certificates_to_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| pem::block("CERTIFICATE", der)).collect()
}
