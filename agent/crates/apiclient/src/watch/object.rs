//! Events and list items, read without a tree in between.

use crate::client::{ListMeta, decode};
use crate::error::ApiError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Set to `true` on the bookmark that ends a streaming list (KEP-3157).
const LIST_END: &str = "k8s.io/initial-events-end";

/// One line of a watch: what happened, and the object not yet read.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    pub(super) r#type: &'a str,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// A page with its items not yet read, so that one that cannot be read does not cost the others.
#[derive(Deserialize)]
pub(super) struct RawPage<'a> {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    #[serde(borrow, default, deserialize_with = "crate::client::null_is_empty")]
    pub(super) items: Vec<&'a RawValue>,
}

/// What every object says about itself, as far as a watch needs it.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Meta {
    namespace: String,
    name: String,
    pub(super) resource_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Headed<M> {
    metadata: M,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Annotated {
    annotations: Option<HashMap<String, String>>,
}

/// Whether a bookmark ends a list.
pub(super) fn ends_list(object: &RawValue) -> bool {
    let read = serde_json::from_str::<Headed<Annotated>>(object.get()).unwrap_or_default();
    read.metadata.annotations.is_some_and(|all| all.get(LIST_END).is_some_and(|value| value == "true"))
}

impl Meta {
    pub(super) fn of(object: &RawValue) -> Self {
        serde_json::from_str::<Headed<Self>>(object.get()).unwrap_or_default().metadata
    }

    /// `namespace/name`, for whoever has to find the object.
    fn title(&self) -> String {
        match (self.namespace.as_str(), self.name.as_str()) {
            (_, "") => "an object without a name".to_owned(),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

/// An object, or the error that names it.
pub(super) fn read<T: DeserializeOwned>(call: &str, object: &RawValue) -> Result<T, ApiError> {
    serde_json::from_str(object.get()).or_else(|_| {
        let title = Meta::of(object).title();
        decode(&format!("{call}: {title}"), object.get().as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[allow(dead_code, reason = "only read")]
    struct Strict {
        spec: Spec,
    }
    #[derive(Deserialize, Debug)]
    #[allow(dead_code, reason = "only read")]
    struct Spec {
        port: u16,
    }

    #[test]
    fn lines_and_their_objects() {
        let text = r#"{"type":"ADDED","object":{"metadata":{"namespace":"a","name":"b","resourceVersion":"7"},"spec":{"port":"x"}}}"#;
        let line: Line<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(line.r#type, "ADDED");
        assert_eq!(Meta::of(line.object).resource_version, "7");
        let error = crate::error::chain(&read::<Strict>("GET /x", line.object).unwrap_err());
        assert!(error.starts_with("GET /x: a/b: the answer is not understood at spec.port"), "{error}");
    }

    #[test]
    fn the_end_of_a_list() {
        let ends = |annotations: &str| {
            let text = format!(r#"{{"metadata":{{"resourceVersion":"7","annotations":{annotations}}}}}"#);
            ends_list(&RawValue::from_string(text).unwrap())
        };
        assert!(ends(r#"{"k8s.io/initial-events-end":"true"}"#));
        assert!(!ends(r#"{"k8s.io/initial-events-end":"false"}"#) && !ends("null") && !ends("{}"));
    }
}
