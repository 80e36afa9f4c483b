//! A serving certificate that nobody vouches for.

use crate::certificate::certificates_to_pem;
use crate::request::other_names;
use crate::rotation::{by_age, in_time};
use crate::{CertificateFacts, CertificateState, Identity, PkiError, PrivateKey, file};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// How long it holds, in hours (client-go's GenerateSelfSignedCertKey: one year).
const LIFE_HOURS: i64 = 365 * 24;
/// How far it reaches back, in hours, for clocks that are behind.
const SKEW_HOURS: i64 = 1;

/// The serving certificate for nodes that do not ask the cluster for one (`serverTLSBootstrap: false`), in the
/// kubelet's files: `FOLDER/kubelet.crt` (0644) and `FOLDER/kubelet.key` (0600).
#[derive(Debug, Clone)]
pub struct SelfSigned<'a> {
    /// The kubelet's `--cert-dir`.
    pub folder: &'a Path,
    /// The host name: the certificate's name.
    pub host: &'a str,
    /// The node's addresses.
    pub ips: &'a [IpAddr],
}

impl SelfSigned<'_> {
    /// The certificate that is there.
    ///
    /// # Errors
    /// The files are damaged or do not belong together (a crash between the two): log it and
    /// [`renew`](Self::renew).
    pub fn current(&self) -> Result<Option<Identity>, PkiError> {
        Identity::load(&self.folder.join("kubelet.crt"), &self.folder.join("kubelet.key"))
    }

    /// What to do about the certificate that is there: [`renew`](Self::renew) it unless it is good. One with a name
    /// that neither we nor a kubelet made is the administrator's and good until it runs out. `random` is as
    /// in [`rotate_at`](crate::rotate_at).
    pub fn state(&self, now: Timestamp, facts: Option<&CertificateFacts>, random: f64) -> CertificateState {
        let facts = match in_time(now, facts) {
            Ok(facts) => facts,
            Err(why) => return CertificateState::Unusable { why },
        };
        if !is_self_made(&facts.common_name) {
            return CertificateState::Good { rotate_at: facts.not_after };
        }
        let (names, ips) = self.names();
        let names = names.into_iter().filter(|name| !facts.dns_names.contains(name));
        let ips = ips.into_iter().filter(|ip| !facts.ips.contains(ip)).map(|ip| ip.to_string());
        let missing: Vec<String> = names.chain(ips).collect();
        if missing.is_empty() {
            return by_age(now, facts, random);
        }
        CertificateState::Lacking { lacks: format!("it lacks {}", missing.join(", ")) }
    }

    /// Host names and addresses that stand in it.
    fn names(&self) -> (Vec<String>, Vec<IpAddr>) {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => (Vec::new(), [&[ip], self.ips].concat()),
            Err(_) => (vec![self.host.to_owned()], self.ips.to_vec()),
        }
    }

    /// Makes a new one and writes it down. It is signed, as the kubelet's, by a CA whose key is thrown away.
    ///
    /// # Errors
    /// A host name that is not ASCII, no randomness, or the folder cannot be written.
    pub fn renew(&self, now: Timestamp) -> Result<Identity, PkiError> {
        let key = PrivateKey::generate()?;
        let chain = self.signed(&key, now)?;
        let certificate = certificates_to_pem(&chain);
        let identity = Identity::new(&certificate, key, "the new self-signed certificate")?;
        file::write(&self.folder.join("kubelet.key"), 0o600, identity.key().to_pem().as_bytes())?;
        file::write(&self.folder.join("kubelet.crt"), 0o644, certificate.as_bytes())?;
        Ok(identity)
    }

    fn signed(&self, key: &PrivateKey, now: Timestamp) -> Result<[CertificateDer<'static>; 2], PkiError> {
        let failed = |source| PkiError::Make { what: "a self-signed certificate", source };
        let (ca_key, ca_params) = (PrivateKey::generate()?, self.ca(now));
        let ca = ca_params.self_signed(&ca_key).map_err(failed)?;
        let mut leaf = named(&format!("{}@{}", self.host, now.as_second()), now);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.use_authority_key_identifier_extension = true;
        let (names, ips) = self.names();
        leaf.subject_alt_names = other_names(&names, &ips)?;
        let leaf = leaf.signed_by(key, &Issuer::new(ca_params, ca_key)).map_err(failed)?;
        Ok([leaf.der().clone(), ca.der().clone()])
    }

    fn ca(&self, now: Timestamp) -> CertificateParams {
        let mut ca = named(&format!("{}-ca@{}", self.host, now.as_second()), now);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        ca
    }
}

/// `HOST@SECONDS`, as GenerateSelfSignedCertKey names them.
fn is_self_made(common_name: &str) -> bool {
    let seconds = common_name.rsplit_once('@').map(|(_, seconds)| seconds);
    seconds.is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn named(common_name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let from = now.saturating_sub(SignedDuration::from_hours(SKEW_HOURS)).unwrap_or(now);
    let seconds = u64::try_from(from.as_second()).unwrap_or(0);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_after = params.not_before + Duration::from_secs(LIFE_HOURS as u64 * 3600);
    params
}
