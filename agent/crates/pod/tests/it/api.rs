//! Pods as an API server gives them to a node: admitted, without a word.

use crate::desired::context;
use k8s_openapi::api::core::v1::Pod;
use orlop_model::{NodeAllocatable, PodDesired, PodUid};
use orlop_pod::{NodeFacts, admit, admit_to_node, needs};
use std::collections::BTreeMap;

#[track_caller]
fn admitted(yaml: &str) -> PodDesired {
    let pod: Pod = serde_saphyr::from_str(yaml).unwrap();
    let uid = PodUid::new(pod.metadata.uid.clone().unwrap()).unwrap();
    let admitted = admit(&pod, uid, &context()).unwrap_or_else(|rejection| panic!("{rejection}"));
    assert_eq!(admitted.warnings, []);
    let labels = BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]);
    let allocatable = NodeAllocatable { cpu_milli: 2000, memory: 4 << 30, ephemeral_storage: 8 << 30, pods: 110 };
    let node = NodeFacts { name: "n1", labels: &labels, taints: &[], allocatable };
    admit_to_node(&pod, &admitted.pod, &node, std::iter::empty()).unwrap();
    admitted.pod
}

#[test]
fn deployment() {
    let pod = admitted(include_str!("api/deployment.yaml"));
    assert_eq!((pod.generation, pod.service_account.as_str(), pod.service_links), (Some(1), "web", true));
    assert_eq!(pod.pull_secrets, ["registry"]);
    assert_eq!(pod.tolerations.len(), 2);
    let needs = needs(&pod);
    assert_eq!(needs.tokens.iter().map(|ask| ask.expiration_secs).collect::<Vec<_>>(), [3607]);
    assert_eq!(needs.config_maps.keys().collect::<Vec<_>>(), ["kube-root-ca.crt", "settings"]);
}

#[test]
fn stateful_set() {
    let pod = admitted(include_str!("api/statefulset.yaml"));
    assert_eq!((pod.hostname.as_str(), pod.domain.as_deref()), ("db-0", Some("db.shop.svc.cluster.local")));
    assert_eq!(pod.readiness_gates, ["example.com/replica-in-sync"]);
    assert_eq!((pod.priority, pod.priority_class.as_deref()), (1000, Some("important")));
    assert_eq!(pod.dns.options, ["ndots:2"]);
}

#[test]
fn daemon_set() {
    let pod = admitted(include_str!("api/daemonset.yaml"));
    assert!(pod.host_network && pod.host_pid && !pod.dns.from_node);
    assert_eq!(pod.containers[0].ports[0].host_port, Some(9100));
}

#[test]
fn job() {
    let pod = admitted(include_str!("api/job.yaml"));
    assert_eq!((pod.resources.cpu_request_milli, pod.resources.memory_request), (10, 16 << 20));
    assert_eq!(pod.active_deadline_secs, Some(600));
    assert_eq!(pod.hostname, "render-3");
}
