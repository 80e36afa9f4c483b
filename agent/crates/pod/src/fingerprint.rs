//! Fingerprints that are the same in every run and on every machine.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use orlop_model::PodUid;
use serde::Serialize;

/// FNV-1a, 64 bit: not against an adversary, only for equality of a manifest with
/// its own past.
fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Maps of these types are ordered, so equal values give equal bytes; they
    // hold nothing that JSON cannot.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Fingerprint of a spec.
pub(crate) fn spec_hash(spec: &PodSpec) -> u64 {
    fnv(0, &json(spec))
}

/// The UID of a pod that has none from an API server: the same for the same
/// manifest on the same node, another one when anything that a container can
/// see has changed.
#[must_use]
pub fn manifest_uid(pod: &Pod, node_name: &str) -> Option<PodUid> {
    let meta = &pod.metadata;
    let bytes = json(&(node_name, &meta.namespace, &meta.name, &meta.labels, &meta.annotations, &pod.spec));
    let (a, b) = (fnv(1, &bytes), fnv(2, &bytes));
    let text = format!(
        "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    );
    PodUid::new(text).ok()
}
