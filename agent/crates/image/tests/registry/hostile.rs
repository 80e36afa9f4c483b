//! Registries that lie, break off, stall or lead astray.

use crate::content::{Content, image};
use crate::server::{After, Reply, Server};
use crate::world::{World, keyring};
use orlop_image::build::{ImageBuilder, LayerBuilder};
use serde_json::json;
use std::time::Duration;

/// The words of a failed pull of `app:1` from a server that answers the target with
/// `part` by `reply`, which gets what an honest one would say.
async fn told(part: &str, reply: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> String {
    told_within(Duration::from_secs(30), part, reply).await
}

/// The same with the longest silence.
async fn told_within(stall: Duration, part: &str, reply: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> String {
    let content = Content::of("app", "1", &image("x"));
    let part = match part {
        "LAYER" => content.layers("app", "1")[1].clone(),
        "CONFIG" => content.manifest("app", "1")["config"]["digest"].as_str().unwrap().to_owned(),
        other => other.to_owned(),
    };
    let honest = content.clone();
    let server = Server::start(content, move |request| {
        let path = request.path().strip_prefix("/v2/")?;
        if !path.contains(&part) {
            return None;
        }
        let manifest = honest.manifests.get(path).map(|(_, bytes)| bytes.clone());
        let body = manifest.or_else(|| honest.blobs.get(path.rsplit('/').next()?).cloned())?;
        Some(reply(Reply::new(200, body)))
    })
    .await;
    let world = World::with(|options| options.stall_timeout = stall);
    let words = world.failure(&format!("{}/app:1", server.host())).await;
    assert!(words.contains(&server.host()), "{words} should name {}", server.host());
    words
}

#[track_caller]
fn says(words: &str, want: &str) {
    assert!(words.contains(want), "{words:?} should say {want:?}");
}

fn changed(mut reply: Reply) -> Reply {
    let middle = reply.body.len() / 2;
    reply.body[middle] ^= 1;
    reply
}

#[tokio::test]
async fn wrong_content_leaves_nothing() {
    says(&told("LAYER", changed).await, "nothing of it is kept");
    says(&told("CONFIG", changed).await, "configuration of");
}

#[tokio::test]
async fn wrong_sizes_are_told() {
    let longer = |mut reply: Reply| {
        reply.body.push(0);
        reply
    };
    // Without a length nothing is known before it came.
    let chunked = |reply: Reply| {
        let mut body = Vec::new();
        for part in reply.body.chunks(1000).chain([&b"more"[..]]) {
            body.extend(format!("{:x}\r\n", part.len()).into_bytes());
            body.extend(part);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        Reply::new(200, body).header("transfer-encoding", "chunked")
    };
    let shorter = |reply: Reply| Reply::new(200, &reply.body[1..]);
    says(&told("LAYER", longer).await, "size of layer");
    says(&told("LAYER", shorter).await, "size of layer");
    says(&told("LAYER", chunked).await, "size of layer");
    says(&told("CONFIG", longer).await, "configuration of");
}

#[tokio::test]
async fn a_connection_that_breaks_or_stalls_is_given_up() {
    says(&told("LAYER", |reply| reply.cut(50, After::Close)).await, "broke off");
    for (part, sent, after) in [
        ("LAYER", 50, After::Stall),
        ("LAYER", 10, After::Trickle),
        ("manifests", 0, After::Stall),
        ("CONFIG", 10, After::Trickle),
    ] {
        let words = told_within(Duration::from_millis(400), part, move |reply| reply.cut(sent, after)).await;
        says(&words, "sent nothing for");
    }
}

#[tokio::test]
async fn documents_without_end_are_refused() {
    let endless = |_| Reply::new(200, vec![b' '; 9 << 20]);
    says(&told("manifests", endless).await, "larger than");
}

#[tokio::test]
async fn what_the_registry_says_is_passed_on() {
    let quota =
        |_| Reply::error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit").header("retry-after", "90");
    says(
        &told("manifests", quota).await,
        "manifest 1 of app: toomanyrequests: You have reached your pull rate limit (try again after 90 s)",
    );
    let broken = |_| Reply::new(503, "<html>private words of a proxy</html>");
    let words = told("manifests", broken).await;
    says(&words, "is unavailable: manifest 1 of app: status 503");
    assert!(!words.contains("private"), "{words}");

    let server = Server::plain(Content::default()).await;
    let world = World::new();
    let error = world.pull(&format!("{}/app:1", server.host())).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: manifest 1 of app: manifest unknown", server.host()));
    assert_eq!(error.reason(), "ErrImagePull");
}

#[tokio::test]
async fn a_registry_that_is_not_there_and_names_that_are_none() {
    let gone = Server::plain(Content::default()).await.host();
    let world = World::new();
    let error = world.pull(&format!("{gone}/app:1")).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImagePull", "{error}");
    says(&error.chain(), &gone);
    let error = world.pull("Bad//Name").await.unwrap_err();
    assert_eq!(error.reason(), "InvalidImageName", "{error}");
    says(&error.chain(), "couldn't parse image name \"Bad//Name\": it has");
}

#[tokio::test]
async fn layers_that_would_harm_are_refused_as_when_loaded() {
    let evil = LayerBuilder::new().file("x", 0o644, "x").hard_link("y", "../../../../etc/passwd");
    let content = Content::of("app", "1", &ImageBuilder { layers: vec![evil], ..ImageBuilder::default() });
    let server = Server::plain(content).await;
    let world = World::new();
    says(&world.failure(&format!("{}/app:1", server.host())).await, "leads out of the layer by '..'");
}

#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_is_refused() {
    let mut content = Content::of("app", "1", &image("x"));
    content.push("app", "2", &image("y"));
    // The configuration of the one with the layers of the other.
    let (mut mixed, other) = (content.manifest("app", "1"), content.manifest("app", "2"));
    mixed["layers"] = other["layers"].clone();
    content.document("app", "3", crate::content::OCI_MANIFEST, mixed.to_string().into_bytes());
    let server = Server::plain(content).await;
    let world = World::new();
    says(&world.failure(&format!("{}/app:3", server.host())).await, "unpacked from");
}

#[tokio::test]
async fn foreign_layers_other_machines_and_artifacts_are_refused() {
    let mut content = Content::of("app", "1", &image("x"));
    let mut foreign = content.manifest("app", "1");
    foreign["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    content.document("app", "foreign", crate::content::DOCKER_MANIFEST, foreign.to_string().into_bytes());
    content.push("app", "s390x", &ImageBuilder { architecture: Some("s390x".into()), ..image("x") });
    let server = Server::plain(content).await;
    let world = World::new();
    says(&world.failure(&format!("{}/app:foreign", server.host())).await, "may not be distributed");
    says(&world.failure(&format!("{}/app:s390x", server.host())).await, "the image is for linux/s390x");
    assert_eq!(server.asked("/blobs/"), 1, "one configuration, no layer");
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let content = Content::of("app", "1", &image("x"));
    let storage = Server::start(content.clone(), {
        let content = content.clone();
        move |request| Some(Reply::new(200, content.blobs[request.path().strip_prefix("/store/")?].clone()))
    })
    .await;
    let to = storage.addr;
    let server = Server::start(content, move |request| {
        if request.header("authorization").is_none() {
            return Some(Reply::new(401, "").header("www-authenticate", "Basic realm=\"r\""));
        }
        let digest = request.path().rsplit_once("/blobs/")?.1;
        let target = format!("http://{to}/store/{digest}?signature=secret");
        Some(Reply::new(307, "").header("location", target))
    })
    .await;
    let world = World::new();
    let host = server.host();
    world.hosts(&host, &format!("server = \"http://{host}\"\n[header]\nx-key = \"private\"\n"));
    let record = world.pull_as(&format!("{host}/app:1"), &keyring(&[(&host, "u", "p")])).await.unwrap().record;
    assert_eq!(world.own(&record), "x");
    assert!(server.requests().iter().all(|request| request.header("x-key") == Some("private")));
    assert_eq!(storage.requests().len(), 4);
    for request in storage.requests() {
        assert_eq!((request.header("authorization"), request.header("x-key")), (None, None), "{request:?}");
    }
}

#[tokio::test]
async fn a_redirect_that_fails_tells_no_signature_and_nothing_of_the_strangers_page() {
    let stranger = Server::start(Content::default(), |_| Some(Reply::new(403, "{\"token\":\"private\"}"))).await;
    let to = stranger.addr;
    let lead = move |_| Reply::new(302, "").header("location", format!("http://{to}/latest?signature=secret"));
    let content = Content::of("app", "1", &image("x"));
    let server = Server::start(content, move |request| request.path().contains("/blobs/").then(|| lead(()))).await;
    let world = World::new();
    let words = world.failure(&format!("{}/app:1", server.host())).await;
    says(&words, &format!("{to}: configuration of"));
    assert!(!words.contains("secret") && !words.contains("private"), "{words}");
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let circle = |_| Reply::new(302, "").header("location", "/v2/app/manifests/1");
    says(&told("manifests", circle).await, "redirects too often");
}
