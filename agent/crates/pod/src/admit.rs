//! From a manifest to a pod as wanted: the API server's defaults, its validation,
//! and the kubelet's, for what Orlop does. All errors are found at once.

mod container;
mod dns;
mod env;
mod mount;
mod name;
mod port;
mod probe;
mod projected;
mod resource;
mod security;
mod spec;
mod toleration;
mod volume;

use crate::field::{FieldError, Findings, Path};
use crate::fit::Refusal;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use orlop_model::{Deletion, PodDesired, PodKey, PodUid};
use std::fmt;
use std::net::IpAddr;

/// What admission has to know of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdmitContext {
    /// The node's name in the cluster; a pod for another node is refused.
    pub node_name: String,
    /// The node's own host name, which pods on the host network see.
    pub node_hostname: String,
    /// The cluster's name servers; empty makes `ClusterFirst` mean `Default`.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain, for example `cluster.local`.
    pub cluster_domain: String,
    /// Search domains of the node's `resolv.conf`, put after the cluster's.
    pub node_searches: Vec<String>,
    /// `seccompDefault`: what says nothing runs under `RuntimeDefault`.
    pub seccomp_default: bool,
    /// `allowedUnsafeSysctls`: names, or prefixes ending in `*`.
    pub allowed_sysctls: Vec<String>,
}

/// A pod that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The pod.
    pub pod: PodDesired,
    /// Fields that Orlop does not act on, though the pod can run without.
    pub warnings: Vec<FieldError>,
}

/// A pod that may not run, and every reason why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Rejection {
    /// Name from the manifest, perhaps empty.
    pub name: String,
    /// `Invalid`, `NotSupported` when only Orlop stands in the way, or the kubelet's
    /// `SysctlForbidden`.
    pub reason: &'static str,
    /// What the kubelet says, where it is the kubelet that refuses and not the API server.
    pub kubelet: Option<String>,
    /// What is wrong, at least one.
    pub errors: Vec<FieldError>,
    /// Warnings that were found as well.
    pub warnings: Vec<FieldError>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pod {:?} is invalid: ", self.name)?;
        match self.errors.as_slice() {
            [only] => write!(f, "{only}"),
            all => {
                let list: Vec<String> = all.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", list.join(", "))
            }
        }
    }
}

impl Rejection {
    /// As the event and the status of a pod that the API server gave say it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let message = self.kubelet.clone().unwrap_or_else(|| self.to_string());
        Refusal { reason: self.reason.to_owned(), message }
    }
}

/// Checks a pod and fills in what the API server would.
///
/// `uid` is the caller's: from the API server, or derived from the manifest.
///
/// # Errors
/// Every field that is wrong, in the API server's words.
pub fn admit(pod: &Pod, uid: PodUid, cx: &AdmitContext) -> Result<Admitted, Rejection> {
    let mut out = Findings::default();
    let key = metadata(&pod.metadata, &mut out);
    let default = PodSpec::default();
    let api = pod.spec.as_ref().unwrap_or(&default);
    let desired = spec::spec(&pod.metadata, api, uid, key, cx, &mut out);
    match desired {
        Some(pod) if out.errors.is_empty() => Ok(Admitted { pod, warnings: out.warnings }),
        Some(_) | None => Err(Rejection {
            name: pod.metadata.name.clone().unwrap_or_default(),
            reason: match &out.sysctl {
                Some(_) => "SysctlForbidden",
                None if out.not_yet == out.errors.len() => "NotSupported",
                None => "Invalid",
            },
            kubelet: out.sysctl,
            errors: out.errors,
            warnings: out.warnings,
        }),
    }
}

fn metadata(meta: &ObjectMeta, out: &mut Findings) -> Option<PodKey> {
    let path = Path::new("metadata");
    let pod = meta.name.as_deref().unwrap_or_default();
    if pod.is_empty() {
        out.required(&path.child("name"), "name or generateName is required");
    } else {
        name::subdomain(&path.child("name"), pod, out);
    }
    let namespace = namespace(meta);
    name::label(&path.child("namespace"), namespace, out);
    for (key, value) in meta.labels.iter().flatten() {
        name::qualified(&path.child("labels"), key, out);
        name::label_value(&path.child("labels"), value, out);
    }
    for key in meta.annotations.iter().flatten().map(|(key, _)| key) {
        name::qualified(&path.child("annotations"), &key.to_ascii_lowercase(), out);
    }
    let clean = out.errors.is_empty();
    match PodKey::new(namespace, pod) {
        Ok(key) => Some(key),
        Err(error) => {
            if clean {
                out.invalid(&path.child("name"), pod, error.problem);
            }
            None
        }
    }
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().filter(|text| !text.is_empty()).unwrap_or("default")
}

/// The API server sets `deletionTimestamp` to the moment by which the pod must be gone.
fn deletion(meta: &ObjectMeta, grace_default: u64) -> Option<Deletion> {
    let by = meta.deletion_timestamp.as_ref()?.0;
    let grace_secs = meta.deletion_grace_period_seconds.map_or(grace_default, |secs| u64::try_from(secs).unwrap_or(0));
    let grace = SignedDuration::from_secs(i64::try_from(grace_secs).unwrap_or(i64::MAX));
    Some(Deletion { at: by.saturating_sub(grace).unwrap_or(by), grace_secs })
}
