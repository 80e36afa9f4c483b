//! Debian's docker-registry on loopback: pushed to by `oci-client`, pulled from by Orlop.

use crate::content::{Content, image};
use crate::world::{World, keyring};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OciImageIndex, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `u:p` with the smallest cost, as `htpasswd -nbB -C 4` writes it.
const HTPASSWD: &str = "u:$2b$04$NAK8Ewy30l0WnSEcqmqM/Oey7OpXQX5l2qlOuHOe5brDl5I/lPaKW\n";

/// `docker-registry serve` on a port of its own; ends with its value.
struct Registry {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From PATH, or where `cargo xtask setup` unpacks it.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let unpacked = target.join("xtask/docker-registry/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([unpacked])
        .map(|dir| dir.join("docker-registry"))
        .find(|file| file.is_file())
        .expect("docker-registry is missing: run `cargo xtask setup`")
}

/// A client that is not Orlop's. It needs the package ca-certificates even for plain http.
fn other_client() -> Client {
    // Another test may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

impl Registry {
    fn start(auth: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Free until a moment ago; the registry says so itself when it is not any more.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let password = dir.path().join("htpasswd");
        std::fs::write(&password, HTPASSWD).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {addr}, secret: x}}\n",
            dir.path().join("data").display()
        );
        if auth {
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", password.display());
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(program())
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let listens = lines.by_ref().map_while(Result::ok).any(|line| {
            let listens = line.contains("listening on");
            said.push(line);
            listens
        });
        assert!(listens, "docker-registry did not start: {said:#?}");
        // It blocks when nobody reads what it logs.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let registry = Self { child, host: addr.to_string(), _dir: dir };
        registry.wait();
        registry
    }

    /// It says that it listens a moment before it does.
    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&self.host).is_err() {
            assert!(Instant::now() < until, "docker-registry does not listen at {}", self.host);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Pushes all of a content's manifests and blobs with another's client.
    async fn push(&self, repository: &str, content: &Content, auth: &RegistryAuth) {
        let client = other_client();
        let name = |tag: &str| format!("{}/{repository}:{tag}", self.host).parse().unwrap();
        client.auth(&name("x"), auth, RegistryOperation::Push).await.unwrap();
        for (digest, bytes) in &content.blobs {
            client.push_blob(&name("x"), bytes.clone(), digest).await.unwrap();
        }
        let documents = |index: bool| {
            let all = content.manifests.iter().filter(|(path, _)| !path.contains("sha256:"));
            all.filter(move |(_, (kind, _))| (kind.contains("index") || kind.contains("list")) == index)
        };
        for (path, (_, bytes)) in documents(false).chain(documents(true)) {
            let tag = path.rsplit('/').next().unwrap();
            let manifest = match serde_json::from_slice::<OciImageManifest>(bytes) {
                Ok(image) => OciManifest::Image(image),
                Err(_) => OciManifest::ImageIndex(serde_json::from_slice::<OciImageIndex>(bytes).unwrap()),
            };
            client.push_manifest(&name(tag), &manifest).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_another_client_pushed() {
    let registry = Registry::start(false);
    let mut content = Content::default();
    let ours = content.push("team/app", "1", &image("from debian"));
    registry.push("team/app", &content, &RegistryAuth::Anonymous).await;
    let world = World::new();
    let name = format!("{}/team/app:1", registry.host);
    let record = world.pull(&name).await.unwrap().record;
    assert_eq!(world.own(&record), "from debian");
    assert_eq!(record.layers.len(), 3);

    let by_digest = World::new();
    let pinned = by_digest.pull(&format!("{}/team/app@{}", registry.host, record.digest)).await.unwrap().record;
    assert_eq!(pinned.id, record.id);

    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": crate::content::OCI_INDEX,
        "manifests": [{
            "mediaType": crate::content::OCI_MANIFEST,
            "digest": record.digest.to_string(),
            "size": ours_size(&registry, &record.digest.to_string()).await,
            "platform": ours["platform"],
        }],
    });
    let mut indexed = Content::default();
    indexed.document("team/app", "many", crate::content::OCI_INDEX, index.to_string().into_bytes());
    registry.push("team/app", &indexed, &RegistryAuth::Anonymous).await;
    let many = world.pull(&format!("{}/team/app:many", registry.host)).await.unwrap().record;
    assert_eq!((many.id, many.names.len()), (record.id, 2));

    let error = world.pull(&format!("{}/team/app:2", registry.host)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: manifest 2 of team/app: manifest unknown", registry.host));
}

/// Bytes of a manifest as the registry has it: the other client wrote it anew.
async fn ours_size(registry: &Registry, digest: &str) -> usize {
    let client = other_client();
    let name = format!("{}/team/app@{digest}", registry.host).parse().unwrap();
    let kinds = [crate::content::OCI_MANIFEST];
    client.pull_manifest_raw(&name, &RegistryAuth::Anonymous, &kinds).await.unwrap().0.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_with_passwords() {
    let registry = Registry::start(true);
    let content = Content::of("app", "1", &image("private"));
    registry.push("app", &content, &RegistryAuth::Basic("u".into(), "p".into())).await;
    let world = World::new();
    let name = format!("{}/app:1", registry.host);
    let words = world.failure(&name).await;
    assert_eq!(words, format!("{}: manifest 1 of app: unauthorized: authentication required", registry.host));
    let error = world.pull_as(&name, &keyring(&[(&registry.host, "u", "wrong")])).await.unwrap_err();
    assert!(error.to_string().contains("authentication required"), "{error}");
    let record = world.pull_as(&name, &keyring(&[(&registry.host, "u", "p")])).await.unwrap().record;
    assert_eq!(world.own(&record), "private");
}
