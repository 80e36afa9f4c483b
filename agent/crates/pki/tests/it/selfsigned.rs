//! The certificate that nobody vouches for.

use jiff::{SignedDuration, Timestamp};
use orlop_pki::{CertificateFacts, CertificateState, SelfSigned};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[test]
fn it_is_made_kept_and_made_again_when_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let ips: [IpAddr; 2] = ["10.0.0.7", "fd00::7"].map(|ip| ip.parse().expect("an address"));
    let wanted = SelfSigned { folder: folder.path(), host: "n1", ips: &ips };
    let now: Timestamp = "2026-11-21T05:40:00Z".parse().expect("a time");
    assert!(wanted.current().expect("nothing is wrong").is_none());

    let made = wanted.renew(now).expect("made");
    assert_eq!(wanted.current().expect("readable").as_ref(), Some(&made));
    assert_eq!(made.facts().dns_names, ["n1"]);
    assert_eq!(made.facts().ips, ips);
    assert_eq!(made.facts().not_before, now - SignedDuration::from_hours(1));
    assert_eq!(made.facts().not_after, now + SignedDuration::from_hours(365 * 24 - 1));
    assert_eq!(made.chain().len(), 2);
    for (file, want) in [("kubelet.crt", 0o644), ("kubelet.key", 0o600)] {
        let mode = fs::metadata(folder.path().join(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, want, "{file}");
    }

    // A crash after the key and before the certificate.
    let certificate = fs::read(folder.path().join("kubelet.crt")).expect("a file");
    wanted.renew(now).expect("made again");
    fs::write(folder.path().join("kubelet.crt"), certificate).expect("a file");
    let err = wanted.current().expect_err("they do not fit").to_string();
    assert!(err.contains("does not belong"), "{err}");
    let again = wanted.renew(now).expect("made again");
    assert_eq!(wanted.current().expect("readable"), Some(again));
}

#[test]
fn a_node_named_by_its_address_gets_the_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = SelfSigned { folder: folder.path(), host: "10.0.0.7", ips: &[] };
    let made = wanted.renew("2026-11-21T05:40:00Z".parse().expect("a time")).expect("made");
    assert_eq!(made.facts().ips, ["10.0.0.7".parse::<IpAddr>().expect("an address")]);
    assert!(made.facts().dns_names.is_empty());
}

#[test]
fn what_to_do_about_it() {
    #[track_caller]
    fn check(wanted: &SelfSigned<'_>, now: &str, facts: Option<&CertificateFacts>, said: &str) {
        let got = match wanted.state(now.parse().expect("a time"), facts, 0.5) {
            CertificateState::Good { rotate_at } => format!("good until {rotate_at}"),
            CertificateState::Due => "due".into(),
            CertificateState::Lacking { lacks } => format!("lacking: {lacks}"),
            CertificateState::Unusable { why } => format!("unusable: {why}"),
        };
        assert_eq!(got, said);
    }
    let facts = CertificateFacts {
        common_name: "n1@1795239600".into(),
        organizations: Vec::new(),
        dns_names: vec!["n1".into()],
        ips: vec!["10.0.0.7".parse().expect("an address")],
        not_before: "2026-01-01T00:00:00Z".parse().expect("a time"),
        not_after: "2026-01-11T00:00:00Z".parse().expect("a time"),
        spki: Vec::new(),
    };
    let ips: [IpAddr; 2] = ["10.0.0.7", "fd00::7"].map(|ip| ip.parse().expect("an address"));
    let wanted = SelfSigned { folder: Path::new("/"), host: "n1", ips: &ips[..1] };
    let early = "2026-01-02T00:00:00Z";
    check(&wanted, early, None, "unusable: there is no certificate");
    check(&wanted, early, Some(&facts), "good until 2026-01-09T00:00:00Z");
    check(&wanted, "2026-01-09T00:00:00Z", Some(&facts), "due");
    check(&wanted, "2026-01-12T00:00:00Z", Some(&facts), "unusable: it was valid until 2026-01-11T00:00:00Z");
    check(&SelfSigned { ips: &ips, ..wanted }, early, Some(&facts), "lacking: it lacks fd00::7");
    let renamed = SelfSigned { folder: Path::new("/"), host: "n2", ips: &[] };
    check(&renamed, early, Some(&facts), "lacking: it lacks n2");
    let theirs = CertificateFacts { common_name: "n2.example".into(), ..facts };
    check(&renamed, early, Some(&theirs), "good until 2026-01-11T00:00:00Z");
}
