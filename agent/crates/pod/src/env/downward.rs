//! The downward API: what a container is told of its own pod.

use super::{EnvContext, EnvError};
use orlop_model::{ContainerResources, PodDesired};
use std::net::IpAddr;

pub(super) fn field(path: &str, pod: &PodDesired, cx: &EnvContext<'_>) -> Result<String, EnvError> {
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let all = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    Ok(match path {
        "metadata.name" => pod.key.name().to_owned(),
        "metadata.namespace" => pod.key.namespace().to_owned(),
        "metadata.uid" => pod.uid.to_string(),
        "spec.nodeName" => pod.node_name.clone(),
        "spec.serviceAccountName" => pod.service_account.clone(),
        "status.hostIP" => first(cx.host_ips),
        "status.hostIPs" => all(cx.host_ips),
        "status.podIP" => first(cx.pod_ips),
        "status.podIPs" => all(cx.pod_ips),
        other => {
            let key = |map| other.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']");
            // A label or annotation that is not there is empty, as in the kubelet.
            if let Some(key) = key("metadata.labels") {
                pod.labels.get(key).cloned().unwrap_or_default()
            } else if let Some(key) = key("metadata.annotations") {
                pod.annotations.get(key).cloned().unwrap_or_default()
            } else {
                return Err(EnvError::Field(other.to_owned()));
            }
        }
    })
}

/// Rounded up to whole divisors; a limit that is not given is the node's capacity.
pub(super) fn resource(
    name: &str,
    divisor: u64,
    of: &ContainerResources,
    cx: &EnvContext<'_>,
) -> Result<String, EnvError> {
    let value = match name {
        "limits.cpu" => of.cpu_limit_milli.unwrap_or(cx.node_cpu_milli),
        "limits.memory" => of.memory_limit.unwrap_or(cx.node_memory),
        "limits.ephemeral-storage" => of.ephemeral_storage_limit.unwrap_or(cx.node_storage),
        "requests.cpu" => of.cpu_request_milli.unwrap_or(0),
        "requests.memory" => of.memory_request.unwrap_or(0),
        other => return Err(EnvError::Field(other.to_owned())),
    };
    Ok(value.div_ceil(divisor.max(1)).to_string())
}
