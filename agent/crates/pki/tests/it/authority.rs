//! The cluster's CA, as the signers in the controller manager use it.

use jiff::{SignedDuration, Timestamp};
use orlop_pki::certificates_to_pem;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::time::Duration;

pub struct Authority {
    pub certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a CA").der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Checks the request's signature and signs it, from `from` for `hours`.
    pub fn sign(&self, request: &str, from: Timestamp, hours: i64) -> String {
        let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).expect("a request");
        let mut asked = CertificateSigningRequestParams::from_der(&der).expect("a request that its key signed");
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let until = from + SignedDuration::from_hours(hours);
        asked.params.not_before = epoch + Duration::from_secs(from.as_second() as u64);
        asked.params.not_after = epoch + Duration::from_secs(until.as_second() as u64);
        asked.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        certificates_to_pem(&[asked.signed_by(&self.issuer).expect("a certificate").der().clone()])
    }
}
