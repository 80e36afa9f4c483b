//! Certificates of all kinds, and bytes that are none.

use orlop_pki::{CertificateFacts, certificates_in};

const FOREVER: &str = include_str!("../data/forever.pem");

/// What is read, in one line.
fn read(pem: &str) -> String {
    let certificates = certificates_in(pem, "the test's data").expect("PEM");
    let facts = CertificateFacts::of(&certificates[0], "the test's data").expect("a certificate");
    let ips: Vec<String> = facts.ips.iter().map(ToString::to_string).collect();
    let (names, groups) = (facts.dns_names.join(" "), facts.organizations.join(" "));
    let (from, until) = (facts.not_before, facts.not_after);
    format!("{:?} of [{groups}] at [{names}] [{}] from {from} until {until}", facts.common_name, ips.join(" "))
}

#[test]
fn what_certificates_say() {
    #[track_caller]
    fn check(pem: &str, want: &str) {
        assert_eq!(read(pem), want);
    }
    check(
        FOREVER,
        "\"first\" of [a b] at [n1.example] [10.0.0.7 fd00::7] from 1950-01-01T00:00:00Z until 9999-12-30T22:00:00.999999999Z",
    );
    let nameless = include_str!("../data/nameless.pem");
    check(nameless, "\"\" of [] at [] [] from 2026-01-01T00:00:00Z until 2036-01-01T00:00:00Z");
}

#[test]
fn damaged_bytes_are_errors_or_other_certificates_and_nothing_else() {
    let der = certificates_in(FOREVER, "the test's data").expect("PEM").remove(0);
    for end in 0..der.len() {
        assert!(CertificateFacts::of(&der[..end], "a part").is_err(), "the first {end} bytes");
    }
    let mut understood = 0;
    for place in 0..der.len() {
        for bit in 0..8 {
            let mut damaged = der.to_vec();
            damaged[place] ^= 1 << bit;
            understood += usize::from(CertificateFacts::of(&damaged, "damaged").is_ok());
        }
    }
    // Most bits are in keys and signatures, which are not looked into.
    assert!(understood > 0 && understood < der.len() * 8, "{understood}");
}
