//! Root filesystems: real overlay mounts in a mount namespace of the test's own.

use nix::sched::{CloneFlags, unshare};
use orlop_image::build::{ImageBuilder, LayerBuilder, write_layout};
use orlop_image::{ImageError, ImageRecord, ImageStore, RootAccess, Rootfs};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Runs on a thread with its own mounts; they end with it.
fn with_own_mounts(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
        orlop_kernel::make_private(Path::new("/"), true).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn load(dir: &TempDir, image: ImageBuilder) -> (ImageStore, ImageRecord) {
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    write_layout(&dir.path().join("layout"), &[image]).unwrap();
    let record = store.load(&dir.path().join("layout"), None).unwrap().remove(0);
    (store, record)
}

fn layers(layers: Vec<LayerBuilder>) -> ImageBuilder {
    ImageBuilder { names: vec!["app:1".into()], layers, ..ImageBuilder::default() }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn layers_stack_and_whiteouts_hide() {
    with_own_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let (store, image) = load(
            &dir,
            layers(vec![
                LayerBuilder::new()
                    .dir("keep", 0o755)
                    .file("keep/a", 0o644, "a1")
                    .file("keep/b", 0o644, "b1")
                    .dir("whole", 0o755)
                    .file("whole/old", 0o644, "old")
                    .dir("swap", 0o755)
                    .file("swap/old", 0o644, "old")
                    .file("gone", 0o644, "gone"),
                LayerBuilder::new()
                    .file("keep/a", 0o644, "a2")
                    .whiteout("keep/b")
                    .whiteout("gone")
                    .dir("whole", 0o755)
                    .opaque("whole")
                    .file("whole/new", 0o644, "new")
                    .whiteout("swap")
                    .dir("swap", 0o755),
            ]),
        );
        let rootfs = Rootfs::at(dir.path().join("c1"));
        let root = rootfs.mount(&store, &image, RootAccess::ReadWrite).unwrap();
        assert_eq!(root, rootfs.path());
        assert_eq!(names(&root), ["keep", "swap", "whole"]);
        assert_eq!(names(&root.join("keep")), ["a"]);
        assert_eq!(fs::read_to_string(root.join("keep/a")).unwrap(), "a2");
        assert_eq!(names(&root.join("whole")), ["new"]);
        assert!(names(&root.join("swap")).is_empty());

        // The container writes; the image does not change; another container does not see it.
        fs::write(root.join("keep/a"), "mine").unwrap();
        assert_eq!(fs::read_to_string(store.layer_dirs(&image)[1].join("keep/a")).unwrap(), "a2");
        let other = Rootfs::at(dir.path().join("c2"));
        let other_root = other.mount(&store, &image, RootAccess::ReadOnly).unwrap();
        assert_eq!(fs::read_to_string(other_root.join("keep/a")).unwrap(), "a2");
        assert_eq!(fs::write(other_root.join("x"), "").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);

        // After a restart it is found, not made again.
        let again = Rootfs::at(dir.path().join("c1"));
        assert!(again.is_mounted().unwrap());
        again.mount(&store, &image, RootAccess::ReadWrite).unwrap();
        assert_eq!(fs::read_to_string(root.join("keep/a")).unwrap(), "mine");

        for rootfs in [again, other] {
            rootfs.unmount_and_remove().unwrap();
            assert!(!rootfs.is_mounted().unwrap());
            rootfs.unmount_and_remove().unwrap();
        }
        assert!(names(&dir.path().join("c1")).is_empty() && names(&dir.path().join("c2")).is_empty());
    });
}

#[test]
fn few_and_many_layers() {
    with_own_mounts(|| {
        for (count, access) in [
            (0, RootAccess::ReadWrite),
            (0, RootAccess::ReadOnly),
            (1, RootAccess::ReadOnly),
            (60, RootAccess::ReadWrite),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let image = layers((0..count).map(|n| LayerBuilder::new().file(&format!("f{n:02}"), 0o644, "x")).collect());
            let (store, image) = load(&dir, image);
            let rootfs = Rootfs::at(dir.path().join("c"));
            let root = rootfs.mount(&store, &image, access).unwrap();
            assert_eq!(names(&root).len(), count, "{count} layers, {access:?}");
            rootfs.unmount_and_remove().unwrap();
            assert!(names(&dir.path().join("c")).is_empty(), "{count} layers, {access:?}");
        }
    });
}

/// The demo's image, made from the busybox of this machine, really runs.
#[test]
fn a_busybox_image_runs() {
    with_own_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let busybox = ImageBuilder::busybox("busybox:test", Path::new("/bin/busybox"), &["sh", "id", "stat"]);
        let (store, image) = load(&dir, busybox.expect("this test needs Debian's busybox-static"));
        assert_eq!(image.config.cmd, ["sh"]);
        let rootfs = Rootfs::at(dir.path().join("c"));
        let root = rootfs.mount(&store, &image, RootAccess::ReadWrite).unwrap();
        let script = "/bin/id -un; /bin/stat -c %a /tmp; echo hi > /tmp/x && exit 7";
        let output = Command::new("/bin/busybox")
            .args([
                std::ffi::OsStr::new("chroot"),
                root.as_os_str(),
                "/bin/sh".as_ref(),
                "-c".as_ref(),
                script.as_ref(),
            ])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "root\n1777\n");
        assert_eq!(fs::read_to_string(rootfs.upper().join("tmp/x")).unwrap(), "hi\n");
        rootfs.unmount_and_remove().unwrap();
    });
}

#[test]
fn a_full_disk_is_named_and_leaves_no_half_layer() {
    with_own_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let small = dir.path().join("small");
        fs::create_dir(&small).unwrap();
        orlop_kernel::mount_tmpfs(&small, Some(1 << 20), 0o755).unwrap();
        let store = ImageStore::open(small.join("images")).unwrap();
        let fits = LayerBuilder::new().file("fits", 0o644, vec![b'x'; 300_000]);
        let bursts = LayerBuilder::new().file("usr/bursts", 0o644, vec![b'x'; 3_000_000]);
        write_layout(&dir.path().join("layout"), &[layers(vec![fits, bursts])]).unwrap();
        let error = store.load(&dir.path().join("layout"), None).unwrap_err();
        assert!(matches!(&error, ImageError::NoSpace { .. }) && error.is_transient(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("usr/bursts") && text.contains("free some") && text.contains("small"), "{text}");
        for folder in ["layers", "tmp", "records"] {
            assert!(names(&store.dir().join(folder)).is_empty(), "{folder}");
        }
        orlop_kernel::unmount(&small).unwrap();
    });
}
