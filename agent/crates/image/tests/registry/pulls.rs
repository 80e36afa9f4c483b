//! Honest registries: every form of image and of reference.

use crate::content::{Content, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, image};
use crate::server::Server;
use crate::world::{World, image_ref};
use orlop_image::{LayerPhase, Pulled, Reference};
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_tag_comes_with_all_its_layers() {
    let content = Content::of("team/app", "1", &image("hello"));
    let server = Server::plain(content.clone()).await;
    let world = World::new();
    let name = format!("{}/team/app:1", server.host());
    let pulled = world.pull(&name).await.unwrap();
    let record = &pulled.record;
    assert_eq!(record.names, BTreeSet::from([Reference::parse(&name).unwrap()]));
    assert_eq!(record.layers.len(), 3);
    assert_eq!(world.own(record), "hello");
    let packed: usize = content.blobs.values().map(Vec::len).sum();
    assert_eq!(record.size, packed as u64);
    assert!(pulled.with_waiting >= pulled.took);
    assert_eq!(world.store.require(&image_ref(&name)).unwrap(), *record);
    let manifest = format!("{}/team/app@{}", server.host(), record.digest);
    assert!(world.store.resolve(&image_ref(&manifest)).unwrap().is_some());

    // The second time only the two documents are asked for.
    let before = server.requests().len();
    assert_eq!(world.pull(&name).await.unwrap().record, *record);
    assert_eq!(server.requests().len() - before, 2, "{:?}", server.requests());
}

#[tokio::test]
async fn a_loaded_image_and_a_pulled_one_are_the_same() {
    let server = Server::plain(Content::of("app", "1", &image("x"))).await;
    let (pulling, loading) = (World::new(), World::new());
    let pulled = pulling.pull(&format!("{}/app:1", server.host())).await.unwrap().record;
    let layout = loading.path("layout");
    orlop_image::build::write_layout(&layout, &[image("x")]).unwrap();
    let loaded = loading.store.load(&layout, Some("app:1")).unwrap().remove(0);
    assert_eq!((pulled.id, pulled.digest, &pulled.layers), (loaded.id, loaded.digest, &loaded.layers));
    assert_eq!((pulled.size, pulled.unpacked_size), (loaded.size, loaded.unpacked_size));
    assert_eq!((pulled.created, pulled.config), (loaded.created, loaded.config));
}

#[tokio::test]
async fn a_digest_decides_over_the_tag() {
    let mut content = Content::of("app", "1", &image("first"));
    let first = orlop_image::Digest::of(&content.manifests["app/manifests/1"].1);
    content.push("app", "1", &image("second"));
    let server = Server::plain(content).await;
    let world = World::new();
    let host = server.host();
    assert_eq!(world.own(&world.pull(&format!("{host}/app:1")).await.unwrap().record), "second");
    let pinned = world.pull(&format!("{host}/app:1@{first}")).await.unwrap().record;
    assert_eq!(world.own(&pinned), "first");
    let names: Vec<String> = pinned.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, [format!("{host}/app@{first}")]);
    // The tag is still the other image's.
    let tagged = world.store.require(&image_ref(&format!("{host}/app:1"))).unwrap();
    assert_ne!(tagged.id, pinned.id);
}

#[tokio::test]
async fn a_tag_that_moved_takes_its_name_along() {
    let mut old = Content::of("app", "1", &image("old"));
    let server = Server::plain(old.clone()).await;
    let world = World::new();
    world.hosts("r.example", &format!("server = \"http://{}\"", server.host()));
    let before = world.pull("r.example/app:1").await.unwrap().record;
    old.push("app", "1", &image("new"));
    let server = Server::plain(old).await;
    world.hosts("r.example", &format!("server = \"http://{}\"", server.host()));
    let after = world.pull("r.example/app:1").await.unwrap().record;
    assert_eq!(world.own(&after), "new");
    let all = world.store.list().unwrap();
    let nameless: Vec<_> = all.iter().filter(|record| record.names.is_empty()).map(|record| record.id).collect();
    assert_eq!(nameless, [before.id]);
    assert_eq!(server.asked("/blobs/"), 2, "configuration and the one new layer: {:?}", server.requests());
}

#[tokio::test]
async fn indexes_of_both_families_lead_to_this_machines_image() {
    for kind in [OCI_INDEX, DOCKER_LIST] {
        let mut content = Content::default();
        let ours = content.push("app", "ours", &image("ours"));
        let mut other = content.push("app", "other", &image("other"));
        other["platform"] = json!({"os": "linux", "architecture": "s390x"});
        let inner = content.index("app", "inner", kind, &[other.clone(), ours]);
        let nested = json!({"mediaType": kind, "digest": inner.to_string(),
            "size": content.manifests["app/manifests/inner"].1.len()});
        let outer = content.index("app", "1", kind, &[other.clone(), nested]);
        content.index("app", "foreign", kind, &[other]);
        let server = Server::plain(content).await;
        let world = World::new();
        let words = world.failure(&format!("{}/app:foreign", server.host())).await;
        assert!(words.contains("only for linux/s390x"), "{words}");
        let Pulled { record, resolved, .. } = world.pull(&format!("{}/app:1", server.host())).await.unwrap();
        assert_eq!(world.own(&record), "ours");
        assert_eq!(resolved, outer);
        assert_eq!(record.other_digests, BTreeSet::from([inner, outer]));
        let by_index = world.pull(&format!("{}/app@{outer}", server.host())).await.unwrap().record;
        assert_eq!(by_index.id, record.id);
    }
}

#[tokio::test]
async fn dockers_schema_2_is_the_same_image() {
    let mut content = Content::of("app", "oci", &image("x"));
    let mut manifest = content.manifest("app", "oci");
    manifest["mediaType"] = json!(DOCKER_MANIFEST);
    manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    }
    content.document("app", "docker", DOCKER_MANIFEST, manifest.to_string().into_bytes());
    let server = Server::plain(content).await;
    let world = World::new();
    let docker = world.pull(&format!("{}/app:docker", server.host())).await.unwrap().record;
    let oci = world.pull(&format!("{}/app:oci", server.host())).await.unwrap().record;
    assert_eq!(docker.id, oci.id);
    let names: Vec<_> = oci.names.iter().filter_map(Reference::tag).collect();
    assert_eq!(names, ["docker", "oci"]);
    assert!(oci.has_digest(docker.digest));
}

#[tokio::test]
async fn progress_ends_with_every_byte_and_says_what_was_here() {
    let content = Content::of("app", "1", &image("x"));
    let server = Server::plain(content).await;
    let world = World::new();
    let image = image_ref(&format!("{}/app:1", server.host()));
    for phase in [LayerPhase::Done, LayerPhase::Exists] {
        let pull = world.puller.start(&image, &Default::default()).await.unwrap();
        let progress = pull.progress();
        pull.done().await.unwrap();
        let last = progress.borrow().clone();
        assert_eq!(last.layers.len(), 3);
        assert!(last.layers.iter().all(|layer| layer.phase == phase), "{last:?}");
        let (done, total) = last.bytes();
        assert!(done == total && total > 0, "{last:?}");
    }
}
