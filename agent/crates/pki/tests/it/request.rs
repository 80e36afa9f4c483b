//! Requests against what the approvers in the controller manager check.

use orlop_pki::{CertificateRequest, PkiError, PrivateKey};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

const EC: &str = include_str!("../data/kubelet-ec.pem");
const RSA: &str = include_str!("../data/kubelet-rsa.pem");

fn key(pem: &str) -> PrivateKey {
    PrivateKey::from_pem(pem, "the test's data").expect("a key")
}

/// Subject, then the other names: what stands in a request. Panics on anything else that it asks for.
fn written(pem: &str) -> String {
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let (rest, parsed) = X509CertificationRequest::from_der(&der).expect("a request");
    assert!(rest.is_empty());
    parsed.verify_signature().expect("the key's signature");
    let names: Vec<String> = parsed
        .requested_extensions()
        .into_iter()
        .flatten()
        .flat_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => names.general_names.clone(),
            other => panic!("asks for {other:?}"),
        })
        .map(|name| name.to_string())
        .collect();
    format!("{} [{}]", parsed.certification_request_info.subject, names.join(" "))
}

#[track_caller]
fn check(request: &CertificateRequest, key: &PrivateKey, usages: &[&str], text: &str) {
    assert_eq!(request.usages(key), usages);
    assert_eq!(written(&request.to_pem(key).expect("a request")), text);
}

#[test]
fn requests_are_those_that_the_approvers_approve() {
    let client = CertificateRequest::client("n1");
    let new = PrivateKey::generate().expect("a key");
    let subject = "O=system:nodes, CN=system:node:n1 []";
    check(&client, &new, &["digital signature", "client auth"], subject);
    check(&client, &key(EC), &["digital signature", "client auth"], subject);
    check(&client, &key(RSA), &["digital signature", "client auth", "key encipherment"], subject);

    let ips: [IpAddr; 3] = ["10.0.0.7", "fd00::7", "10.0.0.7"].map(|ip| ip.parse().expect("an address"));
    let names = ["n1.example".to_owned(), "n1".to_owned()];
    let serving = CertificateRequest::serving("n1", &names, &ips).expect("it has addresses");
    let text = "O=system:nodes, CN=system:node:n1 \
                [DNSName(n1) DNSName(n1.example) IPAddress(0a:00:00:07) \
                IPAddress(fd:00:00:00:00:00:00:00:00:00:00:00:00:00:00:07)]";
    check(&serving, &new, &["digital signature", "server auth"], text);
    assert!(CertificateRequest::serving("n1", &names, &[]).is_none());
}

#[test]
fn a_host_name_that_is_not_ascii_is_named() {
    let ip = "10.0.0.7".parse().expect("an address");
    let serving = CertificateRequest::serving("n1", &["bücher".into()], &[ip]).expect("it has an address");
    let err = serving.to_pem(&key(EC)).expect_err("not ASCII").to_string();
    assert_eq!(err, "host name \"bücher\" cannot stand in a certificate");
}

#[test]
fn names_are_the_kubelets() {
    let client = CertificateRequest::client("n1");
    // Computed with Python's hashlib after the kubelet's digestedName.
    let name = client.name(&key(EC));
    assert_eq!(name.as_deref(), Some("node-csr-uKRQrEVeX4CMPuYgIWlvw3mMYNO4gttu0-xoP6wRUpo"));
    let name = client.name(&key(RSA));
    assert_eq!(name.as_deref(), Some("node-csr-FvqssweeYBzk-mUIjZhMdJej4lHbVoY105wUnJTcWc8"));
    let serving = CertificateRequest::serving("n1", &[], &["10.0.0.7".parse().expect("an address")]);
    assert_eq!(serving.expect("it has an address").name(&key(EC)), None);
}

#[test]
fn an_older_request_is_used_only_when_it_is_ours() {
    #[track_caller]
    fn check(theirs: &CertificateRequest, their_key: &PrivateKey, want: Option<&str>) {
        let ours = CertificateRequest::client("n1");
        let pem = theirs.to_pem(their_key).expect("a request");
        match (ours.is_same(&pem, theirs.signer_name(), &key(EC)), want) {
            (Ok(()), None) => {}
            (Err(PkiError::ForeignRequest { problem }), Some(want)) => assert_eq!(problem, want),
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    }
    check(&CertificateRequest::client("n1"), &key(EC), None);
    check(&CertificateRequest::client("n2"), &key(EC), Some("its subject is another"));
    check(&CertificateRequest::client("n1"), &key(RSA), Some("its key is another"));
    let serving = CertificateRequest::serving("n1", &[], &["10.0.0.7".parse().expect("an address")]);
    check(&serving.expect("it has an address"), &key(EC), Some("it asks another signer"));
    let ours = CertificateRequest::client("n1");
    assert!(ours.is_same("nonsense", ours.signer_name(), &key(EC)).is_err());
    assert!(ours.is_same(EC, ours.signer_name(), &key(EC)).is_err());
}
