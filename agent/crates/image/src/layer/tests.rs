//! Layers against a real file system, hostile ones first of all.

use super::*;
use crate::build::LayerBuilder;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

/// Kind, name, link target, content.
type RawEntry<'a> = (tar::EntryType, &'a str, &'a str, &'a str);

/// A tar with names as they are; the tar crate's own writer refuses bad ones.
fn raw_tar(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpacked(tar: &[u8]) -> (tempfile::TempDir, Result<(), UnpackError>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let result = unpack(tar, &root);
    (dir, result)
}

fn layer(builder: &LayerBuilder) -> (tempfile::TempDir, PathBuf) {
    let (dir, result) = unpacked(&builder.tar().unwrap());
    result.unwrap();
    let root = dir.path().join("root");
    (dir, root)
}

#[test]
fn attributes_survive() {
    let (_dir, root) = layer(
        &LayerBuilder::new()
            .dir("d", 0o1777)
            .owned_by(7, 8)
            .file("d/suid", 0o4755, "x")
            .owned_by(1000, 1001)
            .xattr("user.colour", b"blue")
            .xattr("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .symlink("d/link", "/etc/passwd")
            .owned_by(5, 6)
            .hard_link("again", "d/suid")
            .file("deep/without/folders", 0o600, "y"),
    );
    let folder = fs::metadata(root.join("d")).unwrap();
    assert_eq!((folder.mode(), folder.uid(), folder.gid(), folder.mtime()), (0o41777, 7, 8, 0));
    let file = fs::metadata(root.join("d/suid")).unwrap();
    assert_eq!((file.mode(), file.uid(), file.gid(), file.mtime()), (0o104_755, 1000, 1001, 0));
    assert_eq!(xattr::get(root.join("d/suid"), "user.colour").unwrap().unwrap(), b"blue");
    assert_eq!(xattr::get(root.join("d/suid"), "security.capability").unwrap().unwrap().len(), 20);
    let link = fs::symlink_metadata(root.join("d/link")).unwrap();
    assert_eq!((link.uid(), link.gid(), link.mtime()), (5, 6, 0));
    assert_eq!(fs::read_link(root.join("d/link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(root.join("again")).unwrap().ino(), file.ino());
    assert_eq!(fs::metadata(root.join("deep/without")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn whiteouts_hide_only_what_is_below_in_any_order() {
    let (_dir, root) = layer(
        &LayerBuilder::new()
            .whiteout("gone")
            .whiteout("sub/gone")
            .whiteout("then-file")
            .file("then-file", 0o644, "mine")
            .whiteout("then-dir")
            .dir("then-dir", 0o755)
            .file("first-file", 0o644, "mine")
            .whiteout("first-file")
            .dir("first-dir", 0o755)
            .file("first-dir/kept", 0o644, "mine")
            .whiteout("first-dir")
            .dir("opaque", 0o755)
            .opaque("opaque")
            .file("opaque/new", 0o644, "mine"),
    );
    let opaque = |name: &str| xattr::get(root.join(name), XATTR_OPAQUE).unwrap().as_deref() == Some(b"y".as_slice());
    for name in ["gone", "sub/gone"] {
        let meta = fs::symlink_metadata(root.join(name)).unwrap();
        assert!(meta.file_type().is_char_device() && meta.rdev() == 0, "{name}");
    }
    for name in ["then-file", "first-file", "first-dir/kept", "opaque/new"] {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "mine", "{name}");
    }
    for name in ["then-dir", "first-dir", "opaque"] {
        assert!(opaque(name), "{name} is opaque");
    }
    assert!(!opaque("sub"));
    let left: Vec<_> = fs::read_dir(&root).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.as_bytes().starts_with(WHITEOUT_PREFIX)), "{left:?}");
}

#[test]
fn later_entries_replace_earlier_ones() {
    use tar::EntryType as T;
    let (dir, result) = unpacked(&raw_tar(&[
        (T::Directory, "a", "", ""),
        (T::Regular, "a/x", "", "1"),
        (T::Regular, "a", "", "file now"),
        (T::Symlink, "b", "nowhere", ""),
        (T::Directory, "b", "", ""),
        (T::Regular, "b/x", "", "2"),
        (T::Symlink, "c", "b/x", ""),
        (T::Regular, "c", "", "not through the link"),
        (T::Regular, "/abs", "", "below the root"),
        (T::Fifo, "pipe", "", ""),
    ]));
    result.unwrap();
    let text = |name: &str| fs::read_to_string(dir.path().join("root").join(name)).unwrap();
    assert_eq!(text("a"), "file now");
    assert_eq!(text("b/x"), "2");
    assert_eq!(text("c"), "not through the link");
    assert_eq!(text("abs"), "below the root");
    assert!(fs::symlink_metadata(dir.path().join("root/pipe")).unwrap().file_type().is_fifo());
}

/// Whatever the layer tries, nothing outside its root is made, changed or linked.
#[test]
fn hostile_layers_stay_inside() {
    use tar::EntryType as T;
    let cases: &[(&str, &[RawEntry<'_>], Option<&str>)] = &[
        ("dot-dot", &[(T::Regular, "../evil", "", "x")], Some("'..'")),
        ("dot-dot inside", &[(T::Regular, "a/../../evil", "", "x")], Some("'..'")),
        ("link up", &[(T::Symlink, "l", "..", ""), (T::Regular, "l/evil", "", "x")], None),
        ("link far up", &[(T::Symlink, "l", "../../../../..", ""), (T::Regular, "l/evil", "", "x")], None),
        ("absolute link", &[(T::Symlink, "l", "/outside", ""), (T::Regular, "l/evil", "", "x")], Some("nowhere")),
        ("write through", &[(T::Symlink, "l", "../outside/prey", ""), (T::Regular, "l", "", "x")], None),
        (
            "folder over link",
            &[(T::Symlink, "l", "../outside", ""), (T::Directory, "l", "", ""), (T::Regular, "l/evil", "", "x")],
            None,
        ),
        ("hard link up", &[(T::Link, "h", "../outside/prey", "")], Some("'..'")),
        (
            "hard link through",
            &[(T::Symlink, "l", "../outside", ""), (T::Link, "h", "l/prey", "")],
            Some("does not hold"),
        ),
        ("whiteout of dot-dot", &[(T::Regular, "a/.wh...", "", "")], Some("no name")),
        (
            "whiteout through",
            &[(T::Symlink, "l", "../outside", ""), (T::Regular, "l/.wh.prey", "", "")],
            Some("nowhere"),
        ),
        ("below a file", &[(T::Regular, "f", "", "x"), (T::Regular, "f/evil", "", "x")], Some("no folder")),
        ("loop", &[(T::Symlink, "l", "l", ""), (T::Regular, "l/evil", "", "x")], Some("no folder")),
        ("proc", &[(T::Symlink, "l", "/proc/self/root", ""), (T::Regular, "l/evil", "", "x")], Some("nowhere")),
        ("odd kind", &[(T::new(b'Z'), "z", "", "")], Some("kind")),
    ];
    for (what, entries, want) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("prey"), "alive").unwrap();
        let got = unpack(raw_tar(entries).as_slice(), &root);
        match (got, want) {
            (Ok(()), None) => {}
            (Err(UnpackError { cause: Cause::Hostile(problem), .. }), Some(want)) => {
                assert!(problem.contains(want), "{what}: {problem:?} should say {want:?}");
            }
            (got, want) => panic!("{what}: got {got:?}, want {want:?}"),
        }
        let list = |path: &Path| -> Vec<_> { fs::read_dir(path).unwrap().map(|i| i.unwrap().file_name()).collect() };
        assert_eq!(list(&outside), ["prey"], "{what}");
        assert_eq!(fs::read_to_string(outside.join("prey")).unwrap(), "alive", "{what}");
        assert_eq!(fs::metadata(outside.join("prey")).unwrap().nlink(), 1, "{what}");
        assert_eq!(list(dir.path()).len(), 2, "{what}");
    }
}

#[test]
fn overlay_attributes_of_a_stranger_are_refused() {
    let tar = LayerBuilder::new().file("f", 0o644, "").xattr("trusted.overlay.redirect", b"/secret").tar().unwrap();
    let (_dir, result) = unpacked(&tar);
    assert!(matches!(result.unwrap_err().cause, Cause::Hostile(problem) if problem.contains("overlayfs")));
}

#[test]
fn a_cut_off_layer_names_its_entry() {
    let tar = LayerBuilder::new().file("big", 0o644, vec![1; 10_000]).tar().unwrap();
    let (_dir, result) = unpacked(&tar[..4096]);
    let error = result.unwrap_err();
    assert_eq!(error.entry, "big");
    assert!(matches!(error.cause, Cause::Io(_)), "{:?}", error.cause);
}

#[test]
fn pax_times() {
    for (text, want) in [
        ("5", Some((5, 0))),
        ("5.25", Some((5, 250_000_000))),
        ("1.1234567891", Some((1, 123_456_789))),
        ("-1.5", Some((-2, 500_000_000))),
        ("x", None),
    ] {
        assert_eq!(pax_time(text), want.map(|(s, n)| TimeSpec::new(s, n)), "{text}");
    }
}
