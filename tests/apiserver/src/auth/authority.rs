//! The cluster's certificate authority.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// A certificate authority and its key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What a certificate request asks for.
pub(crate) struct Asked {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    pub(crate) names: Vec<SanType>,
    params: CertificateSigningRequestParams,
}

impl Authority {
    pub(crate) fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = named("kubernetes", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        valid(&mut params, YEAR_S * 10);
        let certificate = params.self_signed(&key)?;
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Ok(Self { issuer: Issuer::new(params, key), pem, der })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// A serving certificate for names and addresses.
    pub(crate) fn serving(
        &self,
        names: Vec<String>,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("kube-apiserver", &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, YEAR_S);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    /// A client certificate: the name is its common name, the groups its organizations.
    pub(crate) fn client(&self, name: &str, groups: &[&str]) -> Result<Issued, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = named(name, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, YEAR_S);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Signs a request as it stands, for one purpose and a time in seconds.
    pub(crate) fn sign(&self, asked: Asked, serving: bool, seconds: i64) -> Result<String, rcgen::Error> {
        let mut request = asked.params;
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if request.public_key.algorithm() == &rcgen::PKCS_RSA_SHA256 {
            request.params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        request.params.extended_key_usages =
            vec![if serving { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
        request.params.use_authority_key_identifier_extension = true;
        request.params.serial_number = Some(SerialNumber::from(super::token::random::<16>().to_vec()));
        valid(&mut request.params, seconds);
        request.signed_by(&self.issuer).map(|certificate| certificate.pem())
    }
}

/// Reads a CertificateSigningRequest's `spec.request`: PEM in base64. Its own signature
/// is checked.
pub(crate) fn read_request(base64: &str) -> Option<Asked> {
    let pem = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    let params = CertificateSigningRequestParams::from_pem(&pem).ok()?;
    let der = pem_body(&pem)?;
    let (_, request) = x509_parser::certification_request::X509CertificationRequest::from_der(&der).ok()?;
    let subject = &request.certification_request_info.subject;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
    Some(Asked {
        common_name: subject.iter_common_name().next().and_then(text).unwrap_or_default(),
        organizations: subject.iter_organization().filter_map(text).collect(),
        names: params.params.subject_alt_names.clone(),
        params,
    })
}

fn pem_body(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    STANDARD.decode(body).ok()
}

/// The user that a client certificate names; its chain was checked by TLS.
pub(crate) fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
    Some(User {
        name: certificate.subject().iter_common_name().next().and_then(text)?,
        groups: certificate.subject().iter_organization().filter_map(text).collect(),
        uid: String::new(),
    })
}

const YEAR_S: i64 = 365 * 24 * 3600;

/// Valid from five minutes ago, as the signer of the controller manager backdates.
fn valid(params: &mut CertificateParams, seconds: i64) {
    let now = std::time::SystemTime::now();
    let five_minutes = std::time::Duration::from_secs(300);
    let end = now + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = (now - five_minutes).into();
    params.not_after = end.into();
}

fn named(name: &str, groups: &[&str]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject.push(DnType::CommonName, name);
    subject
}
