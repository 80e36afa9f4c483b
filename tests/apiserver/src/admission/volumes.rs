//! The defaults of volumes: pkg/apis/core/v1/defaults.go.

use serde_json::{Value, json};

use super::{default_to, items};

/// Fills in a volume. Modes are decimal: 420 is 0644.
pub(super) fn defaults(volume: &mut Value) {
    if volume.as_object().is_some_and(|fields| fields.len() == 1 && fields.contains_key("name")) {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        let Some(inner) = volume.get_mut(source).filter(|inner| inner.is_object()) else { continue };
        default_to(inner, "defaultMode", json!(420));
        for item in items(inner, "items").filter(|_| source == "downwardAPI") {
            downward(item);
        }
        for part in items(inner, "sources") {
            if let Some(token) = part.get_mut("serviceAccountToken") {
                default_to(token, "expirationSeconds", json!(3600));
            }
            if let Some(api) = part.get_mut("downwardAPI") {
                items(api, "items").for_each(downward);
            }
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        default_to(path, "type", json!(""));
    }
}

fn downward(item: &mut Value) {
    if let Some(field) = item.get_mut("fieldRef").filter(|field| field.is_object()) {
        default_to(field, "apiVersion", json!("v1"));
    }
    if let Some(field) = item.get_mut("resourceFieldRef").filter(|field| field.is_object()) {
        default_to(field, "divisor", json!("0"));
    }
}
