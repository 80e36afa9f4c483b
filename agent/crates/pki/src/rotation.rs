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
    let Some(facts) = facts else {
        return CertificateState::Unusable { why: "there is no certificate".into() };
    };
    if now > facts.not_after {
        return CertificateState::Unusable { why: format!("it was valid until {}", facts.not_after) };
    }
    if let Some(lacks) = want.missing_in(facts) {
        return match facts.common_name == want.common_name() {
            true => CertificateState::Lacking { lacks },
            false => CertificateState::Unusable { why: lacks },
        };
    }
    let rotate_at = rotate_at(facts.not_before, facts.not_after, random);
    if now < rotate_at { CertificateState::Good { rotate_at } } else { CertificateState::Due }
}
