//! `certs.d`: mirrors, certificates, plain http.

use crate::content::{Content, image};
use crate::server::{Reply, Server};
use crate::world::World;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;

fn app() -> Content {
    Content::of("team/app", "1", &image("x"))
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_told_whose_images_are_meant() {
    let (mirror, origin) = (Server::plain(app()).await, Server::plain(app()).await);
    let world = World::new();
    world.hosts("r.example", &format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.addr, mirror.addr));
    let record = world.pull("r.example/team/app:1").await.unwrap().record;
    assert_eq!(record.names.first().unwrap().to_string(), "r.example/team/app:1");
    assert!(origin.requests().is_empty());
    let targets: Vec<String> = mirror.requests().into_iter().map(|request| request.target).collect();
    assert!(targets.iter().all(|target| target.ends_with("?ns=r.example")), "{targets:?}");
    assert_eq!(targets[0], "/v2/team/app/manifests/1?ns=r.example");
}

#[tokio::test]
async fn each_thing_falls_through_to_the_next_host_that_has_it() {
    let gone = Server::plain(Content::default()).await.host();
    let empty = Server::plain(Content::default()).await;
    let sick = Server::start(app(), |_| Some(Reply::new(500, ""))).await;
    // It has the manifests and not the blobs.
    let half = Server::plain(Content { manifests: app().manifests, ..Content::default() }).await;
    let origin = Server::plain(app()).await;
    let world = World::new();
    let mut text = format!("server = \"http://{}\"\n", origin.addr);
    for host in [&gone, &empty.host(), &sick.host(), &half.host()] {
        text += &format!("[host.\"http://{host}\"]\n");
    }
    world.hosts("r.example", &text);
    let record = world.pull("r.example/team/app:1").await.unwrap().record;
    assert_eq!(world.own(&record), "x");
    assert_eq!((origin.asked("/manifests/"), origin.asked("/blobs/")), (0, 4));
    assert!(empty.asked("/manifests/") == 1 && sick.asked("/manifests/") == 1);

    let words = world.pull("r.example/team/app:2").await.unwrap_err().to_string();
    for host in [&gone, &empty.host(), &sick.host(), &half.host(), &origin.host()] {
        assert!(words.contains(host.as_str()), "{words} should name {host}");
    }
}

#[tokio::test]
async fn a_mirror_that_lies_is_passed_over() {
    let mut lies = app();
    let layer = lies.layers("team/app", "1").remove(0);
    lies.blobs.get_mut(&layer).unwrap()[20] ^= 1;
    let (mirror, origin) = (Server::plain(lies).await, Server::plain(app()).await);
    let world = World::new();
    world.hosts("r.example", &format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.addr, mirror.addr));
    world.pull("r.example/team/app:1").await.unwrap();
    assert_eq!((mirror.asked(&layer), origin.asked("/")), (1, 1));
}

#[tokio::test]
async fn capabilities_decide_who_is_asked_for_what() {
    let (puller, origin) = (Server::plain(app()).await, Server::plain(app()).await);
    let world = World::new();
    world.hosts(
        "r.example",
        &format!("server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n", origin.addr, puller.addr),
    );
    world.pull("r.example/team/app:1").await.unwrap();
    assert_eq!((puller.asked("/manifests/"), puller.asked("/blobs/")), (0, 4));
    assert_eq!((origin.asked("/manifests/"), origin.asked("/blobs/")), (1, 0));
}

#[tokio::test]
async fn a_path_may_be_overridden_and_headers_are_sent() {
    let content = app();
    let mirror = Server::start(Content::default(), move |request| {
        let path = request.path().strip_prefix("/proxy/hub/")?;
        let manifest = content.manifests.get(path).map(|(_, bytes)| bytes);
        Some(Reply::new(200, manifest.or_else(|| content.blobs.get(path.rsplit('/').next()?))?.clone()))
    })
    .await;
    let world = World::new();
    let url = format!("http://{}/proxy/hub", mirror.addr);
    world.hosts(
        "_default",
        &format!("[host.\"{url}\"]\noverride_path = true\n[host.\"{url}\".header]\nx-key = [\"k\"]\n"),
    );
    world.pull("r.example/team/app:1").await.unwrap();
    assert!(mirror.requests().iter().all(|request| request.header("x-key") == Some("k")));
}

#[tokio::test]
async fn a_broken_file_stops_only_its_own_registry() {
    let server = Server::plain(app()).await;
    let world = World::new();
    world.hosts("r.example", "skip_verify = 3");
    let words = world.failure("r.example/team/app:1").await;
    assert!(words.ends_with("r.example/hosts.toml: skip_verify: is not true or false"), "{words}");
    world.pull(&format!("{}/team/app:1", server.host())).await.unwrap();
}

/// A certificate authority and servers with its certificates.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    async fn server(&self, wants_client: bool) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Server::tls(app(), builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()).await
    }
}

#[tokio::test]
async fn certificates_are_checked_against_the_given_authority() {
    let authority = Authority::new();
    let server = authority.server(false).await;
    let (world, host) = (World::new(), server.host());
    let server_line = format!("server = \"https://{host}\"\n");
    world.hosts("r.example", &server_line);
    let error = world.pull("r.example/team/app:1").await.unwrap_err();
    assert_eq!(error.reason(), "ErrImagePull");
    assert!(error.chain().to_lowercase().contains("certificate"), "{}", error.chain());
    assert!(server.requests().is_empty());

    // A relative path begins at the file's folder.
    world.hosts("r.example", &format!("{server_line}ca = \"ca.pem\"\n"));
    let words = world.failure("r.example/team/app:1").await;
    assert!(words.contains("r.example/ca.pem: ca: "), "{words}");
    std::fs::write(world.path("certs.d/r.example/ca.pem"), authority.issuer.pem()).unwrap();
    world.pull("r.example/team/app:1").await.unwrap();
}

#[tokio::test]
async fn a_certificate_may_go_unchecked() {
    let server = Authority::new().server(false).await;
    let world = World::new();
    world.hosts("r.example", &format!("server = \"https://{}\"\nskip_verify = true\n", server.addr));
    world.pull("r.example/team/app:1").await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_wants_it() {
    let authority = Authority::new();
    let server = authority.server(true).await;
    let world = World::new();
    let base = format!("server = \"https://{}\"\nca = \"ca.pem\"\n", server.addr);
    world.hosts("r.example", &base);
    let folder = world.path("certs.d/r.example");
    std::fs::write(folder.join("ca.pem"), authority.issuer.pem()).unwrap();
    world.failure("r.example/team/app:1").await;
    let (certificate, key) = authority.issue();
    std::fs::write(folder.join("me.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("me.key"), key.serialize_pem()).unwrap();
    world.hosts("r.example", &format!("{base}client = [[\"me.pem\", \"me.key\"]]\n"));
    world.pull("r.example/team/app:1").await.unwrap();
}
