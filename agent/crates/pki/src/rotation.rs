//! When a certificate is replaced. Pure: the time and the randomness are arguments.

use crate::{CertificateFacts, CertificateRequest};
use jiff::{SignedDuration, Timestamp};

/// How old a certificate may get at least, as a share of its life (client-go's certificate manager: 80 % ± 10 %).
const ROTATE_FROM: f64 = 0.7;
/// How much the nodes differ, as a share of a certificate's life: those that joined together do not all ask at once.
const ROTATE_SPREAD: f64 = 0.2;

/// When to replace a certificate: at 70 to 90 % of its life. `random` is from 0 to 1 (others are clamped);
/// the caller draws it once a certificate, or the time would move with every question.
pub fn rotate_at(not_before: Timestamp, not_after: Timestamp, random: f64) -> Timestamp {
    let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
    let life = not_after.duration_since(not_before).max(SignedDuration::ZERO);
    // At most 9999 years in seconds: an f64 is exact to far below a second.
    let age = SignedDuration::from_secs_f64(life.as_secs_f64() * (ROTATE_FROM + ROTATE_SPREAD * random));
    not_before.saturating_add(age).unwrap_or(not_after)
}

/// What to do about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateState {
    /// Use it, and ask for the next one at that time.
    Good {
        /// When to ask.
        rotate_at: Timestamp,
    },
    /// Use it, and ask for the next one now.
    Due,
    /// It is good for some and lacks something: use it, and ask for one with all now.
    Lacking {
        /// What, in words.
        lacks: String,
    },
    /// Do not use it: bootstrap. There is none, it ran out, or it is another node's.
    Unusable {
        /// Why, in words.
        why: String,
    },
}

/// What to do about the certificate `facts` (`None`: there is none) at `now`, for the node that would ask for
/// `want`. `random` is as in [`rotate_at`].
///
/// A certificate that is not valid yet counts as good: the signer's clock and ours differ, and the API
/// server goes by its own.
pub fn state(
    now: Timestamp,
    facts: Option<&CertificateFacts>,
    want: &CertificateRequest,
    random: f64,
) -> CertificateState {
    let facts = match in_time(now, facts) {
        Ok(facts) => facts,
        Err(why) => return CertificateState::Unusable { why },
    };
    match want.missing_in(facts) {
        None => by_age(now, facts, random),
        Some(lacks) if facts.common_name == want.common_name() => CertificateState::Lacking { lacks },
        Some(why) => CertificateState::Unusable { why },
    }
}

/// A certificate that is there and has not run out; else why not.
pub(crate) fn in_time(now: Timestamp, facts: Option<&CertificateFacts>) -> Result<&CertificateFacts, String> {
    let facts = facts.ok_or("there is no certificate")?;
    if now > facts.not_after { Err(format!("it was valid until {}", facts.not_after)) } else { Ok(facts) }
}

/// Good or due.
pub(crate) fn by_age(now: Timestamp, facts: &CertificateFacts, random: f64) -> CertificateState {
    let rotate_at = rotate_at(facts.not_before, facts.not_after, random);
    if now < rotate_at { CertificateState::Good { rotate_at } } else { CertificateState::Due }
}

#[cfg(test)]
mod tests {
    use super::{CertificateState, rotate_at, state};
    use crate::{CertificateFacts, CertificateRequest};
    use jiff::Timestamp;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn rotation_is_at_70_to_90_percent_of_life() {
        #[track_caller]
        fn check(from: &str, until: &str, random: f64, want: &str) {
            assert_eq!(rotate_at(at(from), at(until), random), at(want));
        }
        let (from, until) = ("2026-01-01T00:00:00Z", "2026-01-01T01:40:00Z");
        check(from, until, 0.0, "2026-01-01T01:10:00Z");
        check(from, until, 0.5, "2026-01-01T01:20:00Z");
        check(from, until, 1.0, "2026-01-01T01:30:00Z");
        check(from, until, -3.0, "2026-01-01T01:10:00Z");
        check(from, until, 7.0, "2026-01-01T01:30:00Z");
        check(from, until, f64::NAN, "2026-01-01T01:10:00Z");
        // Nothing to divide, and the longest life there is (RFC 5280, 4.1.2.5: no expiry).
        check(until, from, 0.5, until);
        check("1950-01-01T00:00:00Z", "9999-12-30T22:00:00Z", 0.0, "7584-12-30T15:24:00Z");
    }

    fn facts() -> CertificateFacts {
        CertificateFacts {
            common_name: "system:node:n1".into(),
            organizations: vec!["others".into(), "system:nodes".into()],
            dns_names: vec!["n1".into()],
            ips: vec!["10.0.0.1".parse().expect("an address")],
            not_before: at("2026-01-01T00:00:00Z"),
            not_after: at("2026-01-01T01:40:00Z"),
            spki: Vec::new(),
        }
    }

    #[test]
    fn what_to_do_about_a_certificate() {
        #[track_caller]
        fn check(now: &str, facts: Option<&CertificateFacts>, want: &CertificateRequest, said: &str) {
            let got = match state(at(now), facts, want, 0.5) {
                CertificateState::Good { rotate_at } => format!("good until {rotate_at}"),
                CertificateState::Due => "due".into(),
                CertificateState::Lacking { lacks } => format!("lacking: {lacks}"),
                CertificateState::Unusable { why } => format!("unusable: {why}"),
            };
            assert_eq!(got, said);
        }
        let (client, facts) = (CertificateRequest::client("n1"), facts());
        let early = "2026-01-01T00:05:00Z";
        check(early, None, &client, "unusable: there is no certificate");
        check(early, Some(&facts), &client, "good until 2026-01-01T01:20:00Z");
        check("2026-01-01T01:20:00Z", Some(&facts), &client, "due");
        check("2026-01-01T01:40:00Z", Some(&facts), &client, "due");
        check("2026-01-01T01:40:01Z", Some(&facts), &client, "unusable: it was valid until 2026-01-01T01:40:00Z");
        // Our clock is behind the signer's.
        check("2025-12-31T23:00:00Z", Some(&facts), &client, "good until 2026-01-01T01:20:00Z");
        let other = CertificateRequest::client("n2");
        let said = "unusable: it is for \"system:node:n1\", not for \"system:node:n2\"";
        check(early, Some(&facts), &other, said);
        let outsider = CertificateFacts { organizations: vec!["others".into()], ..facts.clone() };
        check(early, Some(&outsider), &client, "lacking: it lacks the organization system:nodes");
        let serving = |names: &[&str], ips: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let ips: Vec<_> = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
            CertificateRequest::serving("n1", &names, &ips).expect("an address is there")
        };
        check(early, Some(&facts), &serving(&["n1"], &["10.0.0.1"]), "good until 2026-01-01T01:20:00Z");
        check(early, Some(&facts), &serving(&[], &["10.0.0.1"]), "good until 2026-01-01T01:20:00Z");
        let more = serving(&["n1", "n1.example"], &["10.0.0.1", "fd00::1"]);
        check(early, Some(&facts), &more, "lacking: it lacks n1.example, fd00::1");
    }
}
