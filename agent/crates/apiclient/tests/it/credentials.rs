//! Who we are to the server, and how that changes.

use crate::server::{Answer, Server};
use crate::tls::Authority;
use crate::{Thing, bookmark, expect, line, status, thing, until};
use orlop_apiclient::{Bearer, Client, Identity, Kubeconfig, NODES, PODS, Pem, Secret, WatchOptions, watch};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Accepts one token, which the test may change.
async fn picky(token: &Arc<Mutex<&'static str>>) -> Server {
    let token = Arc::clone(token);
    Server::start(None, move |asked| {
        let wanted = format!("Bearer {}", token.lock().unwrap());
        match asked.headers.get("authorization") {
            Some(given) if *given == wanted => Answer::ok(thing("n1", 1)),
            _ => Answer::no(401, status(401, "Unauthorized", "null")),
        }
    })
    .await
}

#[tokio::test]
async fn a_renewed_token_file_is_used_at_once_when_the_old_one_is_refused() {
    let token = Arc::new(Mutex::new("one"));
    let server = picky(&token).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "one\n").unwrap();
    let mut settings = server.settings();
    settings.bearer = Bearer::TokenFile(path.clone());
    let client = Client::new(settings).unwrap();
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    *token.lock().unwrap() = "two";
    // The file is still the old one: the refusal comes back, after one request.
    assert!(client.get::<Thing>(&NODES.named("n1")).await.unwrap_err().is_unauthorized());
    assert_eq!(server.asked().len(), 2);
    std::fs::write(&path, "two\n").unwrap();
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_watch_waits_for_the_token_to_be_renewed() {
    let token = Arc::new(Mutex::new("two"));
    let wanted = Arc::clone(&token);
    let server = Server::start(None, move |asked| {
        if asked.headers["authorization"] != format!("Bearer {}", wanted.lock().unwrap()) {
            return Answer::no(401, status(401, "Unauthorized", "null"));
        }
        let (answer, stream) = Answer::stream(&[line("ADDED", &thing("a", 1)), bookmark(5, true)]);
        // It stays open as long as the test runs.
        std::mem::forget(stream);
        answer
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "one").unwrap();
    let mut settings = server.settings();
    settings.bearer = Bearer::TokenFile(path.clone());
    let client = Client::new(settings).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    let state = until(&events, "a refusal", |state| state.down_since.is_some()).await;
    assert!(state.last_error.unwrap().contains("401 Unauthorized"));
    std::fs::write(&path, "two").unwrap();
    expect(&mut events, &["begin", "item a=1", "done"]).await;
    assert_eq!(events.health().state().down_since, None);
}

/// A kubeconfig whose user is a plugin that counts its runs in a file.
fn plugin(folder: &Path, server: &str, prints: &str) -> Kubeconfig {
    let script = format!(
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho \"$KUBERNETES_EXEC_INFO\" > info\necho \"$1 $MORE\" > args\n\
         echo run >> runs\nN=$(wc -l < runs)\n{prints}\n"
    );
    let path = folder.join("login");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let text = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: '{server}'}}}}]\n\
         users: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: ./login,\n\
         args: [first], env: [{{name: MORE, value: second}}], provideClusterInfo: true}}}}}}]\n"
    );
    Kubeconfig::parse(&text, &folder.join("config")).unwrap()
}

/// Prints a credential with these fields in its status.
fn prints(fields: &str) -> String {
    format!(
        "printf '{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{{{fields}}}}}'"
    )
}

fn runs(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("runs")).unwrap().lines().count()
}

#[tokio::test]
async fn a_plugin_runs_again_after_a_refusal_and_after_its_credential_has_expired() {
    let token = Arc::new(Mutex::new("t1"));
    let server = picky(&token).await;
    let folder = tempfile::tempdir().unwrap();
    let config = plugin(folder.path(), &server.url(), &prints("\"token\":\"t'$N'\""));
    let client = Client::new(config.settings().unwrap()).unwrap();
    for _ in 0..3 {
        client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    }
    assert_eq!(runs(folder.path()), 1, "a credential without an end is kept");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("args"), "first second\n");
    let info: serde_json::Value = serde_json::from_str(&read("info")).unwrap();
    assert_eq!(info["spec"]["cluster"]["server"], server.url());
    assert_eq!(info["spec"]["interactive"], false);
    *token.lock().unwrap() = "t2";
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    assert_eq!(runs(folder.path()), 2);
    // Whatever it gives is refused: it does not run for every request.
    *token.lock().unwrap() = "none";
    for _ in 0..5 {
        assert!(client.get::<Thing>(&NODES.named("n1")).await.unwrap_err().is_unauthorized());
    }
    assert!(runs(folder.path()) <= 4, "{}", runs(folder.path()));
    *token.lock().unwrap() = "t2";

    let expired = prints("\"token\":\"t2\",\"expirationTimestamp\":\"2020-01-01T00:00:00Z\"");
    let config = plugin(folder.path(), &server.url(), &expired);
    let client = Client::new(config.settings().unwrap()).unwrap();
    for _ in 0..2 {
        client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    }
    assert_eq!(runs(folder.path()), 4);
}

#[tokio::test]
async fn a_plugin_that_fails_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = plugin(folder.path(), "http://127.0.0.1:1", "echo 'no such account' >&2; exit 3");
    let client = Client::new(config.settings().unwrap()).unwrap();
    let error = client.get::<Thing>(&NODES.named("n1")).await.unwrap_err().to_string();
    assert!(error.contains("login") && error.contains("exit status: 3: no such account"), "{error}");
}

#[tokio::test]
async fn a_plugin_may_give_a_certificate() {
    let authority = Authority::new();
    let server = Server::start(Some(authority.server(&["127.0.0.1"])), |_| Answer::ok(thing("n1", 1))).await;
    let folder = tempfile::tempdir().unwrap();
    let signed = authority.client("from-plugin");
    let inline = |pem: &str| pem.trim().replace('\n', "\\\\n").replace('\r', "");
    let fields = format!(
        "\"clientCertificateData\":\"{}\",\"clientKeyData\":\"{}\"",
        inline(&signed.certificate),
        inline(&signed.key)
    );
    let config = plugin(folder.path(), &server.url(), &prints(&fields));
    let mut settings = config.settings().unwrap();
    settings.authority = Some(Pem::Data(authority.pem.clone().into_bytes()));
    let client = Client::new(settings).unwrap();
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    assert_eq!(server.asked()[0].certificate, Some(signed.der));
}

#[tokio::test]
async fn a_password_goes_along() {
    let server = Server::script(None, vec![("GET", Answer::ok(thing("n1", 1)))]).await;
    let mut settings = server.settings();
    settings.bearer = Bearer::Basic { user: "me".to_owned(), password: Secret::new("secret") };
    assert!(!format!("{settings:?}").contains("secret\""));
    Client::new(settings).unwrap().get::<Thing>(&NODES.named("n1")).await.unwrap();
    assert_eq!(server.asked()[0].headers["authorization"], "Basic bWU6c2VjcmV0");
}

/// A watch that stands, and what the server has seen of it.
async fn standing() -> (Authority, Server) {
    let authority = Authority::new();
    let server = Server::start(Some(authority.server(&["127.0.0.1"])), |asked| {
        if !asked.label.contains("watch=true") {
            return Answer::ok(thing("n1", 1));
        }
        let first = asked.label.contains("sendInitialEvents");
        let (answer, stream) = Answer::stream(&if first { vec![bookmark(5, true)] } else { vec![bookmark(6, false)] });
        // It stays open as long as the test runs.
        std::mem::forget(stream);
        answer
    })
    .await;
    (authority, server)
}

#[tokio::test]
async fn another_identity_takes_over_without_a_restart() {
    let (authority, server) = standing().await;
    let (old, new) = (authority.client("old"), authority.client("new"));
    let mut settings = server.settings();
    settings.authority = Some(Pem::Data(authority.pem.clone().into_bytes()));
    settings.identity = Some(old.identity());
    let client = Client::new(settings).unwrap();
    let mut events = watch::<Thing>(&client, PODS.everywhere(), WatchOptions::default());
    expect(&mut events, &["begin", "done"]).await;
    assert!(client.replace_identity(Identity::from_pem("no", "no")).is_err());
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    client.replace_identity(new.identity()).unwrap();
    let asked = server.asked_times(3).await;
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    let after = server.asked();
    assert!(asked[0].certificate == Some(old.der.clone()) && asked[1].certificate == Some(old.der));
    assert!(
        asked[2].label.contains("watch=true") && asked[2].label.contains("resourceVersion=5"),
        "{}",
        asked[2].label
    );
    assert!(after[2].certificate == Some(new.der.clone()) && after[3].certificate == Some(new.der));
    let state = until(&events, "the second connection", |state| state.connects == 2).await;
    assert_eq!((state.failures, state.lists), (0, 1), "a swap is no failure and costs no list");
}

#[tokio::test]
async fn changed_certificate_files_are_taken_up() {
    let (authority, server) = standing().await;
    let (old, new) = (authority.client("old"), authority.client("new"));
    let folder = tempfile::tempdir().unwrap();
    let current = folder.path().join("current.pem");
    // As the kubelet does it: a link to a file with both certificate and key, swapped by rename.
    let turn_to = |name: &str, pem: String| {
        std::fs::write(folder.path().join(name), pem).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(name, &link).unwrap();
        std::fs::rename(&link, &current).unwrap();
    };
    turn_to("1.pem", format!("{}{}", old.certificate, old.key));
    let mut settings = server.settings();
    settings.authority = Some(Pem::Data(authority.pem.clone().into_bytes()));
    settings.identity = Some(Identity { certificate: Pem::File(current.clone()), key: Pem::File(current.clone()) });
    let client = Client::new(settings).unwrap();
    client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    assert_eq!(server.asked()[0].certificate, Some(old.der));
    // A broken one is not taken: the old connection goes on until there is a good one.
    turn_to("2.pem", "-----BEGIN".to_owned());
    for _ in 0..3 {
        client.get::<Thing>(&NODES.named("n1")).await.unwrap();
    }
    turn_to("3.pem", format!("{}{}", new.certificate, new.key));
    crate::soon("the new certificate", async {
        loop {
            client.get::<Thing>(&NODES.named("n1")).await.unwrap();
            if server.asked().last().unwrap().certificate.as_ref() == Some(&new.der) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}
