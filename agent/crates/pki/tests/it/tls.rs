//! The parsed forms in real TLS: a node's certificates on both sides of a connection.

use crate::authority::Authority;
use jiff::Timestamp;
use orlop_pki::{CertificateRequest, CertificateStore, Identity, PrivateKey, Purpose, SelfSigned};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::net::IpAddr;
use std::sync::Arc;

fn roots(certificate: &rustls::pki_types::CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    Arc::new(roots)
}

fn client_config(trusted: &Arc<RootCertStore>, identity: &Identity) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(Arc::clone(trusted))
        .with_client_auth_cert(identity.chain().to_vec(), identity.key().der())
        .expect("a client's certificate")
}

fn server_config(clients: &Arc<RootCertStore>, identity: &Identity) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(clients), Arc::clone(&provider));
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(identity.chain().to_vec(), identity.key().der())
        .expect("a server's certificate")
}

/// Both sides in memory, until neither has anything to say. At most 20 turns.
fn handshake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<(), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..20 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets()?;
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
            return Ok(());
        }
    }
    panic!("no end in 20 turns");
}

fn identity(authority: &Authority, request: &CertificateRequest) -> Identity {
    let key = PrivateKey::generate().expect("a key");
    let pem = request.to_pem(&key).expect("a request");
    Identity::new(authority.sign(&pem, Timestamp::now(), 24), key, "the test").expect("an identity")
}

#[test]
fn certificates_hold_on_both_sides() {
    let authority = Authority::new();
    let ip: IpAddr = "10.0.0.7".parse().expect("an address");
    let client = identity(&authority, &CertificateRequest::client("n1"));
    let serving = CertificateRequest::serving("n1", &["n1".into()], &[ip]).expect("it has an address");
    let serving = identity(&authority, &serving);
    let roots = roots(&authority.certificate);
    for name in ["n1", "10.0.0.7"] {
        handshake(client_config(&roots, &client), server_config(&roots, &serving), name).expect(name);
    }
    let err = handshake(client_config(&roots, &client), server_config(&roots, &serving), "n2").expect_err("not n2");
    assert!(matches!(err, rustls::Error::InvalidCertificate(_)), "{err}");
    client.certified_key().keys_match().expect("a pair");
}

#[test]
fn a_kubelets_keys_of_any_age_hold() {
    for pem in [include_str!("../data/kubelet-ec.pem"), include_str!("../data/kubelet-rsa.pem")] {
        let authority = Authority::new();
        let key = PrivateKey::from_pem(pem, "the test's data").expect("a key");
        let request = CertificateRequest::client("n1").to_pem(&key).expect("a request");
        let client = Identity::new(authority.sign(&request, Timestamp::now(), 24), key, "the test");
        let folder = tempfile::tempdir().expect("a folder");
        let store = CertificateStore::new(folder.path(), Purpose::Client);
        let client = client.expect("an identity");
        let stored = store
            .update(orlop_pki::certificates_to_pem(client.chain()), client.key(), Timestamp::now())
            .expect("stored");
        let node = SelfSigned { folder: folder.path(), host: "n1", ips: &[] };
        let serving = node.renew(Timestamp::now()).expect("made");
        let (clients, servers) = (roots(&authority.certificate), roots(&serving.chain()[1]));
        handshake(client_config(&servers, &stored), server_config(&clients, &serving), "n1").expect("a connection");
    }
}
