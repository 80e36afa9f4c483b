//! Projected and downward-API volumes on a real tmpfs, in a mount namespace of the test's own.

mod world;

use orlop_model::{
    ContainerName, DownwardFile, DownwardSource, KeyToPath, PodDesired, Projection, TokenAsk, VolumeSource,
};
use orlop_volume::{set_up, tear_down, update};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use world::{Store, World, container, names, with_own_mounts};

fn token(path: &str, audience: Option<&str>) -> Projection {
    let ask = TokenAsk { audience: audience.map(str::to_owned), expiration_secs: 3607 };
    Projection::Token { path: path.into(), ask }
}

fn field(path: &str, field: &str) -> DownwardFile {
    DownwardFile { path: path.into(), source: DownwardSource::Field(field.into()), mode: None }
}

fn config_map(name: &str, items: &[(&str, &str)], optional: bool) -> Projection {
    let items =
        items.iter().map(|(key, path)| KeyToPath { key: (*key).into(), path: path.into(), mode: None }).collect();
    Projection::ConfigMap { name: name.into(), items, optional }
}

fn secret(name: &str) -> Projection {
    Projection::Secret { name: name.into(), items: Vec::new(), optional: false }
}

fn projected(sources: Vec<Projection>) -> VolumeSource {
    VolumeSource::Projected { sources, default_mode: 0o644 }
}

/// What the API server's ServiceAccount admission gives nearly every pod.
fn api_access() -> VolumeSource {
    projected(vec![
        token("token", None),
        config_map("kube-root-ca.crt", &[("ca.crt", "ca.crt")], false),
        Projection::Downward { items: vec![field("namespace", "metadata.namespace")] },
    ])
}

/// Owner, group and permission bits.
fn owned(path: &Path) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn is_tmpfs(path: &Path) -> bool {
    orlop_kernel::mounts_below(path).unwrap().iter().any(|mount| mount.target == path && mount.fs_type == "tmpfs")
}

#[test]
fn a_service_account_token_its_ca_and_its_namespace() {
    with_own_mounts(|| {
        let world = World::new();
        let pod = world.pod(vec![("api", api_access())]);
        let mut objects = Store::new(&[("kube-root-ca.crt", "ca.crt", "CA"), ("kube-root-ca.crt", "other", "x")], &[]);
        let path = set_up(&pod, &world.roots, &objects.sources()).unwrap()["api"].clone();
        assert_eq!(path, world.pod_dir(&pod).join("volumes/kubernetes.io~projected/api"));
        assert!(is_tmpfs(&path));
        assert_eq!(
            names(&path).into_iter().filter(|name| !name.starts_with("..")).collect::<Vec<_>>(),
            ["ca.crt", "namespace", "token"]
        );
        assert_eq!(
            ["token", "ca.crt", "namespace"].map(|name| text(path.join(name))),
            ["default/api/one", "CA", "default"]
        );
        assert!(update(&pod, &world.roots, &objects.sources()).changed.is_empty());
        // Renewed: the file has the new one; refused: the old one stays.
        objects.token = Ok("two".into());
        assert_eq!(update(&pod, &world.roots, &objects.sources()).changed, ["api"]);
        assert_eq!(text(path.join("token")), "default/api/two");
        objects.token = Err("serviceaccounts \"default\" not found".into());
        let failed = &update(&pod, &world.roots, &objects.sources()).failed;
        let cause = std::error::Error::source(&failed[0]).unwrap();
        assert_eq!(
            format!("{}: {cause}", failed[0]),
            "MountVolume.SetUp failed for volume \"api\" : failed to fetch token: serviceaccounts \"default\" not found"
        );
        assert_eq!(text(path.join("token")), "default/api/two");
        // A container that starts again meanwhile has what the pod had.
        set_up(&pod, &world.roots, &objects.sources()).unwrap();
        objects.config_maps.clear();
        set_up(&pod, &world.roots, &objects.sources()).unwrap();
        assert_eq!(text(path.join("ca.crt")), "CA");
        tear_down(&pod.uid, &world.roots).unwrap();
        assert!(orlop_kernel::mounts_below(world.dir.path()).unwrap().is_empty());
        assert!(!world.pod_dir(&pod).exists());
    });
}

#[test]
fn whose_the_token_is() {
    with_own_mounts(|| {
        // Users of the containers, fsGroup, the token's owner and the CA's.
        for (users, group, want_token, want_ca) in [
            (vec![None], None, (0, 0, 0o644), (0, 0, 0o644)),
            (vec![Some(1000)], None, (1000, 0, 0o600), (0, 0, 0o644)),
            (vec![Some(1000), Some(1000)], None, (1000, 0, 0o600), (0, 0, 0o644)),
            (vec![Some(1000), Some(1001)], None, (0, 0, 0o644), (0, 0, 0o644)),
            (vec![Some(1000), None], None, (0, 0, 0o644), (0, 0, 0o644)),
            (vec![None], Some(2000), (0, 2000, 0o640), (0, 2000, 0o644)),
            (vec![Some(1000)], Some(2000), (1000, 2000, 0o640), (0, 2000, 0o644)),
        ] {
            let world = World::new();
            let mut pod = world.pod(vec![("api", api_access())]);
            pod.security.fs_group = group;
            pod.containers = users
                .iter()
                .map(|user| {
                    let mut one = container("api", None);
                    one.security.run_as_user = *user;
                    one
                })
                .collect();
            let objects = Store::new(&[("kube-root-ca.crt", "ca.crt", "CA")], &[]);
            let path = set_up(&pod, &world.roots, &objects.sources()).unwrap()["api"].clone();
            assert_eq!(owned(&path.join("token")), want_token, "{users:?} {group:?}");
            assert_eq!(owned(&path.join("ca.crt")), want_ca, "{users:?} {group:?}");
            tear_down(&pod.uid, &world.roots).unwrap();
        }
    });
}

#[test]
fn sources_in_one_folder() {
    with_own_mounts(|| {
        let world = World::new();
        let sources = vec![
            config_map("c", &[], false),
            config_map("none", &[("k", "none")], true),
            secret("s"),
            token("deep/vault", Some("vault")),
        ];
        let pod = world.pod(vec![("all", projected(sources))]);
        let objects = Store::new(&[("c", "a", "c"), ("c", "b", "c")], &[("s", "b", "s")]);
        let path = set_up(&pod, &world.roots, &objects.sources()).unwrap()["all"].clone();
        // The later source wins.
        assert_eq!(["a", "b", "deep/vault"].map(|name| text(path.join(name))), ["c", "s", "default/vault/one"]);
        tear_down(&pod.uid, &world.roots).unwrap();
    });
}

#[test]
fn everything_that_is_missing_is_named() {
    with_own_mounts(|| {
        let world = World::new();
        let cause = |sources: Vec<Projection>, objects: &Store| {
            let pod = world.pod(vec![("v", projected(sources))]);
            let error = set_up(&pod, &world.roots, &objects.sources()).unwrap_err();
            tear_down(&pod.uid, &world.roots).unwrap();
            std::error::Error::source(&error).unwrap().to_string()
        };
        let mut objects = Store::new(&[("c", "a", "1")], &[]);
        objects.token = Err("forbidden".into());
        assert_eq!(cause(vec![config_map("x", &[], false)], &objects), "configmap \"x\" not found");
        assert_eq!(
            cause(
                vec![token("t", None), config_map("x", &[], false), secret("y"), config_map("x", &[], false)],
                &objects
            ),
            "[failed to fetch token: forbidden, configmap \"x\" not found, secret \"y\" not found]"
        );
        assert_eq!(
            cause(vec![config_map("c", &[("z", "z")], false)], &objects),
            "configmap references non-existent config key: z"
        );
    });
}

#[test]
fn labels_that_change_reach_the_files() {
    with_own_mounts(|| {
        let world = World::new();
        let cpu = DownwardFile {
            path: "cpu".into(),
            source: DownwardSource::Resource {
                container: ContainerName::new("whole").unwrap(),
                resource: "limits.cpu".into(),
                divisor: 1,
            },
            mode: Some(0o400),
        };
        let items = vec![field("labels", "metadata.labels"), field("uid", "metadata.uid"), cpu];
        let source = VolumeSource::Downward { items, default_mode: 0o444 };
        let mut pod = world.pod(vec![("info", source)]);
        pod.containers = vec![container("info", None)];
        pod.labels.insert("app".into(), "web".into());
        let objects = Store::default();
        let path = set_up(&pod, &world.roots, &objects.sources()).unwrap()["info"].clone();
        assert_eq!(path, world.pod_dir(&pod).join("volumes/kubernetes.io~downward-api/info"));
        assert!(is_tmpfs(&path));
        assert_eq!(
            ["labels", "uid", "cpu"].map(|name| text(path.join(name))),
            ["app=\"web\"".to_owned(), pod.uid.to_string(), "2000".to_owned()]
        );
        assert_eq!((owned(&path.join("labels")).2, owned(&path.join("cpu")).2), (0o444, 0o400));
        let relabelled = PodDesired { labels: [("app".to_owned(), "\"x\"".to_owned())].into(), ..pod.clone() };
        assert_eq!(update(&relabelled, &world.roots, &objects.sources()).changed, ["info"]);
        assert_eq!(text(path.join("labels")), "app=\"\\\"x\\\"\"");
        tear_down(&pod.uid, &world.roots).unwrap();
    });
}

/// A reader that holds on to `..data` sees one state, whatever is written meanwhile.
#[test]
fn no_reader_sees_half_an_update() {
    const STATES: u32 = 200;
    with_own_mounts(|| {
        let world = World::new();
        let pod = world.pod(vec![("v", projected(vec![config_map("c", &[], false), secret("s")]))]);
        let state = |n: u32| Store::new(&[("c", "a", &n.to_string())], &[("s", "b", &n.to_string())]);
        let path = set_up(&pod, &world.roots, &state(0).sources()).unwrap()["v"].clone();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut whole = 0;
                while !done.load(Ordering::Relaxed) || whole == 0 {
                    let folder = path.join(fs::read_link(path.join("..data")).expect("there is always a state"));
                    // The folder may be gone by now; then it was old.
                    let (a, b) = (fs::read_to_string(folder.join("a")), fs::read_to_string(folder.join("b")));
                    if let (Ok(a), Ok(b)) = (a, b) {
                        assert_eq!(a, b);
                        whole += 1;
                    }
                }
            });
            for n in 1..=STATES {
                assert_eq!(update(&pod, &world.roots, &state(n).sources()).changed, ["v"]);
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        assert_eq!(text(path.join("a")), STATES.to_string());
        tear_down(&pod.uid, &world.roots).unwrap();
    });
}
