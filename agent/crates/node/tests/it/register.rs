//! A new Node, and one that is there.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use orlop_node::{Cloud, ImageOnNode, Machine, NodeFacts, RuntimeHandler, Seen, Settings, reconcile, register};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn facts() -> NodeFacts {
    let settings = Settings {
        name: "n1".into(),
        hostname: "n1".into(),
        kubelet_version: "v1.36.0".into(),
        runtime_version: "orlop://0.1.0".into(),
        runtime_handlers: vec![RuntimeHandler {
            name: String::new(),
            recursive_read_only_mounts: true,
            user_namespaces: false,
        }],
        supplemental_groups_policy: Some(true),
        ..Settings::default()
    };
    let machine = Machine {
        cpus: 2,
        memory_bytes: 4 << 30,
        storage_bytes: Some(20 << 30),
        hugepages: BTreeMap::from([(2 << 20, 0)]),
        swap_bytes: 1 << 30,
        machine_id: "m".into(),
        system_uuid: "u".into(),
        boot_id: "b".into(),
        kernel_version: "6.12.0".into(),
        os_image: "Debian".into(),
        architecture: "amd64".into(),
    };
    let seen = Seen {
        addresses: vec!["192.0.2.1".parse().unwrap()],
        images: vec![ImageOnNode { digests: vec![], tags: vec!["a:1".into()], size_bytes: 7 }],
        ..Seen::default()
    };
    NodeFacts { settings, machine, seen }
}

#[test]
fn a_new_node_says_all_that_a_kubelets_says() {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": "1970-01-01T00:00:01Z", "lastTransitionTime": "1970-01-01T00:00:01Z",
        })
    };
    let want = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "n1",
            "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": "n1",
                "kubernetes.io/os": "linux",
            },
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "Hostname", "address": "n1"},
            ],
            "capacity": {
                "cpu": "2", "memory": "4Gi", "pods": "110", "ephemeral-storage": "20Gi", "hugepages-2Mi": "0",
            },
            "allocatable": {
                "cpu": "2", "memory": "3996Mi", "pods": "110", "ephemeral-storage": "19327352800", "hugepages-2Mi": "0",
            },
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "nodeInfo": {
                "machineID": "m", "systemUUID": "u", "bootID": "b", "kernelVersion": "6.12.0", "osImage": "Debian",
                "containerRuntimeVersion": "orlop://0.1.0", "kubeletVersion": "v1.36.0", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": "amd64", "swap": {"capacity": 1_073_741_824},
            },
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": [{"names": ["a:1"], "sizeBytes": 7}],
            "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": true, "userNamespaces": false}}],
            "features": {"supplementalGroupsPolicy": true},
        },
    });
    assert_eq!(serde_json::to_value(register(&facts(), at(1))).unwrap(), want);
}

#[test]
fn what_is_given_goes_into_a_new_node() {
    let mut facts = facts();
    let labels = [("pool", "a"), ("kubernetes.io/hostname", "other")];
    facts.settings.labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    facts.settings.taints = vec![Taint { key: "t".into(), effect: "NoExecute".into(), ..Taint::default() }];
    facts.settings.provider_id = "cloud://1".into();
    facts.settings.cloud = Cloud::External;
    facts.settings.node_ip_given = true;
    facts.settings.controller_attach_detach = false;
    facts.settings.declared_features = vec!["F".into()];
    let node = serde_json::to_value(register(&facts, at(1))).unwrap();
    assert_eq!(node["metadata"]["labels"]["pool"], "a");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "other");
    assert_eq!(node["metadata"]["annotations"], json!({"alpha.kubernetes.io/provided-node-ip": "192.0.2.1"}));
    assert_eq!(node["status"]["declaredFeatures"], json!(["F"]));
    let taint =
        json!({"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"});
    let want = json!({"providerID": "cloud://1", "taints": [{"key": "t", "effect": "NoExecute"}, taint]});
    assert_eq!(node["spec"], want);
}

#[track_caller]
fn check(change: impl FnOnce(&mut Node, &mut NodeFacts), want: Option<Value>) {
    let mut facts = facts();
    let mut node = register(&facts, at(1));
    change(&mut node, &mut facts);
    assert_eq!(reconcile(&node, &facts).map(|patch| patch.as_value().clone()), want);
}

fn labels(node: &mut Node) -> &mut BTreeMap<String, String> {
    node.metadata.labels.as_mut().unwrap()
}

#[test]
fn a_node_that_is_there_is_told_its_defaults_and_no_more() {
    check(|_, _| (), None);
    check(
        |node, facts| {
            labels(node).insert("theirs".into(), "x".into());
            node.metadata.annotations.as_mut().unwrap().insert("theirs".into(), "x".into());
            let taint = Taint { key: "theirs".into(), effect: "NoSchedule".into(), ..Taint::default() };
            node.spec = Some(NodeSpec { taints: Some(vec![taint]), ..NodeSpec::default() });
            facts.settings.taints = vec![Taint { key: "t".into(), effect: "NoExecute".into(), ..Taint::default() }];
            facts.settings.labels = BTreeMap::from([("pool".into(), "b".into())]);
            // A report's business, not reconciliation's.
            facts.machine.memory_bytes = 1 << 30;
        },
        None,
    );
    check(
        |node, facts| {
            labels(node).insert("kubernetes.io/arch".into(), "arm64".into());
            labels(node).remove("kubernetes.io/hostname");
            facts.settings.labels = BTreeMap::from([("topology.kubernetes.io/zone".into(), "z".into())]);
        },
        Some(json!({"metadata": {"labels": {
            "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "n1", "topology.kubernetes.io/zone": "z",
        }}})),
    );
    check(
        |_, facts| facts.settings.controller_attach_detach = false,
        Some(json!({"metadata": {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": null}}})),
    );
    check(
        |node, _| node.metadata.annotations = None,
        Some(json!({"metadata": {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}}})),
    );
}

#[test]
fn huge_pages_follow_the_machine_and_foreign_resources_stay() {
    check(
        |node, facts| {
            let status = node.status.as_mut().unwrap();
            for list in [&mut status.capacity, &mut status.allocatable] {
                list.as_mut().unwrap().insert("a.io/gpu".into(), Quantity("4".into()));
            }
            facts.machine.hugepages = BTreeMap::from([(1 << 30, 2 << 30)]);
        },
        Some(json!({"status": {
            "capacity": {"hugepages-2Mi": null, "hugepages-1Gi": "2Gi"},
            "allocatable": {"hugepages-2Mi": null, "hugepages-1Gi": "2Gi"},
        }})),
    );
}
