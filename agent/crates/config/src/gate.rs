//! Feature gates.

use crate::{Grade, Warning};
use std::collections::BTreeMap;
use std::path::Path;

/// Gates whose effect Orlop has, and always has.
const ALWAYS_ON: [&str; 5] = [
    "PodReadyToStartContainersCondition",
    "RotateKubeletClientCertificate",
    "RotateKubeletServerCertificate",
    "SidecarContainers",
    "KubeletCrashLoopBackOffMax",
];

/// A gate that is set to what Orlop does is silent.
pub(crate) fn warnings(gates: &BTreeMap<String, bool>, origin: &Path) -> Vec<Warning> {
    let warning = |name: &String, instead: &str| Warning {
        grade: Grade::Warning,
        origin: origin.to_owned(),
        field: format!("KubeletConfiguration featureGates.{name}"),
        instead: instead.to_owned(),
    };
    let one = |(name, on): (&String, &bool)| match (ALWAYS_ON.contains(&name.as_str()), on) {
        (true, true) => None,
        (true, false) => Some(warning(name, "Orlop always does this")),
        (false, _) => Some(warning(name, "the gate changes nothing: Orlop does what its version says")),
    };
    gates.iter().filter_map(one).collect()
}
