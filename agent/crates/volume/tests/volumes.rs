//! Volumes on a real file system, in a mount namespace of the test's own.

mod world;

use orlop_model::{HostPathType, KeyToPath, VolumeSource};
use orlop_volume::{mount_sources, set_up, tear_down, update};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use world::{Store, World, config_map, empty_dir, names, secret, with_own_mounts};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn fs_type(path: &Path) -> Option<String> {
    let mounts = orlop_kernel::mounts_below(path).unwrap();
    mounts.into_iter().find(|mount| mount.target == path).map(|mount| mount.fs_type)
}

#[test]
fn every_kind_is_where_the_kubelet_has_it() {
    with_own_mounts(|| {
        let world = World::new();
        let host = world.dir.path().join("host");
        let pod = world.pod(vec![
            ("disk", empty_dir(false, None)),
            ("mem", empty_dir(true, Some(1 << 20))),
            ("host", VolumeSource::HostPath { path: host.clone(), kind: HostPathType::DirectoryOrCreate }),
            ("conf", config_map("conf")),
            ("keys", secret("keys")),
        ]);
        let objects = Store::new(&[("conf", "a", "1")], &[("keys", "token", "t")]);
        let paths = set_up(&pod, &world.roots, &objects.sources()).unwrap();
        let at = |plugin: &str, name: &str| world.pod_dir(&pod).join("volumes").join(plugin).join(name);
        assert_eq!(paths["disk"], at("kubernetes.io~empty-dir", "disk"));
        assert_eq!(paths["mem"], at("kubernetes.io~empty-dir", "mem"));
        assert_eq!(paths["conf"], at("kubernetes.io~configmap", "conf"));
        assert_eq!(paths["keys"], at("kubernetes.io~secret", "keys"));
        assert_eq!(paths["host"], host);
        for (name, kind) in [("disk", None), ("mem", Some("tmpfs")), ("conf", None), ("keys", Some("tmpfs"))] {
            assert_eq!(mode(&paths[name]), if kind.is_some() { 0o1777 } else { 0o777 }, "{name}");
            assert_eq!(fs_type(&paths[name]).as_deref(), kind, "{name}");
        }
        assert_eq!((text(paths["conf"].join("a")), text(paths["keys"].join("token"))), ("1".into(), "t".into()));
        // The tmpfs has its limit.
        let error = fs::write(paths["mem"].join("big"), vec![0; 2 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);

        // Again: nothing is lost and nothing is mounted twice.
        fs::write(paths["disk"].join("mine"), "kept").unwrap();
        fs::write(paths["mem"].join("big"), "kept").unwrap();
        let before = orlop_kernel::mounts_below(world.dir.path()).unwrap().len();
        assert_eq!(set_up(&pod, &world.roots, &objects.sources()).unwrap(), paths);
        assert_eq!(orlop_kernel::mounts_below(world.dir.path()).unwrap().len(), before);
        assert_eq!((text(paths["disk"].join("mine")), text(paths["mem"].join("big"))), ("kept".into(), "kept".into()));

        fs::write(host.join("precious"), "1").unwrap();
        tear_down(&pod.uid, &world.roots).unwrap();
        tear_down(&pod.uid, &world.roots).unwrap();
        assert!(!world.pod_dir(&pod).exists());
        assert_eq!(text(host.join("precious")), "1");
        assert!(orlop_kernel::mounts_below(world.dir.path()).unwrap().is_empty());
    });
}

#[test]
fn the_pods_memory_limit_bounds_a_memory_volume() {
    with_own_mounts(|| {
        let world = World::new();
        let mut pod = world.pod(vec![("mem", empty_dir(true, Some(8 << 20)))]);
        pod.resources.memory_limit = Some(1 << 20);
        let paths = set_up(&pod, &world.roots, &Store::default().sources()).unwrap();
        fs::write(paths["mem"].join("big"), vec![0; 2 << 20]).unwrap_err();
        tear_down(&pod.uid, &world.roots).unwrap();
    });
}

#[test]
fn errors_say_what_the_kubelet_says() {
    with_own_mounts(|| {
        let world = World::new();
        let chain = |source: VolumeSource| {
            let pod = world.pod(vec![("v", source)]);
            let error = set_up(&pod, &world.roots, &Store::default().sources()).unwrap_err();
            tear_down(&pod.uid, &world.roots).unwrap();
            format!("{error}: {}", std::error::Error::source(&error).unwrap())
        };
        assert_eq!(chain(config_map("x")), "MountVolume.SetUp failed for volume \"v\" : configmap \"x\" not found");
        assert_eq!(chain(secret("x")), "MountVolume.SetUp failed for volume \"v\" : secret \"x\" not found");
        let path = world.dir.path().join("none");
        assert_eq!(
            chain(VolumeSource::HostPath { path: path.clone(), kind: HostPathType::Directory }),
            format!(
                "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {} is not a directory",
                path.display()
            )
        );
    });
}

#[test]
fn files_change_all_at_once() {
    with_own_mounts(|| {
        let world = World::new();
        let items = vec![
            KeyToPath { key: "a".into(), path: "dir/a".into(), mode: Some(0o400) },
            KeyToPath { key: "b".into(), path: "b".into(), mode: None },
        ];
        let chosen = VolumeSource::ConfigMap { name: "conf".into(), items, default_mode: 0o640, optional: false };
        let pod = world.pod(vec![("all", config_map("conf")), ("chosen", chosen)]);
        let mut objects = Store::new(&[("conf", "a", "1"), ("conf", "b", "1"), ("conf", "c", "1")], &[]);
        let paths = set_up(&pod, &world.roots, &objects.sources()).unwrap();
        let (all, chosen) = (&paths["all"], &paths["chosen"]);
        assert_eq!(visible(all), ["a", "b", "c"]);
        assert_eq!(visible(chosen), ["b", "dir"]);
        assert_eq!(fs::read_link(chosen.join("dir")).unwrap(), Path::new("..data/dir"));
        assert_eq!(mode(&fs::canonicalize(chosen.join("dir/a")).unwrap()), 0o400);
        assert_eq!(mode(&fs::canonicalize(chosen.join("b")).unwrap()), 0o640);

        // Nothing changed: nothing is written.
        let data = fs::read_link(all.join("..data")).unwrap();
        let updated = update(&pod, &world.roots, &objects.sources());
        assert!(updated.changed.is_empty() && updated.failed.is_empty(), "{updated:?}");
        assert_eq!(fs::read_link(all.join("..data")).unwrap(), data);

        // A container that holds the old folder open goes on seeing the old state.
        let old = fs::File::open(fs::canonicalize(all.join("a")).unwrap()).unwrap();
        objects.config_maps.insert("conf".into(), [("a".into(), b"2".to_vec()), ("b".into(), b"1".to_vec())].into());
        let updated = update(&pod, &world.roots, &objects.sources());
        assert_eq!(updated.changed, ["all", "chosen"]);
        assert_eq!((text(all.join("a")), visible(all)), ("2".into(), vec!["a".into(), "b".into()]));
        assert_eq!(std::io::read_to_string(old).unwrap(), "1");
        let folders = names(all).into_iter().filter(|name| name.starts_with("..2")).count();
        assert_eq!(folders, 1, "the old state is gone");
        assert!(data != fs::read_link(all.join("..data")).unwrap());

        // A deleted object is reported and its last state stays.
        objects.config_maps.clear();
        let updated = update(&pod, &world.roots, &objects.sources());
        assert_eq!((updated.changed.len(), updated.failed.len(), text(all.join("a"))), (0, 2, "2".into()));

        // What a crash in the middle left is cleaned by the next change.
        fs::create_dir(all.join("..2020_01_01_00_00_00.crash")).unwrap();
        symlink("..2020_01_01_00_00_00.crash", all.join("..data_tmp")).unwrap();
        objects.config_maps.insert("conf".into(), [("a".into(), b"3".to_vec()), ("b".into(), b"3".to_vec())].into());
        assert_eq!(update(&pod, &world.roots, &objects.sources()).changed.len(), 2);
        assert_eq!(names(all).len(), 4, "..data, its folder, a, b: {:?}", names(all));
        tear_down(&pod.uid, &world.roots).unwrap();
    });
}

fn visible(path: &Path) -> Vec<String> {
    names(path).into_iter().filter(|name| !name.starts_with("..")).collect()
}

#[test]
fn fs_group_owns_volumes_but_not_the_host() {
    with_own_mounts(|| {
        let world = World::new();
        let host = world.dir.path().join("host");
        fs::create_dir(&host).unwrap();
        let kind = HostPathType::Directory;
        let mut pod = world.pod(vec![
            ("disk", empty_dir(false, None)),
            ("mem", empty_dir(true, None)),
            ("keys", secret("keys")),
            ("host", VolumeSource::HostPath { path: host.clone(), kind }),
        ]);
        pod.security.fs_group = Some(2000);
        let mut objects = Store::new(&[], &[("keys", "token", "t")]);
        let paths = set_up(&pod, &world.roots, &objects.sources()).unwrap();
        let owned = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.gid(), meta.mode() & 0o7777)
        };
        assert_eq!(owned(&paths["disk"]), (2000, 0o2777));
        assert_eq!(owned(&paths["mem"]), (2000, 0o3777));
        assert_eq!(owned(&paths["keys"]), (2000, 0o3777));
        assert_eq!(owned(&paths["keys"].join("..data")), (2000, 0o2755));
        assert_eq!(owned(&paths["keys"].join("token")), (2000, 0o644));
        assert_eq!(owned(&host).0, 0);
        objects.secrets.insert("keys".into(), [("token".into(), b"new".to_vec())].into());
        assert_eq!(update(&pod, &world.roots, &objects.sources()).changed, ["keys"]);
        assert_eq!(owned(&paths["keys"].join("token")), (2000, 0o644));
        // What the pod made of a file's mode is not touched by another set-up.
        fs::write(paths["disk"].join("private"), "").unwrap();
        fs::set_permissions(paths["disk"].join("private"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        set_up(&pod, &world.roots, &objects.sources()).unwrap();
        assert_eq!(owned(&paths["disk"].join("private")), (2000, 0o600));
        tear_down(&pod.uid, &world.roots).unwrap();
    });
}

/// The container owns the volume and is hostile; the host must not be touched.
#[test]
fn tear_down_follows_no_link_and_crosses_no_mount() {
    with_own_mounts(|| {
        let world = World::new();
        let pod = world.pod(vec![("disk", empty_dir(false, None)), ("mem", empty_dir(true, None))]);
        let paths = set_up(&pod, &world.roots, &Store::default().sources()).unwrap();
        let outside = world.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "1").unwrap();
        let disk = &paths["disk"];
        symlink(&outside, disk.join("link")).unwrap();
        fs::create_dir(disk.join("deep")).unwrap();
        symlink("../../../../../../outside", disk.join("deep/link")).unwrap();
        fs::write(disk.join("file"), "x").unwrap();
        let bind = |source: &Path, target: &Path| {
            let (source, propagation) = (source.to_path_buf(), orlop_kernel::Propagation::Private);
            let bind = orlop_kernel::Bind { source, recursive: false, read_only: false, propagation };
            orlop_kernel::mount_bind(&bind, target).unwrap();
        };
        fs::create_dir(disk.join("mounted")).unwrap();
        bind(&outside, &disk.join("mounted"));
        fs::write(disk.join("mounted-file"), "").unwrap();
        bind(&outside.join("precious"), &disk.join("mounted-file"));
        fs::create_dir(paths["mem"].join("mounted")).unwrap();
        bind(&outside, &paths["mem"].join("mounted"));

        let error = tear_down(&pod.uid, &world.roots).unwrap_err();
        let said = error.to_string();
        for path in [disk.join("mounted"), disk.join("mounted-file"), paths["mem"].clone()] {
            assert!(said.contains(path.to_str().unwrap()), "{said} should name {}", path.display());
        }
        assert_eq!(error.errors.len(), 3, "{said}");
        assert_eq!(text(outside.join("precious")), "1");
        assert_eq!(names(disk), ["mounted", "mounted-file"], "all else is gone");

        for path in [disk.join("mounted"), disk.join("mounted-file"), paths["mem"].join("mounted")] {
            orlop_kernel::unmount(&path).unwrap();
        }
        tear_down(&pod.uid, &world.roots).unwrap();
        assert!(!world.pod_dir(&pod).exists());
        assert_eq!(text(outside.join("precious")), "1");
    });
}

#[test]
fn folders_nested_without_end_are_removed() {
    with_own_mounts(|| {
        let world = World::new();
        // In memory: ext4 spreads nested folders over the whole disk.
        fs::create_dir(&world.roots.root_dir).unwrap();
        orlop_kernel::mount_tmpfs(&world.roots.root_dir, None, 0o755).unwrap();
        let pod = world.pod(vec![("disk", empty_dir(false, None))]);
        let disk = set_up(&pod, &world.roots, &Store::default().sources()).unwrap()["disk"].clone();
        // Deeper than a path may be long and than descriptors may be open.
        let mut folder = fs::File::open(&disk).unwrap();
        for _ in 0..2500 {
            nix::sys::stat::mkdirat(&folder, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
            let flags = nix::fcntl::OFlag::O_DIRECTORY;
            folder = nix::fcntl::openat(&folder, "d", flags, nix::sys::stat::Mode::empty()).unwrap().into();
        }
        drop(folder);
        tear_down(&pod.uid, &world.roots).unwrap();
        assert!(!world.pod_dir(&pod).exists());
        orlop_kernel::unmount(&world.roots.root_dir).unwrap();
    });
}

#[test]
fn sub_paths_stay_in_their_volume() {
    with_own_mounts(|| {
        let world = World::new();
        let mut pod = world.pod(vec![("disk", empty_dir(false, None)), ("conf", config_map("conf"))]);
        let objects = Store::new(&[("conf", "a", "1")], &[]);
        let volumes = set_up(&pod, &world.roots, &objects.sources()).unwrap();
        let disk = &volumes["disk"];
        fs::create_dir(disk.join("real")).unwrap();
        fs::write(disk.join("real/file"), "inside").unwrap();
        symlink("real", disk.join("good")).unwrap();
        symlink("../../../../..", disk.join("up")).unwrap();
        symlink("/etc", disk.join("abs")).unwrap();
        let mut sources = |volume: &str, sub_path: Option<&str>| {
            pod.containers = vec![world::container(volume, sub_path)];
            mount_sources(&pod, &pod.containers[0], &world.roots, &volumes)
        };
        let whole = sources("disk", None).unwrap().remove(0);
        assert_eq!((&whole.path, whole.read_only), (disk, false));
        assert!(sources("conf", None).unwrap()[0].read_only, "ConfigMaps are mounted read-only");
        for (sub_path, file) in [("real", "file"), ("good", "file"), (".", "real/file")] {
            let source = sources("disk", Some(sub_path)).unwrap().remove(0).path;
            assert_eq!(text(source.join(file)), "inside", "{sub_path}");
        }
        assert_eq!(text(sources("disk", Some("real/file")).unwrap().remove(0).path), "inside");
        assert_eq!(text(sources("conf", Some("a")).unwrap().remove(0).path), "1");
        for sub_path in ["..", "up", "up/etc", "abs", "abs/passwd", "real/../../x"] {
            let error = sources("disk", Some(sub_path)).unwrap_err().to_string();
            assert!(error.contains("leads out of the volume"), "{sub_path}: {error}");
        }
        // A missing one is made with the volume's mode, and a restart finds the same mount.
        let made = sources("disk", Some("new/deep")).unwrap().remove(0).path;
        assert_eq!(mode(&disk.join("new/deep")), 0o777);
        fs::File::create(made.join("x")).unwrap().write_all(b"y").unwrap();
        assert_eq!(text(disk.join("new/deep/x")), "y");
        let mounts = || orlop_kernel::mounts_below(world.dir.path()).unwrap().len();
        let before = mounts();
        assert_eq!(sources("disk", Some("new/deep")).unwrap().remove(0).path, made);
        assert_eq!(mounts(), before);
        assert!(sources("none", None).unwrap_err().to_string().contains("does not have"));
        tear_down(&pod.uid, &world.roots).unwrap();
        assert_eq!(mounts(), 0);
    });
}
