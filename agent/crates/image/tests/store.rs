//! The store with archives of every kind, good and damaged.

use orlop_image::build::{ImageBuilder, LayerBuilder, Packing, write_archive, write_docker_archive, write_layout};
use orlop_image::{Digest, ImageConfig, ImageError, ImageStore};
use orlop_model::ImageRef;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct World {
    dir: TempDir,
    store: ImageStore,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("images")).unwrap();
        Self { dir, store }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn layout(&self, name: &str, images: &[ImageBuilder]) -> PathBuf {
        let path = self.path(name);
        write_layout(&path, images).unwrap();
        path
    }
    fn has(&self, name: &str) -> bool {
        self.store.resolve(&image_ref(name)).unwrap().is_some()
    }
    /// Names of everything in a folder of the store.
    fn list(&self, folder: &str) -> Vec<String> {
        let items = fs::read_dir(self.store.dir().join(folder)).unwrap();
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }
    fn names(&self) -> Vec<String> {
        let records = self.store.list().unwrap();
        records.iter().flat_map(|record| record.names.iter().map(|name| name.familiar())).collect()
    }
}

fn image_ref(text: &str) -> ImageRef {
    ImageRef::new(text).unwrap()
}

fn image(names: &[&str], content: &str) -> ImageBuilder {
    let base = LayerBuilder::new().dir("etc", 0o755).file("etc/base", 0o644, "base");
    ImageBuilder {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        layers: vec![base, LayerBuilder::new().packing(Packing::Zstd).file("own", 0o644, content)],
        config: ImageConfig {
            entrypoint: vec!["/init".into()],
            cmd: vec!["-v".into()],
            env: vec!["A=1".into()],
            user: "1000:1000".into(),
            working_dir: "/srv".into(),
            exposed_ports: BTreeSet::from(["80/tcp".into()]),
            stop_signal: Some("SIGQUIT".into()),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            ..ImageConfig::default()
        },
        architecture: None,
    }
}

#[test]
fn every_form_gives_the_same_image() {
    let want = image(&["app:1"], "x");
    let mut ids = BTreeSet::new();
    type Write = fn(&Path, &[ImageBuilder]);
    let write: [(&str, Write); 5] = [
        ("layout", |path, images| write_layout(path, images).unwrap()),
        ("a.tar", |path, images| write_archive(path, images, Packing::Plain).unwrap()),
        ("a.tar.gz", |path, images| write_archive(path, images, Packing::Gzip).unwrap()),
        ("a.tar.zst", |path, images| write_archive(path, images, Packing::Zstd).unwrap()),
        ("docker.tar", |path, images| write_docker_archive(path, images).unwrap()),
    ];
    for (name, write) in write {
        let world = World::new();
        write(&world.path(name), std::slice::from_ref(&want));
        let loaded = world.store.load(&world.path(name), None).unwrap();
        assert_eq!(loaded.len(), 1, "{name}");
        let record = world.store.require(&image_ref("app:1")).unwrap();
        assert_eq!(record, loaded[0], "{name}");
        assert_eq!(record.config, want.config, "{name}");
        assert_eq!(record.layers.len(), 2, "{name}");
        assert!(record.created.is_some() && record.size > 0 && record.unpacked_size > 0, "{name}: {record:?}");
        let layers = world.store.layer_dirs(&record);
        assert_eq!(fs::read_to_string(layers[0].join("etc/base")).unwrap(), "base", "{name}");
        assert_eq!(fs::read_to_string(layers[1].join("own")).unwrap(), "x", "{name}");
        for other in ["docker.io/library/app:1", &record.id.to_string(), &record.id.hex()] {
            assert!(world.has(other), "{name}: {other}");
        }
        assert!(world.has(&format!("app@{}", record.digest)), "{name}");
        assert!(!world.has("app") && !world.has("app:2"), "{name}");
        assert!(world.list("tmp").is_empty(), "{name}");
        ids.insert(record.id);
    }
    assert_eq!(ids.len(), 1, "the writer is deterministic");
}

#[test]
fn names() {
    let check = |images: &[ImageBuilder], given: Option<&str>, want: Result<&[&str], &str>| {
        let world = World::new();
        let path = world.layout("Stem_1", images);
        match (world.store.load(&path, given), want) {
            (Ok(_), Ok(want)) => assert_eq!(world.names(), want, "given {given:?}"),
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            (got, want) => panic!("given {given:?}: got {got:?}, want {want:?}"),
        }
    };
    check(&[image(&["1.0"], "a")], None, Ok(&["stem_1:1.0"]));
    check(&[image(&[], "a")], None, Ok(&["stem_1:latest"]));
    check(&[image(&["reg.example/a/b:2"], "a")], None, Ok(&["reg.example/a/b:2"]));
    check(&[image(&["a:1", "a:2"], "a")], None, Ok(&["a:1", "a:2"]));
    check(&[image(&["a:1"], "a")], Some("other"), Ok(&["other:latest"]));
    check(&[image(&["a:1"], "a")], Some("other:5"), Ok(&["other:5"]));
    check(&[image(&["1"], "a"), image(&["2"], "b")], Some("app"), Ok(&["app:1", "app:2"]));
    check(&[image(&["1"], "a"), image(&["2"], "b")], Some("app:3"), Err("holds 2 images"));
    check(&[image(&["a:1"], "a"), image(&["b:1"], "b")], Some("app"), Err("holds 2 images"));
    check(&[image(&["a:1"], "a")], Some("UPPER"), Err("upper-case"));
}

#[test]
fn a_name_moves_and_the_nameless_are_pruned() {
    let world = World::new();
    let old = world.store.load(&world.layout("one", &[image(&["app:1", "app:old"], "1")]), None).unwrap().remove(0);
    let new = world.store.load(&world.layout("two", &[image(&["app:1"], "2")]), None).unwrap().remove(0);
    assert_eq!(world.store.require(&image_ref("app:1")).unwrap().id, new.id);
    assert_eq!(world.store.require(&image_ref("app:old")).unwrap().id, old.id);
    let last = world.store.load(&world.layout("three", &[image(&["app:old"], "3")]), None).unwrap().remove(0);
    assert!(world.store.prune(&BTreeSet::from([old.id])).unwrap().images.is_empty(), "in use");
    let pruned = world.store.prune(&BTreeSet::new()).unwrap();
    assert_eq!(pruned.images, [old.id]);
    assert_eq!(pruned.layers, [old.layers[1]], "the base layer is shared and stays");
    assert_eq!(world.store.layer_dirs(&last).iter().filter(|dir| dir.is_dir()).count(), 2);
}

#[test]
fn removing_takes_names_first_and_refuses_what_runs() {
    let world = World::new();
    let record = world.store.load(&world.layout("one", &[image(&["a:1", "b:1"], "1")]), None).unwrap().remove(0);
    let in_use = BTreeSet::from([record.id]);
    let nothing = world.store.remove(&image_ref("a:1"), &in_use).unwrap();
    assert!(nothing.images.is_empty() && !world.has("a:1") && world.has("b:1"));
    let error = world.store.remove(&image_ref("b:1"), &in_use).unwrap_err();
    assert!(matches!(error, ImageError::InUse { .. }) && world.has("b:1"));
    let removed = world.store.remove(&image_ref("b:1"), &BTreeSet::new()).unwrap();
    assert_eq!((removed.images, removed.layers.len()), (vec![record.id], 2));
    assert!(world.list("layers").is_empty() && world.list("records").is_empty());
    let error = world.store.remove(&image_ref("b:1"), &BTreeSet::new()).unwrap_err();
    assert!(error.to_string().contains("orlop load"), "{error}");
}

#[test]
fn this_platform_is_chosen() {
    let world = World::new();
    let foreign = ImageBuilder { architecture: Some("s390x".into()), ..image(&["far:1"], "far") };
    let path = world.layout("both", &[foreign.clone(), image(&["near:1"], "near")]);
    assert_eq!(world.store.load(&path, None).unwrap().len(), 1);
    assert!(world.has("near:1") && !world.has("far:1"));
    let error = world.store.load(&world.layout("far", std::slice::from_ref(&foreign)), None).unwrap_err().to_string();
    assert!(error.contains("only for linux/s390x"), "{error}");
    write_docker_archive(&world.path("far.tar"), &[foreign]).unwrap();
    let error = world.store.load(&world.path("far.tar"), None).unwrap_err().to_string();
    assert!(error.contains("the image is for linux/s390x"), "{error}");
}

/// An index in index.json, as `docker buildx` and `skopeo --all` write it.
#[test]
fn a_nested_index_leads_to_this_platform() {
    let world = World::new();
    let foreign = ImageBuilder { architecture: Some("s390x".into()), ..image(&["far:1"], "far") };
    let path = world.layout("multi", &[foreign, image(&["near:1"], "near")]);
    let inner = fs::read(path.join("index.json")).unwrap();
    let digest = Digest::of(&inner);
    fs::write(path.join("blobs/sha256").join(digest.hex()), &inner).unwrap();
    let outer = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}",
        "size":{},"annotations":{{"io.containerd.image.name":"reg.example/multi:7"}}}}]}}"#,
        inner.len()
    );
    fs::write(path.join("index.json"), outer).unwrap();
    let record = world.store.load(&path, None).unwrap().remove(0);
    assert!(world.has("reg.example/multi:7"));
    assert!(world.has(&format!("reg.example/multi@{digest}")), "the index's digest is what people pin");
    assert_ne!(record.digest, digest);
}

/// What is wrong is said, and nothing of it stays.
#[test]
fn damaged_archives() {
    fn blob(path: &Path, of: &str) -> PathBuf {
        let text = fs::read_to_string(path.join("index.json")).unwrap();
        let digest = text.split("sha256:").nth(1).unwrap()[..64].to_owned();
        let manifest = path.join("blobs/sha256").join(&digest);
        if of == "manifest" {
            return manifest;
        }
        let text = fs::read_to_string(manifest).unwrap();
        let (at, hexes) = (if of == "config" { 0 } else { 2 }, text.split("sha256:").skip(1));
        path.join("blobs/sha256").join(hexes.map(|hex| &hex[..64]).collect::<Vec<_>>()[at])
    }
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        fs::write(path, bytes).unwrap();
    };
    let cut = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let append = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"tail");
        fs::write(path, bytes).unwrap();
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Damage<'_>, &str); 9] = [
        ("no index", &|p| fs::remove_file(p.join("index.json")).unwrap(), "neither index.json nor manifest.json"),
        ("bad index", &|p| fs::write(p.join("index.json"), "{").unwrap(), "index.json does not parse"),
        ("empty index", &|p| fs::write(p.join("index.json"), "{}").unwrap(), "holds no image"),
        ("manifest", &|p| flip(blob(p, "manifest")), "blob should be sha256:"),
        ("config", &|p| flip(blob(p, "config")), "configuration should be sha256:"),
        ("missing layer", &|p| fs::remove_file(blob(p, "layer")).unwrap(), "is missing"),
        ("flipped layer", &|p| flip(blob(p, "layer")), "layer"),
        ("cut layer", &|p| cut(blob(p, "layer")), "layer"),
        ("longer layer", &|p| append(blob(p, "layer")), "layer"),
    ];
    for (what, damage, want) in cases {
        let world = World::new();
        let path = world.layout("bad", &[image(&["app:1"], &"random text ".repeat(999))]);
        damage(&path);
        let error = world.store.load(&path, None).unwrap_err();
        assert!(error.to_string().contains(want), "{what}: {error}");
        for folder in ["layers", "records", "tmp"] {
            assert!(world.list(folder).is_empty(), "{what}: {folder} holds {:?}", world.list(folder));
        }
    }
    let world = World::new();
    fs::write(world.path("text.tar"), "this is no archive, just a text that is long enough ".repeat(40)).unwrap();
    let error = world.store.load(&world.path("text.tar"), None).unwrap_err().to_string();
    assert!(error.contains("is no image"), "{error}");
    let error = world.store.load(&world.path("nothing"), None).unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
}

#[test]
fn the_folder_is_read_once() {
    let world = World::new();
    let folder = world.path("folder");
    assert_eq!(world.store.import_folder(&folder).unwrap().loaded.len(), 0, "a missing folder is empty");
    write_layout(&folder.join("one"), &[image(&["one:1"], "1")]).unwrap();
    write_archive(&folder.join("two.tar"), &[image(&["two:1"], "2")], Packing::Plain).unwrap();
    fs::write(folder.join("bad.tar"), "bad").unwrap();
    fs::write(folder.join("README"), "no image").unwrap();
    let check = |loaded: usize, skipped: usize| {
        let result = world.store.import_folder(&folder).unwrap();
        let failed: Vec<_> = result.failed.iter().map(|(path, _)| path.file_name().unwrap()).collect();
        assert_eq!((result.loaded.len(), result.skipped, failed), (loaded, skipped, vec!["bad.tar".as_ref()]));
    };
    check(2, 0);
    check(0, 2);
    // Another content under the same name.
    write_archive(&folder.join("two.tar"), &[image(&["two:2"], "22")], Packing::Plain).unwrap();
    check(1, 1);
    assert!(world.has("one:1") && world.has("two:1") && world.has("two:2"));
    // What was removed comes back: the folder says it is wanted.
    world.store.remove(&image_ref("one:1"), &BTreeSet::new()).unwrap();
    check(1, 1);
}

#[test]
fn opening_sweeps_what_a_crash_left() {
    let world = World::new();
    let record = world.store.load(&world.layout("one", &[image(&["a:1"], "1")]), None).unwrap().remove(0);
    let orphan = Digest::of(b"orphan").hex();
    fs::create_dir(world.store.dir().join("layers").join(&orphan)).unwrap();
    fs::create_dir(world.store.dir().join("tmp/layer-half")).unwrap();
    let again = ImageStore::open(world.store.dir()).unwrap();
    assert!(world.list("tmp").is_empty());
    assert!(!world.list("layers").contains(&orphan));
    assert_eq!(again.list().unwrap(), std::slice::from_ref(&record));
    assert!(again.layer_dirs(&record).iter().all(|dir| dir.is_dir()));
}

#[test]
fn a_missing_image_says_what_to_do() {
    let world = World::new();
    let error = world.store.require(&image_ref("nginx:1.27")).unwrap_err();
    assert!(matches!(&error, ImageError::NotPresent { image } if image == "nginx:1.27"));
    assert!(error.to_string().contains("orlop load"), "{error}");
    assert!(matches!(world.store.resolve(&image_ref("Nginx")).unwrap_err(), ImageError::Reference { .. }));
}

#[test]
fn loads_at_the_same_time_share_layers() {
    let world = World::new();
    let paths: Vec<_> = (0..6)
        .map(|n| world.layout(&format!("l{n}"), &[image(&[&format!("app:{n}")], &format!("{}", n / 2))]))
        .collect();
    std::thread::scope(|scope| {
        for path in &paths {
            let store = ImageStore::open(world.store.dir()).unwrap();
            scope.spawn(move || store.load(path, None).unwrap());
        }
    });
    assert_eq!(world.names().len(), 6);
    let records = world.store.list().unwrap();
    assert_eq!(records.len(), 3, "equal images are one image with two names");
    assert!(records.iter().all(|record| world.store.layer_dirs(record).iter().all(|dir| dir.is_dir())));
    assert_eq!(world.list("layers").iter().filter(|name| !name.ends_with(".size")).count(), 4);
}

/// What GNU tar writes of a real tree, in both of its formats, comes back the same.
#[test]
fn a_layer_made_by_gnu_tar() {
    let script = r#"set -e
        deep=tree/$(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 150))
        mkdir -p "$deep" "tree/sp ace/ü"
        echo long > "$deep/$(printf 'f%.0s' $(seq 200))"; echo u > "tree/sp ace/ü/file"
        ln -s $(printf 'x/%.0s' $(seq 90))end tree/longlink; ln "tree/sp ace/ü/file" tree/hard
        mkfifo tree/pipe; mknod tree/zero c 1 5; chown 70000:3000000 tree/hard; chmod 2711 "tree/sp ace"
        touch -d '1969-12-31 12:00:00.5 UTC' tree/hard
        tar --format="$1" -C tree -cf layer.tar ."#;
    let listing = "find . -printf '%p %y %m %U %G %n %l %s\n' | grep -v '^. d' | grep -v ' d ' | sort; \
                   find . -type d -printf '%p %y %m %U %G\n' | sort; find . -type f -exec sha256sum {} + | sort";
    let sh = |dir: &Path, script: &str, arg: &str| {
        let output =
            std::process::Command::new("sh").current_dir(dir).args(["-c", script, "sh", arg]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for format in ["gnu", "pax"] {
        let world = World::new();
        sh(world.dir.path(), script, format);
        let layer = fs::read(world.path("layer.tar")).unwrap();
        let config = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, Digest::of(&layer));
        fs::write(world.path("c.json"), config).unwrap();
        let manifest = r#"[{"Config":"c.json","RepoTags":["t:1"],"Layers":["layer.tar"]}]"#;
        fs::write(world.path("manifest.json"), manifest).unwrap();
        sh(world.dir.path(), "tar -czf image.tar.gz manifest.json c.json layer.tar", "");
        let record = world.store.load(&world.path("image.tar.gz"), None).unwrap().remove(0);
        let got = sh(&world.store.layer_dirs(&record)[0], listing, "");
        let want = sh(&world.path("tree"), listing, "");
        assert!(want.lines().count() > 8, "{want}");
        assert_eq!(got, want, "{format}");
    }
}
