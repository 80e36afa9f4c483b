//! Static pods and the mirror pods that stand for them at the API server.

use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use orlop_model::PodUid;
use std::collections::BTreeMap;

const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";
const HASH: &str = "kubernetes.io/config.hash";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod of a manifest as this node runs it: `NAME-NODE`, bound to the node, bearing
/// all `NoExecute` taints, with the annotations that say where it came from. `uid` is
/// derived from the manifest, and is its hash as well; `seen` is when it first was read.
#[must_use]
pub fn static_pod(manifest: &Pod, uid: &PodUid, node_name: &str, seen: jiff::Timestamp) -> Pod {
    let mut pod = manifest.clone();
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{}-{}", meta.name.as_deref().unwrap_or_default(), node_name.to_ascii_lowercase()));
    meta.namespace = meta.namespace.take().filter(|text| !text.is_empty()).or_else(|| Some("default".to_owned()));
    meta.uid = Some(uid.to_string());
    let annotations = meta.annotations.get_or_insert_default();
    for (key, value) in [(SOURCE, "file".to_owned()), (SEEN, seen.to_string()), (HASH, uid.to_string())] {
        annotations.insert(key.to_owned(), value);
    }
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    let exists = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&exists) {
        tolerations.push(exists);
    }
    pod.status = Some(PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() });
    pod
}

/// The object to create at the API server for a static pod. It belongs to the node
/// (`node_uid`), which the API server's NodeRestriction demands.
#[must_use]
pub fn mirror_pod(of: &Pod, node_name: &str, node_uid: &str) -> Pod {
    let mut annotations = of.metadata.annotations.clone().unwrap_or_default();
    let hash = annotations.get(HASH).cloned().unwrap_or_default();
    annotations.insert(MIRROR.to_owned(), hash);
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node_name.to_owned(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let metadata = ObjectMeta {
        name: of.metadata.name.clone(),
        namespace: of.metadata.namespace.clone(),
        labels: of.metadata.labels.clone(),
        annotations: Some(annotations),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: of.spec.clone(), status: None }
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a String> {
    let annotations: &BTreeMap<String, String> = pod.metadata.annotations.as_ref()?;
    annotations.get(key)
}

/// Whether the pod came from somewhere else than the API server. An object of the API
/// server, which always has a resource version, is none, whatever it says of itself.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    pod.metadata.resource_version.is_none() && annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

/// Whether the object of the API server only stands for a static pod: it is not run.
#[must_use]
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// The UID of the static pod that a mirror stands for, which is its hash.
#[must_use]
pub fn mirrored_uid(mirror: &Pod) -> Option<&str> {
    annotation(mirror, MIRROR).map(String::as_str)
}

/// Whether `mirror` stands for this very state of the static pod; if not, it is
/// deleted and made anew.
#[must_use]
pub fn is_mirror_of(mirror: &Pod, of: &Pod) -> bool {
    let same = |part: fn(&ObjectMeta) -> &Option<String>| part(&mirror.metadata) == part(&of.metadata);
    let hash = annotation(of, HASH).map_or("", String::as_str);
    same(|meta| &meta.name) && same(|meta| &meta.namespace) && annotation(mirror, MIRROR).is_some_and(|m| m == hash)
}
