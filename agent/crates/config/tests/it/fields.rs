//! The tables against the types they stand for.

use orlop_config::{ConfigError, Field, Inputs, Source, Treatment, kubelet_fields, load, markdown, proxy_fields};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Every field of the type, by path: taken from the Go types of v1.36.
const KUBELET: &str = include_str!("kubelet-v1.36.txt");
const PROXY: &str = include_str!("kube-proxy-v1.36.txt");

#[track_caller]
fn check(table: &[Field], list: &str) {
    let wanted: BTreeSet<&str> = list.lines().collect();
    let found: BTreeSet<&str> = table.iter().map(|field| field.path).collect();
    assert_eq!(found.len(), table.len(), "a path is there twice");
    assert_eq!(wanted.difference(&found).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the table");
    assert_eq!(found.difference(&wanted).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the type");
}

#[test]
fn every_field_of_the_types_is_in_the_tables() {
    check(kubelet_fields(), KUBELET);
    check(proxy_fields(), PROXY);
}

#[test]
fn rows_are_sound() {
    let mut flags = BTreeSet::new();
    for field in kubelet_fields().iter().chain(proxy_fields()) {
        let text = match field.treatment {
            Treatment::Supported => "it is",
            Treatment::Warned(text) | Treatment::NotOurs(text) => text,
        };
        assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text:?}", field.path);
        let default = field.default.is_empty() || serde_json::from_str::<Value>(field.default).is_ok();
        assert!(default, "{}: its default {} is no JSON", field.path, field.default);
        assert!(field.flag.is_empty() || flags.insert(field.flag), "--{} is there twice", field.flag);
    }
}

#[test]
fn nothing_said_is_the_defaults_without_a_warning() {
    let loaded = load(&Inputs::default()).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.orlop, None);
    let kubelet = loaded.kubelet;
    assert_eq!((kubelet.port, kubelet.healthz_port, kubelet.max_pods), (10250, 10248, 110));
    assert_eq!(kubelet.pod_pids_limit, None);
    assert_eq!(kubelet.node_status_report_frequency.as_secs(), 300);
    assert!(kubelet.serialize_image_pulls && kubelet.authentication.webhook.enabled);
    assert!(!kubelet.authentication.anonymous.enabled);
    assert_eq!(kubelet.eviction_hard.len(), 5);
    assert_eq!(kubelet.container_log_max_size, 10 << 20);
    assert_eq!(loaded.proxy.healthz_bind_address.to_string(), "0.0.0.0:10256");
}

#[test]
fn the_docs_table_has_a_line_for_each() {
    let table = markdown(kubelet_fields());
    assert_eq!(table.lines().count(), kubelet_fields().len() + 2);
    assert!(table.contains("| `maxPods` | `--max-pods` | `110` | supported |\n"), "{table}");
    assert!(table.contains("| `tracing` |  |  | warned of: no traces are sent |\n"), "{table}");
}

/// Any value at any field is taken, or refused with the field's name.
#[track_caller]
fn check_odd_values(table: &[Field], kind: &str, version: &str) {
    let odd = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1e30),
        json!(u64::MAX),
        json!(0.5),
        json!(true),
        json!(""),
        json!("x"),
        json!("-5s"),
        json!("1e18Ei"),
        json!([]),
        json!([null]),
        json!([[1]]),
        json!({}),
        json!({"": null}),
        json!({"a": {"b": 1}}),
        json!("9999999999h"),
    ];
    for field in table {
        for value in &odd {
            let nested = field.path.rsplit('.').fold(value.clone(), |value, key| json!({ key: value }));
            let mut document = json!({"apiVersion": version, "kind": kind});
            document.as_object_mut().unwrap().extend(nested.as_object().unwrap().clone());
            let source = Source { path: "c.json".into(), text: Value::to_string(&document) };
            match load(&Inputs { files: vec![source], ..Inputs::default() }) {
                Ok(_) => {}
                Err(ConfigError::Field { field: named, .. }) => {
                    let same = named == field.path || named.starts_with(&format!("{}[", field.path));
                    // Two fields that must go together: the one that speaks may be the other.
                    let pair = ["tls", "imageGC", "eviction", "shutdownGracePeriod"];
                    let paired = pair.iter().any(|start| field.path.starts_with(start) && named.starts_with(start));
                    let neighbours = field.path == "imageMinimumGCAge" || field.path == "imageMaximumGCAge";
                    assert!(same || paired || neighbours, "{} = {value}: blames {named}", field.path);
                }
                Err(other) => panic!("{} = {value}: {other}", field.path),
            }
        }
    }
}

#[test]
fn odd_values_are_taken_or_named() {
    check_odd_values(kubelet_fields(), "KubeletConfiguration", "kubelet.config.k8s.io/v1beta1");
    check_odd_values(proxy_fields(), "KubeProxyConfiguration", "kubeproxy.config.k8s.io/v1alpha1");
}
