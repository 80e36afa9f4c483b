//! How fast a pod may send and receive.

use crate::field::{Findings, Path};
use crate::quantity::{QUANTITY_RULE, Quantity};
use std::collections::BTreeMap;

/// What the pod may receive, per second.
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// What the pod may send, per second.
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Bits a second: `1k`, containerd's `minRsrc`.
const BITS_MIN: u64 = 1_000;
/// Bits a second: `1P`, containerd's `maxRsrc`.
const BITS_MAX: u64 = 1_000_000_000_000_000;

/// A pod's limits, in bits a second; `None` is as fast as it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What it may receive.
    pub ingress_bits: Option<u64>,
    /// What it may send.
    pub egress_bits: Option<u64>,
}

/// An annotation that is no sensible bandwidth, in containerd's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}={value:?}: {problem}")]
pub struct BandwidthError {
    /// The annotation.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The limits in a pod's annotations. The kubelet hands annotations to the runtime as they
/// are, and containerd makes no sandbox while one of these is wrong: the pod waits with the
/// event `FailedCreatePodSandBox` until it is put right. For pods on the host's network it
/// does not look.
///
/// # Errors
/// The first that is no quantity, or not between `1k` and `1P`.
pub fn bandwidth(annotations: &BTreeMap<String, String>) -> Result<Bandwidth, BandwidthError> {
    let limit = |key: &'static str| annotations.get(key).map(|value| bits(key, value)).transpose();
    Ok(Bandwidth { ingress_bits: limit(INGRESS)?, egress_bits: limit(EGRESS)? })
}

fn bits(key: &'static str, value: &str) -> Result<u64, BandwidthError> {
    let wrong = |problem| Err(BandwidthError { key, value: value.to_owned(), problem });
    match Quantity::parse(value).map(Quantity::units) {
        None => wrong(QUANTITY_RULE),
        Some(bits) if bits < BITS_MIN => wrong("resource is unreasonably small (< 1kbit)"),
        Some(bits) if bits > BITS_MAX => wrong("resource is unreasonably large (> 1Pbit)"),
        Some(bits) => Ok(bits),
    }
}

/// Says at admission what will happen, or not happen, later.
pub(crate) fn warn(path: &Path, annotations: &BTreeMap<String, String>, host_network: bool, out: &mut Findings) {
    if host_network {
        for key in [INGRESS, EGRESS].into_iter().filter(|key| annotations.contains_key(*key)) {
            out.warn(path, format!("{key} has no effect: the pod is on the host's network"));
        }
    } else if let Err(error) = bandwidth(annotations) {
        out.warn(path, format!("{error}; the pod does not start until this is put right"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ingress: Option<&str>, egress: Option<&str>, want: Result<(Option<u64>, Option<u64>), &str>) {
        let given = [(INGRESS, ingress), (EGRESS, egress)];
        let annotations =
            given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        let got = bandwidth(&annotations).map(|b| (b.ingress_bits, b.egress_bits)).map_err(|error| error.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{ingress:?} {egress:?}");
    }

    #[test]
    fn limits() {
        check(None, None, Ok((None, None)));
        check(Some("10M"), None, Ok((Some(10_000_000), None)));
        check(None, Some("1Gi"), Ok((None, Some(1 << 30))));
        check(Some("1k"), Some("1P"), Ok((Some(BITS_MIN), Some(BITS_MAX))));
        check(Some("1000"), Some("1e15"), Ok((Some(BITS_MIN), Some(BITS_MAX))));
        // Rounded up to whole bits before it is compared, as Quantity.Value() does.
        check(Some("999.5"), None, Ok((Some(1_000), None)));
        check(Some("1500500m"), None, Ok((Some(1_501), None)));
    }

    #[test]
    fn what_is_wrong() {
        let small = "resource is unreasonably small (< 1kbit)";
        let large = "resource is unreasonably large (> 1Pbit)";
        let of = |key: &str, value: &str, problem: &str| format!("annotation {key}={value:?}: {problem}");
        for (value, problem) in [
            ("999", small),
            ("0", small),
            ("-1M", small),
            ("1m", small),
            ("1000000000000001", large),
            ("2P", large),
            ("1E", large),
            ("", QUANTITY_RULE),
            ("10Mbit", QUANTITY_RULE),
            ("fast", QUANTITY_RULE),
        ] {
            check(Some(value), None, Err(&of(INGRESS, value, problem)));
            check(Some("1M"), Some(value), Err(&of(EGRESS, value, problem)));
        }
        // Ingress is looked at first.
        check(Some("1"), Some("2P"), Err(&of(INGRESS, "1", small)));
    }
}
