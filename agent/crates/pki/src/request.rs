//! What a node asks a certificate for.

use crate::{CertificateFacts, PkiError, PrivateKey, pem};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// The group of all nodes: the organization in a node's certificates.
const NODES_GROUP: &str = "system:nodes";
/// What a node's user name begins with.
const NODE_USER_PREFIX: &str = "system:node:";

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To be known by the API server.
    Client,
    /// To be known by those who connect to the node.
    Serving,
}

/// What a node asks a certificate for: its name, and for serving the names it is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    purpose: Purpose,
    common_name: String,
    dns_names: Vec<String>,
    ips: Vec<IpAddr>,
}

impl CertificateRequest {
    /// For the API server's client certificate of the node `node_name`.
    pub fn client(node_name: &str) -> Self {
        let common_name = format!("{NODE_USER_PREFIX}{node_name}");
        Self { purpose: Purpose::Client, common_name, dns_names: Vec::new(), ips: Vec::new() }
    }

    /// For the serving certificate of the node `node_name` with the names and addresses of its
    /// `status.addresses`. `None` without any address: as the kubelet, a node waits until it knows one.
    pub fn serving(node_name: &str, dns_names: &[String], ips: &[IpAddr]) -> Option<Self> {
        if ips.is_empty() {
            return None;
        }
        let common_name = format!("{NODE_USER_PREFIX}{node_name}");
        let (mut dns_names, mut ips) = (dns_names.to_vec(), ips.to_vec());
        dns_names.sort();
        dns_names.dedup();
        ips.sort();
        ips.dedup();
        Some(Self { purpose: Purpose::Serving, common_name, dns_names, ips })
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The user that the certificate makes of the node: `system:node:NAME`.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// `spec.signerName` of the CertificateSigningRequest.
    pub fn signer_name(&self) -> &'static str {
        match self.purpose {
            Purpose::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Purpose::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    /// `spec.usages`. The approvers in the controller manager compare the whole set: one too many and
    /// nobody approves. Only RSA keys encipher keys.
    pub fn usages(&self, key: &PrivateKey) -> Vec<&'static str> {
        let purpose = match self.purpose {
            Purpose::Client => "client auth",
            Purpose::Serving => "server auth",
        };
        let mut usages = vec!["digital signature", purpose];
        if key.is_rsa() {
            usages.push("key encipherment");
        }
        usages
    }

    /// `metadata.name`, for a client certificate: a digest of key, subject and usages, so that a node that
    /// starts again with the same pending key finds the request that it made before. `None` for serving
    /// certificates: `metadata.generateName` is `csr-`.
    pub fn name(&self, key: &PrivateKey) -> Option<String> {
        match self.purpose {
            Purpose::Client => Some(self.digested_name(key)),
            Purpose::Serving => None,
        }
    }

    /// The kubelet's digestedName (pkg/kubelet/certificate/bootstrap).
    fn digested_name(&self, key: &PrivateKey) -> String {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA512_256);
        let mut write = |data: &[u8]| {
            hash.update(BASE64_URL_SAFE_NO_PAD.encode(data).as_bytes());
            hash.update(b"|");
        };
        write(&key.public_key());
        write(self.common_name.as_bytes());
        write(NODES_GROUP.as_bytes());
        for usage in self.usages(key) {
            write(usage.as_bytes());
        }
        format!("node-csr-{}", BASE64_URL_SAFE_NO_PAD.encode(hash.finish()))
    }

    /// The PKCS#10 request, PEM: `spec.request` is its base64.
    ///
    /// # Errors
    /// A host name that is not ASCII.
    pub fn to_pem(&self, key: &PrivateKey) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, NODES_GROUP);
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        params.subject_alt_names = other_names(&self.dns_names, &self.ips)?;
        let made = params
            .serialize_request(key)
            .map_err(|source| PkiError::Make { what: "a certificate signing request", source })?;
        Ok(pem::block("CERTIFICATE REQUEST", made.der()))
    }

    /// Whether a CertificateSigningRequest that already exists under our [`name`](Self::name) is this one: same
    /// signer, subject and key. `pem` is its `spec.request`.
    ///
    /// # Errors
    /// It is somebody else's.
    pub fn is_same(&self, pem: &str, signer_name: &str, key: &PrivateKey) -> Result<(), PkiError> {
        let foreign = |problem| PkiError::ForeignRequest { problem };
        if signer_name != self.signer_name() {
            return Err(foreign("it asks another signer"));
        }
        let der = request_der(pem).ok_or_else(|| foreign("it has no PEM block CERTIFICATE REQUEST"))?;
        let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|_| foreign("it is damaged"))?;
        let info = &parsed.certification_request_info;
        let texts = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().unwrap_or_default().to_owned();
        if info.subject.iter_common_name().map(texts).collect::<Vec<_>>() != [self.common_name.as_str()]
            || info.subject.iter_organization().map(texts).collect::<Vec<_>>() != [NODES_GROUP]
            || info.subject.iter().count() != 2
        {
            return Err(foreign("its subject is another"));
        }
        if *info.subject_pki.raw != *key.public_key() {
            return Err(foreign("its key is another"));
        }
        Ok(())
    }

    /// What a certificate lacks to be an answer to this request; `None` when it has all. More names or
    /// organizations than asked for do no harm (certSatisfiesTemplate of client-go).
    pub fn missing_in(&self, facts: &CertificateFacts) -> Option<String> {
        if facts.common_name != self.common_name {
            return Some(format!("it is for {:?}, not for {:?}", facts.common_name, self.common_name));
        }
        if !facts.organizations.iter().any(|it| it == NODES_GROUP) {
            return Some(format!("it lacks the organization {NODES_GROUP}"));
        }
        let names = self.dns_names.iter().filter(|name| !facts.dns_names.contains(name)).map(String::clone);
        let ips = self.ips.iter().filter(|ip| !facts.ips.contains(ip)).map(ToString::to_string);
        let missing: Vec<String> = names.chain(ips).collect();
        (!missing.is_empty()).then(|| format!("it lacks {}", missing.join(", ")))
    }
}

/// Host names and addresses as rcgen takes them.
pub(crate) fn other_names(dns_names: &[String], ips: &[IpAddr]) -> Result<Vec<SanType>, PkiError> {
    let mut names = Vec::with_capacity(dns_names.len() + ips.len());
    for name in dns_names {
        let ascii = name.as_str().try_into().map_err(|source| PkiError::HostName { name: name.clone(), source })?;
        names.push(SanType::DnsName(ascii));
    }
    names.extend(ips.iter().copied().map(SanType::IpAddress));
    Ok(names)
}

fn request_der(pem: &str) -> Option<Vec<u8>> {
    let mut blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes());
    blocks.find_map(|block| match block {
        Ok((SectionKind::Csr, der)) => Some(der),
        _ => None,
    })
}
