//! Taints that the pod bears.

use crate::field::{Findings, Path};
use k8s_openapi::api::core::v1::Toleration as Api;
use orlop_model::{TaintEffect, Toleration, TolerationOperator};

/// `spec.tolerations`; those in error are left out.
pub(super) fn tolerations(path: &Path, api: &[Api], out: &mut Findings) -> Vec<Toleration> {
    api.iter().enumerate().filter_map(|(index, one)| toleration(&path.index(index), one, out)).collect()
}

fn toleration(path: &Path, api: &Api, out: &mut Findings) -> Option<Toleration> {
    let key = api.key.clone().unwrap_or_default();
    let operator = match api.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => TolerationOperator::Equal,
        "Exists" => TolerationOperator::Exists,
        "Lt" => TolerationOperator::Lt,
        "Gt" => TolerationOperator::Gt,
        other => {
            out.unsupported(&path.child("operator"), other, &["Equal", "Exists", "Gt", "Lt"]);
            return None;
        }
    };
    if key.is_empty() && operator != TolerationOperator::Exists {
        out.invalid(
            &path.child("operator"),
            api.operator.as_deref().unwrap_or_default(),
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        );
    }
    let effect = match api.effect.as_deref().unwrap_or_default() {
        "" => None,
        text => {
            let effect = TaintEffect::parse(text);
            if effect.is_none() {
                out.unsupported(&path.child("effect"), text, &["NoExecute", "NoSchedule", "PreferNoSchedule"]);
            }
            Some(effect?)
        }
    };
    let value = api.value.clone().unwrap_or_default();
    Some(Toleration { key, operator, value, effect, seconds: api.toleration_seconds })
}
