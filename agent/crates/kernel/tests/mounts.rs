//! Mounts, in mount namespaces of the test's own, on a disk file system.

use nix::sched::{CloneFlags, unshare};
use orlop_kernel::{
    Bind, KernelError, Overlay, Propagation, Unmounted, detach_below, make_private, mount_bind, mount_overlay,
    mount_tmpfs, mounts_below, unmount,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Runs `test` on a thread with a mount namespace of its own and a folder on disk:
/// /tmp may be a tmpfs, an overlay's upper layer must not be on an overlay.
fn in_world(test: impl FnOnce(&Path) + Send) {
    std::thread::scope(|scope| {
        let world = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            make_private(Path::new("/"), true).unwrap();
            let dir = tempfile::tempdir_in("/var/tmp").unwrap();
            test(&dir.path().canonicalize().unwrap());
            let report = detach_below(dir.path()).unwrap();
            assert!(report.errors.is_empty(), "{report:?}");
        });
        if let Err(panic) = world.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn folder(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn an_overlay_of_128_layers_shows_the_topmost_and_takes_writes() {
    in_world(|dir| {
        let mut overlay = Overlay::default();
        for number in 0..128 {
            // Long names, so that mount(2)'s one page of options could not hold them.
            let layer = folder(dir, &format!("layer-{number:03}-{}", "x".repeat(60)));
            fs::write(layer.join("top"), number.to_string()).unwrap();
            fs::write(layer.join(format!("only-{number}")), "").unwrap();
            overlay.lower.push(layer);
        }
        let upper = folder(dir, "upper");
        overlay.upper = Some((upper.clone(), folder(dir, "work")));
        let root = folder(dir, "root");
        mount_overlay(&overlay, &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("top")).unwrap(), "0");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 129);
        fs::write(root.join("new"), "n").unwrap();
        assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "n");
        assert_eq!(mounts_below(&root).unwrap()[0].fs_type, "overlay");
        assert_eq!(unmount(&root).unwrap(), Unmounted::Clean);
        assert_eq!(unmount(&root).unwrap(), Unmounted::NotMounted);
        assert_eq!(unmount(&dir.join("missing")).unwrap(), Unmounted::NotMounted);
    });
}

#[test]
fn an_overlay_without_an_upper_layer_is_read_only_and_paths_may_hold_separators() {
    in_world(|dir| {
        let overlay = Overlay { lower: vec![folder(dir, "a:b,c\\d e"), folder(dir, "f")], upper: None };
        fs::write(overlay.lower[0].join("x"), "").unwrap();
        let root = folder(dir, "the root");
        mount_overlay(&overlay, &root).unwrap();
        assert!(root.join("x").exists());
        assert_eq!(fs::write(root.join("y"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        assert_eq!(mounts_below(&root).unwrap()[0].target, root, "a space in the path");
    });
}

#[test]
fn a_failed_overlay_names_the_layer() {
    in_world(|dir| {
        let overlay = Overlay { lower: vec![folder(dir, "a"), dir.join("missing")], upper: None };
        let error = mount_overlay(&overlay, &folder(dir, "root")).unwrap_err();
        assert!(error.to_string().contains("overlay of 2 layers"), "{error}");
        assert!(error.to_string().contains("missing"), "{error}");
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(mounts_below(dir).unwrap().is_empty());
    });
}

#[test]
fn an_impossible_overlay_says_where_the_reason_is() {
    in_world(|dir| {
        let upper = folder(dir, "upper");
        let overlay = Overlay { lower: vec![folder(dir, "a")], upper: Some((upper.clone(), folder(&upper, "work"))) };
        let error = mount_overlay(&overlay, &folder(dir, "root")).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert!(error.to_string().contains("see dmesg"), "{error}");
    });
}

#[test]
fn a_read_only_bind_is_read_only_all_the_way_down() {
    in_world(|dir| {
        let (source, target) = (folder(dir, "source"), folder(dir, "target"));
        let inner = folder(&source, "inner");
        mount_tmpfs(&inner, Some(1 << 20), 0o755).unwrap();
        let bind = Bind { source: source.clone(), recursive: true, read_only: true, propagation: Propagation::Private };
        mount_bind(&bind, &target).unwrap();
        for path in [target.join("x"), target.join("inner/x")] {
            assert_eq!(fs::write(&path, "").unwrap_err().raw_os_error(), Some(libc::EROFS), "{}", path.display());
        }
        fs::write(inner.join("x"), "").unwrap();
        assert!(target.join("inner/x").exists());

        // A file on a file, not recursive, writable.
        let (from, to) = (dir.join("from"), dir.join("to"));
        fs::write(&from, "f").unwrap();
        fs::write(&to, "").unwrap();
        let file = Bind { source: from, recursive: false, read_only: false, propagation: Propagation::Private };
        mount_bind(&file, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "f");
        fs::write(&to, "g").unwrap();
    });
}

#[test]
fn propagation_is_what_was_asked_for() {
    in_world(|dir| {
        let shared = folder(dir, "shared");
        mount_tmpfs(&shared, None, 0o700).unwrap();
        let bind = |propagation| Bind { source: shared.clone(), recursive: true, read_only: false, propagation };
        mount_bind(&bind(Propagation::Shared), &folder(dir, "peer")).unwrap();
        mount_bind(&bind(Propagation::Private), &folder(dir, "private")).unwrap();
        let of = |name: &str| mounts_below(&dir.join(name)).unwrap()[0].propagation.join(" ");
        assert!(of("peer").starts_with("shared:"), "{}", of("peer"));
        assert_eq!(of("private"), "");
        // A slave of the peer hears of what is mounted there.
        let slave = Bind { source: dir.join("peer"), propagation: Propagation::Slave, ..bind(Propagation::Slave) };
        mount_bind(&slave, &folder(dir, "slave")).unwrap();
        assert!(of("slave").starts_with("master:"), "{}", of("slave"));
        mount_tmpfs(&folder(&dir.join("peer"), "late"), None, 0o755).unwrap();
        assert_eq!(mounts_below(&dir.join("slave")).unwrap().len(), 2);
        assert_eq!(mounts_below(&dir.join("private")).unwrap().len(), 1);
        make_private(&dir.join("peer"), false).unwrap();
        assert_eq!(of("peer"), "");
    });
}

#[test]
fn a_tmpfs_holds_no_more_than_its_size() {
    in_world(|dir| {
        let target = folder(dir, "small");
        mount_tmpfs(&target, Some(64 * 1024), 0o1777).unwrap();
        let error = fs::write(target.join("big"), vec![1u8; 128 * 1024]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    });
}

#[test]
fn everything_below_a_folder_is_detached_and_what_was_busy_is_reported() {
    in_world(|dir| {
        let outer = folder(dir, "outer");
        mount_tmpfs(&outer, None, 0o755).unwrap();
        mount_tmpfs(&folder(&outer, "inner"), None, 0o755).unwrap();
        mount_tmpfs(&folder(dir, "other"), None, 0o755).unwrap();
        let held = fs::File::create(outer.join("inner/held")).unwrap();
        let report = detach_below(dir).unwrap();
        assert_eq!(report.lazy, [outer.join("inner")]);
        assert_eq!(report.clean.len(), 2, "{report:?}");
        assert!(mounts_below(dir).unwrap().is_empty());
        drop(held);
    });
}

#[test]
fn a_missing_target_is_an_error_with_both_paths() {
    in_world(|dir| {
        let bind = Bind {
            source: folder(dir, "source"),
            recursive: false,
            read_only: false,
            propagation: Propagation::Private,
        };
        let error = mount_bind(&bind, &dir.join("missing")).unwrap_err();
        assert!(matches!(error, KernelError::Mount { .. }));
        assert!(error.to_string().contains("source") && error.to_string().contains("missing"), "{error}");
    });
}
