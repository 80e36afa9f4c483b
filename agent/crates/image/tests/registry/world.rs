//! A store, a `certs.d` and a puller.

use orlop_image::{ImageRecord, ImageStore, Keyring, PullError, PullOptions, Pulled, Puller};
use orlop_model::ImageRef;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

pub struct World {
    pub dir: TempDir,
    pub store: ImageStore,
    pub puller: Puller,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other options. Ten seconds of silence are an error where nothing else is said.
    pub fn with(change: impl FnOnce(&mut PullOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("images")).unwrap();
        let mut options = PullOptions {
            certs_dirs: vec![dir.path().join("certs.d")],
            parallel_images: NonZeroUsize::new(8),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
            ..PullOptions::default()
        };
        change(&mut options);
        let puller = Puller::new(store.clone(), options);
        Self { dir, store, puller }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `certs.d/REGISTRY/hosts.toml`.
    pub fn hosts(&self, registry: &str, text: &str) {
        let dir = self.path("certs.d").join(registry);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("hosts.toml"), text).unwrap();
    }

    pub async fn pull(&self, image: &str) -> Result<Pulled, PullError> {
        self.pull_as(image, &Keyring::new()).await
    }

    pub async fn pull_as(&self, image: &str, keyring: &Keyring) -> Result<Pulled, PullError> {
        self.puller.pull(&image_ref(image), keyring).await
    }

    /// The words of a pull that fails, after which nothing may be left.
    pub async fn failure(&self, image: &str) -> String {
        let error = self.pull(image).await.unwrap_err();
        self.is_empty().await;
        error.chain()
    }

    /// Waits until nothing is left of pulls that failed: removing goes on behind them.
    pub async fn is_empty(&self) {
        let left = || -> Vec<PathBuf> {
            ["tmp", "layers", "records"]
                .iter()
                .flat_map(|folder| fs::read_dir(self.store.dir().join(folder)).unwrap())
                .map(|item| item.unwrap().path())
                .collect()
        };
        let empty = async {
            while !left().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), empty).await;
        assert!(waited.is_ok(), "left over: {:?}", left());
    }

    /// The file `own` of the image's last layer.
    pub fn own(&self, record: &ImageRecord) -> String {
        fs::read_to_string(self.store.layer_dirs(record).last().unwrap().join("own")).unwrap()
    }
}

pub fn image_ref(text: &str) -> ImageRef {
    ImageRef::new(text).unwrap()
}

/// A pod's Secret with these `(registry, user, password)`.
pub fn keyring(auths: &[(&str, &str, &str)]) -> Keyring {
    let auths: serde_json::Map<String, serde_json::Value> = auths
        .iter()
        .map(|(place, username, password)| {
            ((*place).to_owned(), serde_json::json!({"username": username, "password": password}))
        })
        .collect();
    let json = serde_json::json!({ "auths": auths }).to_string();
    let mut ring = Keyring::new();
    ring.add_secrets([("pull", "kubernetes.io/dockerconfigjson", [(".dockerconfigjson", json)])]).unwrap();
    ring
}
