//! Connections: whom they trust, which way they go, and how their death is noticed.

use crate::server::{Answer, Server};
use crate::tls::Authority;
use crate::wire::Wire;
use crate::{Thing, bookmark, chain, expect, line, soon, thing, until};
use orlop_apiclient::{ApiError, CONFIG_MAPS, Client, NODES, PODS, Pem, Selectors, Settings, WatchOptions, watch};
use std::time::Duration;
use tokio::net::TcpListener;

async fn server(authority: &Authority, names: &[&str]) -> Server {
    Server::start(Some(authority.server(names)), |_| Answer::ok(thing("n1", 1))).await
}

async fn get(settings: Settings) -> Result<Thing, ApiError> {
    Client::new(settings).unwrap().get(&NODES.named("n1")).await
}

#[tokio::test]
async fn only_the_authority_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = server(&authority, &["127.0.0.1"]).await;
    let with = |pem: &str| Settings { authority: Some(Pem::Data(pem.as_bytes().to_vec())), ..server.settings() };
    get(with(&authority.pem)).await.unwrap();
    let error = get(with(&other.pem)).await.unwrap_err();
    assert!(matches!(error, ApiError::Transport { connected: false, .. }), "{error}");
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
    get(Settings { insecure: true, ..server.settings() }).await.unwrap();
    assert!(Client::new(with("nothing")).unwrap_err().to_string().contains("certificate authority"));
}

#[tokio::test]
async fn another_name_is_asked_for_and_verified() {
    let authority = Authority::new();
    let server = server(&authority, &["kubernetes"]).await;
    let with = |name: Option<&str>| Settings {
        authority: Some(Pem::Data(authority.pem.clone().into_bytes())),
        server_name: name.map(str::to_owned),
        ..server.settings()
    };
    get(with(Some("kubernetes"))).await.unwrap();
    assert!(get(with(None)).await.is_err());
    assert!(get(with(Some("other"))).await.is_err());
}

#[tokio::test]
async fn a_proxy_is_used() {
    let authority = Authority::new();
    let server = server(&authority, &["127.0.0.1"]).await;
    let proxy = Wire::proxy().await;
    let mut settings = server.settings();
    settings.authority = Some(Pem::Data(authority.pem.clone().into_bytes()));
    settings.proxy = Some(format!("http://{}", proxy.address));
    let client = Client::new(settings).unwrap();
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    proxy.cut();
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    assert_eq!(server.asked().last().unwrap().connection, 2, "it went through the proxy, which cut it");
}

/// A server at the end of a wire, whose watches list one thing and then are quiet.
async fn behind_a_wire() -> (Server, Wire, Settings) {
    let authority = Authority::new();
    let server = Server::start(Some(authority.server(&["127.0.0.1"])), |asked| {
        if asked.label.contains("limit=1") {
            return Answer::ok(r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#);
        }
        let (answer, stream) = match asked.label.contains("sendInitialEvents") {
            true => Answer::stream(&[line("ADDED", &thing("a", 1)), bookmark(5, true)]),
            false => Answer::stream(&[line("MODIFIED", &thing("a", 6))]),
        };
        // It stays open as long as the test runs.
        std::mem::forget(stream);
        answer
    })
    .await;
    let wire = Wire::to(server.address).await;
    let mut settings = Settings::new(format!("https://{}", wire.address));
    settings.authority = Some(Pem::Data(authority.pem.into_bytes()));
    (server, wire, settings)
}

#[tokio::test]
async fn a_dead_connection_is_noticed_while_nothing_happens() {
    let (server, wire, mut settings) = behind_a_wire().await;
    settings.ping_every = Duration::from_millis(200);
    settings.ping_timeout = Duration::from_millis(300);
    let client = Client::new(settings).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    expect(&mut events, &["begin", "item a=1", "done"]).await;
    wire.swallow();
    expect(&mut events, &["applied a=6"]).await;
    let state = until(&events, "the watch to be back", |state| state.down_since.is_none()).await;
    assert_eq!((state.lists, state.connects, state.failures), (1, 2, 1));
    let asked = server.asked();
    assert!(asked[1].label.contains("limit=1") && asked[2].label.contains("resourceVersion=5"), "{asked:?}");
}

/// The other side accepts and then says nothing at all, not even in TLS.
#[tokio::test]
async fn a_server_that_only_accepts_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for scheme in ["http", "https"] {
        let mut settings = Settings::new(format!("{scheme}://{}", listener.local_addr().unwrap()));
        settings.insecure = true;
        settings.connect_timeout = Duration::from_millis(300);
        settings.timeout = Duration::from_millis(600);
        let error = get(settings).await.unwrap_err();
        let stands = matches!(error, ApiError::Timeout { .. });
        let does_not = matches!(error, ApiError::Transport { connected: false, .. });
        assert!(if scheme == "http" { stands } else { does_not }, "{error}");
    }
}

#[tokio::test]
async fn a_call_on_a_dead_connection_ends_with_the_connection() {
    let (_server, wire, mut settings) = behind_a_wire().await;
    settings.ping_every = Duration::from_millis(200);
    settings.ping_timeout = Duration::from_millis(300);
    settings.timeout = Duration::from_secs(50);
    let client = Client::new(settings).unwrap();
    client.get_raw("/?limit=1").await.unwrap();
    wire.swallow();
    // A read is tried again, on a connection that is alive.
    soon("the answer", client.get_raw("/?limit=1")).await.unwrap();
}

#[tokio::test]
async fn a_cut_connection_is_made_again() {
    let (_server, wire, settings) = behind_a_wire().await;
    let client = Client::new(settings).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    expect(&mut events, &["begin", "item a=1", "done"]).await;
    wire.cut();
    expect(&mut events, &["applied a=6"]).await;
    assert_eq!(events.health().state().lists, 1);
}

/// More watches than a connection may have streams, and calls besides.
#[tokio::test]
async fn hundreds_of_watches_do_not_starve_each_other_or_calls() {
    let (server, wire, settings) = behind_a_wire().await;
    let client = Client::new(settings).unwrap();
    let mut all: Vec<_> = (0..250)
        .map(|n| {
            let options = WatchOptions::new(Selectors::name(&format!("map-{n}")));
            watch::<Thing>(&client, CONFIG_MAPS.within("web"), options)
        })
        .collect();
    for events in &mut all {
        expect(events, &["begin", "item a=1", "done"]).await;
    }
    client.get_raw("/?limit=1").await.unwrap();
    let connections = server.asked().iter().map(|asked| asked.connection).max().unwrap();
    assert!(connections >= 4, "{connections}");
    // All at once they come back, and ask together how far the server is.
    let before = server.asked().len();
    wire.cut();
    for events in &mut all {
        expect(events, &["applied a=6"]).await;
    }
    let asked = server.asked().split_off(before);
    let questions = asked.iter().filter(|asked| asked.label.contains("limit=1")).count();
    assert!((1..250).contains(&questions), "{questions}");
}
