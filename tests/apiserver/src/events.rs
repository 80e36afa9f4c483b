//! Events have two groups and one store: the newer form is made on the way in and out.

use serde_json::{Value, json};

use crate::resource::Resource;

/// (in the core group, in events.k8s.io)
const FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A stored object as its resource shows it.
pub(crate) fn shown(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if resource.stored_as == "events" {
        object["apiVersion"] = json!(resource.api_version());
        if resource.group == "events.k8s.io" {
            rename(&mut object, |(core, new)| (core, new));
        }
    }
    object
}

/// An object as given, in the form that is stored.
pub(crate) fn given(resource: &Resource, mut object: Value) -> Value {
    if resource.group == "events.k8s.io" {
        rename(&mut object, |(core, new)| (new, core));
    }
    object
}

fn rename(object: &mut Value, way: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(object) = object.as_object_mut() else { return };
    for &pair in FIELDS {
        let (from, to) = way(pair);
        if let Some(value) = object.remove(from) {
            object.insert(to.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;

    #[test]
    fn an_event_goes_in_and_out_of_both_groups() {
        let new = resource::named("events.events.k8s.io");
        let object = json!({"apiVersion": "events.k8s.io/v1", "note": "text", "regarding": {"name": "p"}});
        let stored = given(new, object.clone());
        assert_eq!(stored["message"], "text");
        assert_eq!(stored["involvedObject"]["name"], "p");
        assert_eq!(shown(new, &stored), object);
    }
}
