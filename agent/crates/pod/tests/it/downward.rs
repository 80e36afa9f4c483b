//! Files of the downward API.

use crate::desired::{admit_pod, pod};
use orlop_model::{ContainerName, DownwardSource, NodeAllocatable};
use orlop_pod::downward_file;
use std::collections::BTreeMap;

#[track_caller]
fn check(source: &DownwardSource, want: &str) {
    let mut pod = pod(
        "containers: [{name: a, image: x, resources: {limits: {cpu: 0, memory: 100M}, requests: {ephemeral-storage: 1500}}}]",
    );
    let map = |rows: &[(&str, &str)]| -> BTreeMap<String, String> {
        rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    pod.metadata.labels = Some(map(&[("b", "2"), ("app.kubernetes.io/name", "web")]));
    pod.metadata.annotations = Some(map(&[("note", "say \"hi\"\n\tto C:\\"), ("Example.com/x", "é")]));
    let desired = admit_pod(&pod).unwrap().pod;
    let node = NodeAllocatable { cpu_milli: 1930, memory: 1 << 30, ephemeral_storage: 5000, pods: 110 };
    let got = downward_file(source, &desired, &node).unwrap_or_else(|error| format!("error: {error}"));
    assert_eq!(got, want, "{source:?}");
}

#[test]
fn fields() {
    for (path, want) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u1"),
        ("metadata.labels", "app.kubernetes.io/name=\"web\"\nb=\"2\""),
        ("metadata.annotations", "Example.com/x=\"é\"\nnote=\"say \\\"hi\\\"\\n\\tto C:\\\\\""),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['z']", ""),
        ("metadata.annotations['Example.com/x']", "é"),
        ("status.podIP", "error: unsupported fieldPath: status.podIP"),
    ] {
        check(&DownwardSource::Field(path.to_owned()), want);
    }
}

#[test]
fn resources() {
    for (container, resource, divisor, want) in [
        // Zero means no limit: what the node has for pods.
        ("a", "limits.cpu", 1000, "2"),
        ("a", "limits.cpu", 1, "1930"),
        ("a", "limits.memory", 1_000_000, "100"),
        ("a", "limits.memory", 1 << 20, "96"),
        ("a", "requests.memory", 1, "100000000"),
        ("a", "limits.ephemeral-storage", 1, "5000"),
        ("a", "requests.ephemeral-storage", 1000, "2"),
        ("a", "limits.hugepages-2Mi", 1, "0"),
        ("z", "limits.cpu", 1, "error: container z not found"),
    ] {
        let container = ContainerName::new(container).unwrap();
        check(&DownwardSource::Resource { container, resource: resource.to_owned(), divisor }, want);
    }
}
