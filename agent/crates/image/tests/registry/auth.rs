//! Anonymous, basic and token.

use crate::content::{Content, image};
use crate::server::{Reply, Request, Server};
use crate::world::{World, keyring};
use orlop_image::Keyring;

/// `Basic` of `u:p`.
const U_P: &str = "Basic dTpw";

fn app() -> Content {
    Content::of("team/app", "1", &image("x"))
}

async fn with_basic() -> Server {
    Server::start(app(), |request| {
        (request.header("authorization") != Some(U_P)).then(|| {
            Reply::error(401, "UNAUTHORIZED", "authentication required")
                .header("www-authenticate", "Basic realm=\"Registry\"")
        })
    })
    .await
}

#[tokio::test]
async fn basic_with_and_without_a_password() {
    let server = with_basic().await;
    let host = server.host();
    let name = format!("{host}/team/app:1");
    let world = World::new();
    let words = world.failure(&name).await;
    assert_eq!(words, format!("{host}: manifest 1 of team/app: unauthorized: authentication required"));
    let error = world.pull_as(&name, &keyring(&[(&host, "u", "wrong")])).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImagePull");
    let record = world.pull_as(&name, &keyring(&[(&host, "u", "p")])).await.unwrap().record;
    assert_eq!(world.own(&record), "x");
}

#[tokio::test]
async fn candidates_are_tried_until_one_may() {
    let server = with_basic().await;
    let host = server.host();
    let world = World::new();
    let mut ring = keyring(&[(&format!("{host}/team"), "wrong", "1"), (&host, "wrong", "2")]);
    ring.append(keyring(&[("127.0.0.*:0", "other", "port")]));
    ring.append(keyring(&[(&host, "u", "p")]));
    world.pull_as(&format!("{host}/team/app:1"), &ring).await.unwrap();
    let users: Vec<Request> = server.requests();
    let mut seen: Vec<&str> = users.iter().filter_map(|request| request.header("authorization")).collect();
    seen.dedup();
    // wrong:1, wrong:2, u:p
    assert_eq!(seen, ["Basic d3Jvbmc6MQ==", "Basic d3Jvbmc6Mg==", U_P]);
}

#[tokio::test]
async fn the_nodes_own_file_is_the_last_candidate() {
    let server = with_basic().await;
    let host = server.host();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"http://{host}/v2/":{{"auth":"dTpw"}}}}}}"#)).unwrap();
    let world = World::with(|options| options.credential_files = vec![file]);
    world.pull(&format!("{host}/team/app:1")).await.unwrap();
}

/// A registry that wants tokens, and its token server, which knows `u:p` (or everybody).
async fn with_token(anonymous: bool) -> (Server, Server) {
    let tokens = Server::start(Content::default(), move |request| {
        let known = request.header("authorization") == Some(U_P);
        Some(match known || anonymous && request.header("authorization").is_none() {
            true => Reply::new(200, r#"{"access_token":"granted","expires_in":300}"#),
            false => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
        })
    })
    .await;
    let realm = format!("http://{}/token", tokens.addr);
    let server = Server::start(app(), move |request| {
        let challenge = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:team/app:pull""#);
        (request.header("authorization") != Some("Bearer granted"))
            .then(|| Reply::error(401, "UNAUTHORIZED", "authentication required").header("www-authenticate", challenge))
    })
    .await;
    (server, tokens)
}

#[tokio::test]
async fn an_anonymous_token() {
    let (server, tokens) = with_token(true).await;
    World::new().pull(&format!("{}/team/app:1", server.host())).await.unwrap();
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1, "one token serves the whole pull: {asked:?}");
    assert_eq!(asked[0].target, "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(asked[0].header("authorization"), None);
}

#[tokio::test]
async fn a_token_for_a_password_and_what_its_server_says() {
    let (server, tokens) = with_token(false).await;
    let host = server.host();
    let (world, name) = (World::new(), format!("{host}/team/app:1"));
    let words = world.failure(&name).await;
    let want = format!("{}: token for team/app: unauthorized: incorrect username or password", tokens.host());
    assert_eq!(words, want);
    world.pull_as(&name, &keyring(&[(&host, "u", "p")])).await.unwrap();
    // The password went to the token server only.
    let leaked = server.requests().iter().any(|request| request.header("authorization") == Some(U_P));
    assert!(!leaked);
}

#[tokio::test]
async fn a_registry_that_is_never_content_is_asked_only_so_often() {
    let tokens = Server::start(Content::default(), {
        let count = std::sync::atomic::AtomicUsize::new(0);
        move |_| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Some(Reply::new(200, format!(r#"{{"token":"t{number}"}}"#)))
        }
    })
    .await;
    let realm = tokens.addr;
    let server = Server::start(app(), move |_| {
        let challenge = format!("Bearer realm=\"http://{realm}/t\"");
        Some(Reply::error(401, "UNAUTHORIZED", "never").header("www-authenticate", challenge))
    })
    .await;
    let words = World::new().failure(&format!("{}/team/app:1", server.host())).await;
    assert_eq!(words, format!("{}: manifest 1 of team/app: unauthorized: never", server.host()));
    assert!(server.requests().len() <= 3, "{:?}", server.requests());
}

#[tokio::test]
async fn odd_challenges_are_no_way_in() {
    for challenge in ["Negotiate", "Bearer realm=\"ftp://a.example/\"", "Bearer realm=\"\"", ""] {
        let server =
            Server::start(app(), move |_| Some(Reply::new(401, "").header("www-authenticate", challenge))).await;
        let ring = keyring(&[(&server.host(), "u", "p")]);
        let world = World::new();
        world.pull_as(&format!("{}/team/app:1", server.host()), &ring).await.unwrap_err();
        assert!(server.requests().iter().all(|request| request.header("authorization").is_none()), "{challenge}");
    }
}

#[tokio::test]
async fn who_may_not_read_an_image_does_not_join_one_who_may() {
    let server = with_basic().await;
    let host = server.host();
    let (world, name) = (World::new(), format!("{host}/team/app:1"));
    let (ring, none) = (keyring(&[(&host, "u", "p")]), Keyring::new());
    let (with, without) = tokio::join!(world.pull_as(&name, &ring), world.pull_as(&name, &none));
    with.unwrap();
    without.unwrap_err();
}
