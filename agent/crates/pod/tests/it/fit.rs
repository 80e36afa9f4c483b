//! Admission to the node: reasons and words of the kubelet.

use crate::desired::{admit_pod, pod};
use k8s_openapi::api::core::v1::Pod;
use orlop_model::{NodeAllocatable, Taint, TaintEffect};
use orlop_pod::{NodeFacts, Refusal, admit_to_node, static_pod};
use std::collections::BTreeMap;

const ONE: &str = "containers: [{name: a, image: x, resources: {requests: {cpu: 500m, memory: 100Mi, ephemeral-storage: 10}}, ports: [{containerPort: 80, hostPort: 8080}]}]";

fn refusal(pod: &Pod, taints: &[Taint], pods: u64) -> Option<Refusal> {
    let labels = BTreeMap::from([
        ("disk".to_owned(), "ssd".to_owned()),
        ("cores".to_owned(), "8".to_owned()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
    ]);
    let allocatable = NodeAllocatable { cpu_milli: 1000, memory: 200 << 20, ephemeral_storage: 25, pods };
    let node = NodeFacts { name: "n1", labels: &labels, taints, allocatable };
    let active = crate::desired::desired(ONE);
    let desired = admit_pod(pod).unwrap().pod;
    admit_to_node(pod, &desired, &node, [&active].into_iter()).err()
}

/// Each row: fields of a spec with the container `a`, and what is said, after its reason.
#[track_caller]
fn check(container: &str, fields: &str, want: &str) {
    let pod = pod(&format!("{{containers: [{{name: a, image: x, {container}}}], {fields}}}"));
    let got = refusal(&pod, &[], 110).map(|refusal| format!("{}: {}", refusal.reason, refusal.message));
    assert_eq!(got.unwrap_or_default(), want, "{container} {fields}");
}

#[test]
fn resources() {
    let requests = |list: &str| format!("resources: {{requests: {{{list}}}}}");
    let short = |name: &str, requested: u64, used: u64, capacity: u64| {
        format!(
            "OutOf{name}: Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    };
    check("", "", "");
    check(&requests("cpu: 500m, memory: 100Mi"), "", "");
    check(&requests("cpu: 501m"), "", &short("cpu", 501, 500, 1000));
    check(&requests("memory: 101Mi"), "", &short("memory", 101 << 20, 100 << 20, 200 << 20));
    check(&requests("ephemeral-storage: 16"), "", &short("ephemeral-storage", 16, 10, 25));
    check(&requests("cpu: 400m"), "overhead: {cpu: 101m}", &short("cpu", 501, 500, 1000));
    let init = "initContainers: [{name: i, image: x, resources: {requests: {cpu: 600m}}}]";
    check(&requests("cpu: 400m"), init, &short("cpu", 600, 500, 1000));
    // A critical pod shares.
    check(&requests("cpu: 501m"), "priority: 2000000000", "");
    let refusal = refusal(&pod("containers: [{name: a, image: x}]"), &[], 1).unwrap();
    assert_eq!(refusal.to_string(), "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1");
    let status = refusal.status(Some(2), crate::world::epoch());
    assert_eq!(status.observed_generation, Some(2));
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("OutOfpods")));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1")
    );
}

#[test]
fn node_affinity() {
    let not = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    check("", "nodeName: n1, nodeSelector: {disk: ssd}", "");
    check("", "nodeName: n1, nodeSelector: {disk: hdd}", not);
    check("", "nodeName: n1, nodeSelector: {none: x}", not);
    let affinity = |terms: &str| {
        format!(
            "nodeName: n1, affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}}}}}"
        )
    };
    for (terms, matches) in [
        ("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}", true),
        ("{matchFields: [{key: metadata.name, operator: In, values: [n2]}]}", false),
        ("{matchFields: [{key: metadata.name, operator: NotIn, values: [n2]}]}", true),
        ("{}", false),
        ("{}, {matchExpressions: [{key: disk, operator: Exists}]}", true),
        ("{matchExpressions: [{key: disk, operator: In, values: [hdd, ssd]}]}", true),
        ("{matchExpressions: [{key: disk, operator: NotIn, values: [ssd]}]}", false),
        ("{matchExpressions: [{key: none, operator: NotIn, values: [ssd]}]}", true),
        ("{matchExpressions: [{key: none, operator: DoesNotExist}]}", true),
        (
            "{matchExpressions: [{key: cores, operator: Gt, values: ['7']}, {key: cores, operator: Lt, values: ['9']}]}",
            true,
        ),
        ("{matchExpressions: [{key: cores, operator: Gt, values: ['8']}]}", false),
        ("{matchExpressions: [{key: disk, operator: Gt, values: ['1']}]}", false),
        ("{matchExpressions: [{key: disk, operator: Like, values: [s]}]}", false),
    ] {
        check("", &affinity(terms), if matches { "" } else { not });
    }
}

#[test]
fn host_ports() {
    let not = "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    for (port, free) in [
        ("containerPort: 1, hostPort: 8081", true),
        ("containerPort: 1, hostPort: 8080", false),
        ("containerPort: 1, hostPort: 8080, protocol: UDP", true),
        ("containerPort: 1, hostPort: 8080, hostIP: 127.0.0.1", false),
        ("containerPort: 8080", true),
    ] {
        check(&format!("ports: [{{{port}}}]"), "", if free { "" } else { not });
    }
    check("ports: [{containerPort: 8080}]", "hostNetwork: true", not);
}

#[test]
fn taints() {
    let taint = |effect| vec![Taint { key: "gone".into(), value: String::new(), effect }];
    let not = Some("Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate".to_owned());
    let say = |pod: &Pod, effect| refusal(pod, &taint(effect), 110).map(|refusal| refusal.message);
    let plain = pod("containers: [{name: a, image: x}]");
    assert_eq!(say(&plain, TaintEffect::NoExecute), not);
    assert_eq!(say(&plain, TaintEffect::NoSchedule), None);
    let bears = pod("{containers: [{name: a, image: x}], tolerations: [{key: gone, operator: Exists}]}");
    assert_eq!(say(&bears, TaintEffect::NoExecute), None);
    let mut own = static_pod(&plain, &orlop_model::PodUid::new("u").unwrap(), "n1", crate::world::epoch());
    own.spec.as_mut().unwrap().tolerations = None;
    assert_eq!(say(&own, TaintEffect::NoExecute), None);
}

#[test]
fn operating_systems() {
    let mut windows = pod("containers: [{name: a, image: x}]");
    windows.metadata.labels = Some([("kubernetes.io/os".to_owned(), "windows".to_owned())].into());
    assert_eq!(
        refusal(&windows, &[], 110).unwrap(),
        Refusal {
            reason: "PodOSSelectorNodeLabelDoesNotMatch".to_owned(),
            message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label".to_owned(),
        }
    );
}
