//! Several pulls at once, limits, and pulls that nobody waits for any more.

use crate::content::{Content, image};
use crate::server::{After, Reply, Server};
use crate::world::{World, image_ref};
use orlop_image::{ImageStore, Keyring, LayerPhase};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test]
async fn equal_pulls_are_one() {
    let server = Server::plain(Content::of("app", "1", &image("x"))).await;
    let world = World::new();
    let name = format!("{}/app:1", server.host());
    let pulls = futures_util::future::join_all((0..8).map(|_| world.pull(&name))).await;
    let ids: Vec<_> = pulls.into_iter().map(|pulled| pulled.unwrap().record.id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(server.requests().len(), 1 + 1 + 3, "{:?}", server.requests());
}

#[tokio::test]
async fn a_pull_may_run_on_any_thread() {
    let server = Server::plain(Content::of("app", "1", &image("x"))).await;
    let world = World::new();
    let (puller, name) = (world.puller.clone(), image_ref(&format!("{}/app:1", server.host())));
    tokio::spawn(async move { puller.pull(&name, &Keyring::new()).await }).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_layer_of_two_images_comes_once() {
    let mut content = Content::of("app", "1", &image("one"));
    content.push("app", "2", &image("two"));
    let shared = content.layers("app", "1")[0].clone();
    let server = Server::plain(content).await;
    let world = World::new();
    let names = [1, 2].map(|tag| format!("{}/app:{tag}", server.host()));
    let (one, two) = tokio::join!(world.pull(&names[0]), world.pull(&names[1]));
    assert_eq!((world.own(&one.unwrap().record), world.own(&two.unwrap().record)), ("one".into(), "two".into()));
    assert_eq!(server.asked(&shared), 1);
}

#[tokio::test]
async fn images_wait_for_their_turn() {
    let mut content = Content::default();
    for number in 0..4 {
        content.push("app", &number.to_string(), &image(&format!("own {number}")));
    }
    // Configurations are asked for once an image; the layers of an image come after.
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = Server::plain(content).await;
    let world = World::with(|options| options.parallel_images = Some(NonZeroUsize::MIN));
    let pulls = (0..4).map(|number| {
        let (name, now, most) = (format!("{}/app:{number}", server.host()), Arc::clone(&now), Arc::clone(&most));
        let world = &world;
        async move {
            let pull = world.puller.start(&image_ref(&name), &Keyring::new()).await.unwrap();
            let mut progress = pull.progress();
            let watch = async {
                // The first layer list says that the pull has its turn.
                if progress.changed().await.is_ok() {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                }
                while progress.changed().await.is_ok() {}
            };
            let done = async {
                let pulled = pull.done().await.unwrap();
                now.fetch_sub(1, Ordering::SeqCst);
                pulled
            };
            tokio::join!(watch, done).1
        }
    });
    let all = futures_util::future::join_all(pulls).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert!(all.iter().any(|pulled| pulled.with_waiting > pulled.took));
}

/// A server whose last layer never comes to its end.
async fn stalling() -> (Server, String) {
    let content = Content::of("app", "1", &image("x"));
    let layer = content.layers("app", "1")[1].clone();
    let bytes = content.blobs[&layer].clone();
    let server = Server::start(content, move |request| {
        request.path().contains(&layer).then(|| Reply::new(200, bytes.clone()).cut(bytes.len() / 2, After::Stall))
    })
    .await;
    let name = format!("{}/app:1", server.host());
    (server, name)
}

#[tokio::test]
async fn a_pull_that_is_dropped_leaves_nothing() {
    let (_server, name) = stalling().await;
    let world = World::new();
    let pull = world.puller.start(&image_ref(&name), &Keyring::new()).await.unwrap();
    let mut progress = pull.progress();
    let ready = progress.wait_for(|progress| {
        let phases: Vec<_> = progress.layers.iter().map(|layer| layer.phase).collect();
        phases == [LayerPhase::Done, LayerPhase::Downloading, LayerPhase::Done] && progress.layers[1].done_bytes > 0
    });
    tokio::select! {
        _ = pull.done() => panic!("the server stalls"),
        ready = ready => drop(ready.unwrap()),
    }
    world.is_empty().await;
}

#[tokio::test]
async fn one_who_goes_does_not_take_the_pull_from_the_others() {
    let server = Server::plain(Content::of("app", "1", &image("x"))).await;
    let world = World::new();
    let name = image_ref(&format!("{}/app:1", server.host()));
    let first = world.puller.start(&name, &Keyring::new()).await.unwrap();
    let second = world.puller.start(&name, &Keyring::new()).await.unwrap();
    let mut progress = first.progress();
    tokio::select! {
        biased;
        changed = progress.changed() => changed.unwrap(),
        done = first.done() => drop(done.unwrap()),
    }
    second.done().await.unwrap();
    assert_eq!(server.asked("/manifests/"), 1);
}

#[tokio::test]
async fn opening_the_store_again_leaves_a_running_pull_alone_and_sweeps_a_dead_one() {
    let (_server, name) = stalling().await;
    let world = World::with(|options| options.stall_timeout = Duration::from_secs(60));
    let leftover = world.store.dir().join("tmp/layer-dead");
    std::fs::create_dir(&leftover).unwrap();
    let pull = world.puller.start(&image_ref(&name), &Keyring::new()).await.unwrap();
    let mut progress = pull.progress();
    let unpacked = || std::fs::read_dir(world.store.dir().join("tmp")).unwrap().count();
    let ready = progress
        .wait_for(|progress| progress.layers.iter().filter(|layer| layer.phase == LayerPhase::Done).count() == 2);
    let done = pull.done();
    let mut done = std::pin::pin!(done);
    tokio::select! {
        _ = &mut done => panic!("the server stalls"),
        ready = ready => drop(ready.unwrap()),
    }
    ImageStore::open(world.store.dir()).unwrap();
    assert_eq!(unpacked(), 3, "two layers of the pull, and what may be another's");
}

#[tokio::test]
async fn opening_the_store_sweeps_what_a_dead_pull_left() {
    let world = World::new();
    std::fs::create_dir(world.store.dir().join("tmp/layer-dead")).unwrap();
    ImageStore::open(world.store.dir()).unwrap();
    world.is_empty().await;
}

#[tokio::test]
async fn removing_an_image_while_another_with_its_layers_is_pulled() {
    let mut content = Content::of("app", "1", &image("one"));
    content.push("app", "2", &image("two"));
    let server = Server::plain(content).await;
    let world = World::new();
    let names = [1, 2].map(|tag| format!("{}/app:{tag}", server.host()));
    for _ in 0..10 {
        world.pull(&names[0]).await.unwrap();
        let remove = async {
            tokio::task::yield_now().await;
            let (store, image) = (world.store.clone(), image_ref(&names[0]));
            tokio::task::spawn_blocking(move || store.remove(&image, &Default::default())).await.unwrap().unwrap();
        };
        let (pulled, ()) = tokio::join!(world.pull(&names[1]), remove);
        let record = pulled.unwrap().record;
        assert_eq!(world.own(&record), "two");
        assert!(world.store.layer_dirs(&record).iter().all(|dir| dir.is_dir()));
        world.store.remove(&image_ref(&names[1]), &Default::default()).unwrap();
    }
}
