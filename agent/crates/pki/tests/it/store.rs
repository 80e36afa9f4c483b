//! The store through restarts, crashes, damage and a kubelet before us.

use crate::authority::Authority;
use jiff::Timestamp;
use orlop_pki::{CertificateRequest, CertificateStore, PkiError, PrivateKey, Purpose};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

const EC: &str = include_str!("../data/kubelet-ec.pem");
const RSA: &str = include_str!("../data/kubelet-rsa.pem");

fn now() -> Timestamp {
    "2026-11-21T05:40:00Z".parse().expect("a time")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

fn issued(store: &CertificateStore, authority: &Authority, now: Timestamp) -> (PrivateKey, String) {
    let key = store.pending_key().expect("a key");
    let request = CertificateRequest::client("n1").to_pem(&key).expect("a request");
    (key, authority.sign(&request, now, 24))
}

#[test]
fn from_nothing_to_a_rotated_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = folder.path().join("lib/pki");
    let store = CertificateStore::new(&pki, Purpose::Client);
    let authority = Authority::new();
    assert!(store.current().expect("nothing is wrong").is_none());

    // A restart while the request waits finds the same key, and so the same request.
    let (key, certificate) = issued(&store, &authority, now());
    let again = CertificateStore::new(&pki, Purpose::Client).pending_key().expect("a key");
    assert_eq!(again, key);
    assert_eq!(mode(&pki.join("kubelet-client.key.tmp")), 0o600);

    let stored = store.update(&certificate, &key, now()).expect("stored");
    assert_eq!(store.current().expect("readable").as_ref(), Some(&stored));
    assert_eq!(stored.facts().common_name, "system:node:n1");
    assert_eq!(stored.facts().not_before, now());
    assert_eq!(names(&pki), ["kubelet-client-2026-11-21-05-40-00.pem", "kubelet-client-current.pem"]);
    assert_eq!(mode(&store.current_path()), 0o600);
    let target = fs::read_link(store.current_path()).expect("a link");
    assert_eq!(target, Path::new("kubelet-client-2026-11-21-05-40-00.pem"));

    let later = now() + jiff::SignedDuration::from_hours(20);
    let (key, certificate) = issued(&store, &authority, later);
    assert_ne!(&key, stored.key(), "the old key is not used again");
    let rotated = store.update(&certificate, &key, later).expect("stored");
    assert_eq!(store.current().expect("readable"), Some(rotated));
    assert_eq!(names(&pki).len(), 3, "{:?}", names(&pki));
}

#[test]
fn a_certificate_for_another_key_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = CertificateStore::new(folder.path(), Purpose::Serving);
    let authority = Authority::new();
    let (key, certificate) = issued(&store, &authority, now());
    let stored = store.update(&certificate, &key, now()).expect("stored");
    let before = names(folder.path());
    let other = PrivateKey::generate().expect("a key");
    let err = store.update(&certificate, &other, now()).expect_err("another key");
    assert!(matches!(err, PkiError::KeyMismatch { .. }), "{err}");
    assert!(store.update("nonsense", &key, now()).is_err());
    assert_eq!((store.current().expect("readable"), names(folder.path())), (Some(stored), before));
}

/// What is found in the folder, and what the store makes of it.
#[track_caller]
fn check(found: impl FnOnce(&Path), want: Result<Option<&str>, &str>) {
    let folder = tempfile::tempdir().expect("a folder");
    found(folder.path());
    let store = CertificateStore::new(folder.path(), Purpose::Client);
    match (store.current(), want) {
        (Ok(got), Ok(want)) => assert_eq!(got.map(|it| it.facts().common_name.clone()).as_deref(), want),
        (Err(err), Err(part)) => assert!(err.to_string().contains(part), "{err}"),
        (got, want) => panic!("{got:?}, not {want:?}"),
    }
    // Whatever was found, a new certificate can follow it.
    let (key, certificate) = issued(&store, &Authority::new(), now());
    let stored = store.update(&certificate, &key, now()).expect("stored");
    assert_eq!(store.current().expect("readable"), Some(stored));
}

fn linked(folder: &Path, link: &str, content: &str) {
    let file = folder.join("kubelet-client-2025-01-01-00-00-00.pem");
    fs::write(&file, content).expect("a file");
    // The kubelet's links are absolute.
    symlink(file, folder.join(link)).expect("a link");
}

const CURRENT: &str = "kubelet-client-current.pem";

#[test]
fn what_a_kubelet_or_a_crash_left() {
    check(|folder| linked(folder, CURRENT, EC), Ok(Some("system:node:n1")));
    check(|folder| linked(folder, CURRENT, RSA), Ok(Some("system:node:n1")));
    check(|folder| linked(folder, "kubelet-client-updated.pem", EC), Ok(Some("system:node:n1")));
    check(|folder| symlink("gone.pem", folder.join(CURRENT)).expect("a link"), Ok(None));
    check(|folder| linked(folder, CURRENT, ""), Err(CURRENT));
    let key_only = EC.find("-----BEGIN EC").expect("a key follows");
    check(|folder| linked(folder, CURRENT, &EC[..key_only]), Err("is no usable private key"));
    check(|folder| linked(folder, CURRENT, &EC[key_only..]), Err("there is no PEM block CERTIFICATE"));
    check(|folder| linked(folder, CURRENT, &EC[..EC.len() - 40]), Err("is no usable private key"));
    let mixed = RSA.split_inclusive("-----END CERTIFICATE-----\n").next().expect("a part").to_owned() + &EC[key_only..];
    check(|folder| linked(folder, CURRENT, &mixed), Err("does not belong to its certificate"));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned() + &EC[key_only..];
    check(|folder| linked(folder, CURRENT, &garbage), Err("is no usable certificate"));
    check(|folder| fs::write(folder.join("kubelet-client.key.tmp"), "half").expect("a file"), Ok(None));
    let half = ".kubelet-client-2026-11-21-05-40-00.pem.new";
    check(|folder| fs::write(folder.join(half), "half").expect("a file"), Ok(None));
}

#[test]
fn a_key_that_a_kubelet_left_waiting_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = CertificateStore::new(folder.path(), Purpose::Client);
    fs::write(folder.path().join("kubelet-client.key.tmp"), EC).expect("a file");
    let want = PrivateKey::from_pem(EC, "the test's data").expect("a key");
    assert_eq!(store.pending_key().expect("a key"), want);
    store.drop_pending_key().expect("removed");
    store.drop_pending_key().expect("nothing to remove is fine");
    assert_ne!(store.pending_key().expect("a key"), want);
}

#[test]
fn a_key_that_has_its_certificate_waits_no_longer() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = CertificateStore::new(folder.path(), Purpose::Client);
    let pending = folder.path().join("kubelet-client.key.tmp");
    let (key, certificate) = issued(&store, &Authority::new(), now());
    let written = fs::read(&pending).expect("a file");
    store.update(&certificate, &key, now()).expect("stored");
    assert!(!pending.exists());
    // A crash before the last step.
    fs::write(&pending, written).expect("a file");
    assert_ne!(store.pending_key().expect("a key"), key);
}

#[test]
fn a_file_in_the_links_place_is_somebody_elses() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = CertificateStore::new(folder.path(), Purpose::Client);
    fs::write(store.current_path(), EC).expect("a file");
    assert!(store.current().expect("readable").is_some(), "it is used");
    let (key, certificate) = issued(&store, &Authority::new(), now());
    let err = store.update(&certificate, &key, now()).expect_err("not ours");
    assert!(matches!(err, PkiError::NotALink { .. }), "{err}");
    assert_eq!(store.pending_key().expect("a key"), key, "the request's key is kept");
    assert_eq!(fs::read_to_string(store.current_path()).expect("a file"), EC);
}

#[test]
fn keys_keep_their_form_and_their_secret() {
    for pem in [EC, RSA] {
        let key = PrivateKey::from_pem(pem, "the test's data").expect("a key");
        assert!(pem.ends_with(&key.to_pem()));
        assert!(!format!("{key:?}").contains(&key.to_pem()[40..60]));
    }
}
