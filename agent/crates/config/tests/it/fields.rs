//! The tables against the types they stand for.

use orlop_config::{Field, Inputs, Treatment, kubelet_fields, load, markdown, proxy_fields};
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
        let default = field.default.is_empty() || serde_json::from_str::<serde_json::Value>(field.default).is_ok();
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
