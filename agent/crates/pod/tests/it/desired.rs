//! Pods from a few lines of YAML.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use orlop_model::{PodDesired, PodUid};
use orlop_pod::{AdmitContext, Admitted, Rejection, admit};

/// The node of these tests.
pub fn context() -> AdmitContext {
    AdmitContext {
        node_name: "n1".to_owned(),
        node_hostname: "node-one".to_owned(),
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".to_owned(),
        node_searches: vec!["example.org".to_owned()],
        ..AdmitContext::default()
    }
}

/// A pod named `web` of namespace `default`.
pub fn pod(spec: &str) -> Pod {
    let spec: PodSpec = serde_saphyr::from_str(spec).unwrap_or_else(|error| panic!("{error}\n{spec}"));
    let metadata = ObjectMeta { name: Some("web".to_owned()), ..ObjectMeta::default() };
    Pod { metadata, spec: Some(spec), status: None }
}

pub fn admit_pod(pod: &Pod) -> Result<Admitted, Rejection> {
    admit(pod, PodUid::new("u1").unwrap(), &context())
}

pub fn desired(spec: &str) -> PodDesired {
    admit_pod(&pod(spec)).unwrap_or_else(|rejection| panic!("{rejection}")).pod
}

/// A pod of one container that has these fields too.
pub fn with(fields: &str) -> String {
    format!("containers: [{{name: a, image: x:1, {fields}}}]")
}
