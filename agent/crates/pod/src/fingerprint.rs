//! Fingerprints that are the same in every run and on every machine.

use k8s_openapi::api::core::v1::PodSpec;

/// Fingerprint of a spec: FNV-1a, 64 bit, not against an adversary, only for
/// equality of a manifest with its own past.
pub(crate) fn spec_hash(spec: &PodSpec) -> u64 {
    // Maps of these types are ordered, so equal values give equal bytes; they
    // hold nothing that JSON cannot.
    let bytes = serde_json::to_vec(spec).unwrap_or_default();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
