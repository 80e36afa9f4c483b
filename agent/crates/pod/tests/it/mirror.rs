//! Static pods and their mirrors.

use crate::desired::{pod, with};
use orlop_model::PodUid;
use orlop_pod::{is_mirror, is_mirror_of, is_static, mirror_pod, static_pod};

#[test]
fn a_static_pod_and_its_mirror() {
    let manifest = pod(&with(""));
    let seen = "2026-01-01T00:00:00Z".parse().unwrap();
    let uid = PodUid::new("0123abcd").unwrap();
    let own = static_pod(&manifest, &uid, "Node-1", seen);
    assert_eq!(own.metadata.name.as_deref(), Some("web-node-1"));
    assert_eq!(own.metadata.namespace.as_deref(), Some("default"));
    let spec = own.spec.as_ref().unwrap();
    assert_eq!(spec.node_name.as_deref(), Some("Node-1"));
    assert_eq!(spec.tolerations.as_ref().unwrap().len(), 1);
    assert!(is_static(&own) && !is_mirror(&own) && !is_static(&manifest));

    let mirror = mirror_pod(&own, "Node-1", "node-uid");
    let annotations = mirror.metadata.annotations.as_ref().unwrap();
    for (key, value) in [
        ("kubernetes.io/config.source", "file"),
        ("kubernetes.io/config.seen", "2026-01-01T00:00:00Z"),
        ("kubernetes.io/config.hash", "0123abcd"),
        ("kubernetes.io/config.mirror", "0123abcd"),
    ] {
        assert_eq!(annotations.get(key).map(String::as_str), Some(value), "{key}");
    }
    let owner = &mirror.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Node", "node-uid", Some(true)));
    assert!(mirror.metadata.uid.is_none());
    assert!(is_mirror(&mirror) && is_mirror_of(&mirror, &own));

    let mut posing = own.clone();
    posing.metadata.resource_version = Some("1".to_owned());
    assert!(!is_static(&posing));

    let changed = static_pod(&manifest, &PodUid::new("ffff").unwrap(), "Node-1", seen);
    assert!(!is_mirror_of(&mirror, &changed));
    assert!(!is_mirror_of(&own, &own));
    let mut elsewhere = mirror.clone();
    elsewhere.metadata.namespace = Some("other".to_owned());
    assert!(!is_mirror_of(&elsewhere, &own));
}
