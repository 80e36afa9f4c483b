//! `cluster-info`, sound and tampered with.

use orlop_pki::{BootstrapToken, CaPins, PkiError, verify_cluster_info};
use std::collections::BTreeMap;

const KUBECONFIG: &str = include_str!("../data/cluster-info.yaml");
/// Made with Python's hmac for the token below.
const SIGNATURE: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..xsatGyVEVE2L4ysoT5ilcM35lh-6D8we-l71h3ii7W8";
const TOKEN: &str = "abcdef.0123456789abcdef";
/// `openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum` of the first CA, then the second.
const PINS: [&str; 2] = [
    "sha256:1ae0285e83b11fe838a9ea7ac2ff25c80fc99adbce8d5df69fada61be5c2b597",
    "sha256:c8be9c05b16f6b9e2b9f00f805c487dd9b17d81c66a2ee958d2292e9f4d0a5ac",
];

fn data(kubeconfig: &str) -> BTreeMap<String, String> {
    [("kubeconfig", kubeconfig), ("jws-kubeconfig-abcdef", SIGNATURE), ("jws-kubeconfig-others", "x..y")]
        .map(|(key, value)| (key.into(), value.into()))
        .into()
}

/// Error's part, or the number of CAs trusted for the second read.
#[track_caller]
fn check(data: &BTreeMap<String, String>, token: &str, pins: &[&str], want: Result<usize, &str>) {
    let token: BootstrapToken = token.parse().expect("a token");
    let pins = CaPins::parse(pins).expect("pins");
    match (verify_cluster_info(data, &token, &pins), want) {
        (Ok(info), Ok(want)) => {
            assert_eq!(info.server, "https://10.0.0.1:6443");
            assert_eq!(info.ca_pem.matches("BEGIN CERTIFICATE").count(), 2);
            assert_eq!(info.pinned_ca_pem.matches("BEGIN CERTIFICATE").count(), want);
            info.confirm(data).expect("the same");
            let mut other = data.clone();
            other.insert("kubeconfig".into(), KUBECONFIG.replace("10.0.0.1", "10.0.0.2"));
            assert!(matches!(info.confirm(&other), Err(PkiError::Changed)));
            other.remove("kubeconfig");
            assert!(matches!(info.confirm(&other), Err(PkiError::Changed)));
        }
        (Err(err), Err(part)) => assert!(err.to_string().contains(part), "{err}"),
        (got, want) => panic!("{got:?}, not {want:?}"),
    }
}

#[test]
fn a_signed_and_pinned_cluster_is_trusted() {
    let sound = data(KUBECONFIG);
    check(&sound, TOKEN, &[], Ok(2));
    check(&sound, TOKEN, &PINS[..1], Ok(1));
    check(&sound, TOKEN, &PINS[1..], Ok(1));
    check(&sound, TOKEN, &PINS, Ok(2));
    let upper = format!("SHA256:{}", PINS[0][7..].to_uppercase());
    check(&sound, TOKEN, &[&upper], Ok(1));
}

#[test]
fn everything_else_is_refused() {
    let sound = data(KUBECONFIG);
    check(&sound, "abcdef.0123456789abcdeX".to_lowercase().as_str(), &PINS, Err("cannot be trusted"));
    check(&sound, "ghijkl.0123456789abcdef", &PINS, Err("no signature for token id ghijkl"));
    check(&sound, "others.0123456789abcdef", &PINS, Err("cannot be trusted"));
    check(&data(&KUBECONFIG.replace("10.0.0.1", "10.0.0.2")), TOKEN, &PINS, Err("cannot be trusted"));
    check(&data(""), TOKEN, &PINS, Err("not set up for bootstrap tokens"));
    check(&BTreeMap::new(), TOKEN, &PINS, Err("not set up for bootstrap tokens"));
    let pin = format!("sha256:{}", "0".repeat(64));
    let found = format!("found {}, {}", PINS[0], PINS[1]);
    check(&sound, TOKEN, &[&pin], Err(&found));
}

#[test]
fn only_a_missing_signature_heals_with_time() {
    let (token, pins) = (TOKEN.parse().expect("a token"), CaPins::default());
    let mut waiting = data(KUBECONFIG);
    waiting.remove("jws-kubeconfig-abcdef");
    assert!(verify_cluster_info(&waiting, &token, &pins).expect_err("unsigned").heals_with_time());
    let err = verify_cluster_info(&data("other"), &token, &pins).expect_err("signed for another text");
    assert!(!err.heals_with_time(), "{err}");
}
