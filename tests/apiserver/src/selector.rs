//! Label and field selectors, as the query parameters say them.

use serde_json::Value;

use crate::status::Status;

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

/// What an object must have to be part of a list or a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    /// (field, value, whether equal)
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Reads both parameters; empty means everything. `stored_as` decides which fields exist.
    pub(crate) fn parse(stored_as: &str, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = split_outside_parentheses(labels).iter().map(|one| requirement(one)).collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|one| !one.is_empty())
            .map(|one| field_requirement(stored_as, one))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether the object is selected.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|one| one.holds(labels))
            && self.fields.iter().all(|(path, value, equal)| (field(object, path) == *value) == *equal)
    }

    /// The value that a field must have, when the selector says one.
    pub(crate) fn required(&self, path: &str) -> Option<&str> {
        self.fields.iter().find(|(one, _, equal)| one == path && *equal).map(|(_, value, _)| value.as_str())
    }
}

impl Requirement {
    fn holds(&self, labels: &Value) -> bool {
        let label = |key: &str| labels[key].as_str();
        match self {
            Self::In(key, values) => label(key).is_some_and(|have| values.iter().any(|one| one == have)),
            Self::NotIn(key, values) => label(key).is_none_or(|have| values.iter().all(|one| one != have)),
            Self::Exists(key) => label(key).is_some(),
            Self::DoesNotExist(key) => label(key).is_none(),
        }
    }
}

/// The label selector of a Service or a replica set (`matchLabels` only) on an object.
pub(crate) fn matches_map(wanted: &Value, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    wanted
        .as_object()
        .is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key.as_str()] == *value))
}

fn split_outside_parentheses(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut part) = (Vec::new(), 0_u32, String::new());
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(letter);
    }
    parts.push(part);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn requirement(text: &str) -> Result<Requirement, Status> {
    let text = text.trim();
    let unable = || Status::bad_request(format!("unable to parse requirement: {text}"));
    if let Some((head, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(unable)?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => Ok(Requirement::In((*key).to_owned(), values)),
            [key, "notin"] => Ok(Requirement::NotIn((*key).to_owned(), values)),
            _ => Err(unable()),
        };
    }
    let one = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    if let Some((key, value)) = text.split_once("!=") {
        let (key, values) = one(key, value);
        return Ok(Requirement::NotIn(key, values));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        let (key, values) = one(key, value);
        return Ok(Requirement::In(key, values));
    }
    if text.contains(char::is_whitespace) {
        return Err(unable());
    }
    Ok(match text.strip_prefix('!') {
        Some(key) => Requirement::DoesNotExist(key.trim().to_owned()),
        None => Requirement::Exists(text.to_owned()),
    })
}

/// The fields that a resource can be selected by, besides name and namespace.
fn selectable(stored_as: &str) -> &'static [&'static str] {
    match stored_as {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        "services" => &["spec.clusterIP", "spec.type"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "certificatesigningrequests" => &["spec.signerName"],
        _ => &[],
    }
}

fn field_requirement(stored_as: &str, text: &str) -> Result<(String, String, bool), Status> {
    let (path, value, equal) = if let Some((path, value)) = text.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (path, value, true)
    } else {
        return Err(Status::bad_request(format!("invalid field selector: {text}")));
    };
    // events.k8s.io says `regarding` for the same field.
    let path = path.replacen("regarding.", "involvedObject.", 1);
    if !["metadata.name", "metadata.namespace"].contains(&path.as_str()) && !selectable(stored_as).contains(&&*path) {
        return Err(Status::bad_request(format!("field label not supported: {path}")));
    }
    Ok((path, value.to_owned(), equal))
}

fn field(object: &Value, path: &str) -> String {
    if path == "source" {
        return object["source"]["component"].as_str().unwrap_or_default().to_owned();
    }
    let found = path.split('.').fold(object, |at, step| &at[step]);
    match found {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        // An absent flag selects as false, an absent text as empty.
        Value::Null if ["spec.unschedulable", "spec.hostNetwork"].contains(&path) => "false".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_select() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        for (selector, selected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("zone!=a", true),
            ("app in (web, db)", true),
            ("app in (db),tier", false),
            ("app notin (db,cache)", true),
            ("zone notin (a)", true),
            ("tier", true),
            ("!tier", false),
            ("!zone", true),
        ] {
            let parsed = Selector::parse("pods", selector, "").expect(selector);
            assert_eq!(parsed.selects(&object), selected, "{selector}");
        }
        for wrong in ["a b", "app in web", "app within (web)", "app in (web"] {
            assert_eq!(Selector::parse("pods", wrong, "").map_err(|refused| refused.code), Err(400), "{wrong}");
        }
    }

    #[test]
    fn fields_select() {
        let object = json!({
            "metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"},
        });
        for (selector, selected) in [
            ("spec.nodeName=n1", true),
            ("spec.nodeName==n2", false),
            ("metadata.name=a,metadata.namespace=n", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=n1,status.phase!=Failed", true),
            ("spec.hostNetwork=false", true),
            ("status.podIP=", true),
        ] {
            let parsed = Selector::parse("pods", "", selector).expect(selector);
            assert_eq!(parsed.selects(&object), selected, "{selector}");
        }
        let refused = Selector::parse("configmaps", "", "spec.nodeName=n1").expect_err("no such field");
        assert_eq!(refused.message, "field label not supported: spec.nodeName");
    }
}
