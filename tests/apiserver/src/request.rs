//! What a path and a method ask for.

use std::collections::BTreeMap;

use crate::auth::Attributes;
use crate::resource::{self, REVIEWS};
use crate::selector::Selector;

/// The parameters of a query, decoded.
pub(crate) type Query = BTreeMap<String, String>;

/// Decodes a query; of several values for a name the first counts.
pub(crate) fn query(text: &str) -> Query {
    let mut found = Query::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.entry(decoded(name)).or_insert_with(|| decoded(value));
    }
    found
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or("3f");
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            plain => plain,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a parameter says yes.
pub(crate) fn yes(query: &Query, name: &str) -> bool {
    query.get(name).is_some_and(|value| ["1", "true", "True", "TRUE", "t", ""].contains(&value.as_str()))
}

/// Reads a request as `RequestInfoFactory` does. A path outside of `/api` and `/apis`
/// (or a discovery path) has no resource.
pub(crate) fn attributes(method: &str, path: &str, query: &Query) -> Attributes {
    let plain = Attributes { verb: method.to_lowercase(), path: path.into(), ..Attributes::default() };
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] if !rest.is_empty() => ("", rest),
        ["apis", group, "v1", rest @ ..] if !rest.is_empty() => (*group, rest),
        _ => return plain,
    };
    let (mut rest, mut watching) = (rest, yes(query, "watch"));
    if let ["watch", more @ ..] = rest {
        (rest, watching) = (more, true);
    }
    let (namespace, rest) = match rest {
        ["namespaces", namespace, more @ ..] if !more.is_empty() && !["status", "finalize"].contains(&more[0]) => {
            (*namespace, more)
        }
        all => ("", all),
    };
    let Some((plural, rest)) = rest.split_first() else { return plain };
    let name = rest.first().copied().unwrap_or_default();
    let subresource = rest.get(1).copied().unwrap_or_default();
    let mut asked = Attributes {
        group: group.into(),
        resource: (*plural).into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..plain
    };
    if *plural == "namespaces" {
        asked.namespace = name.into();
    }
    asked.verb = match (method, name) {
        ("GET" | "HEAD", _) if watching => "watch",
        ("GET" | "HEAD", "") => "list",
        ("GET" | "HEAD", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", "") => "deletecollection",
        ("DELETE", _) => "delete",
        _ => "",
    }
    .into();
    if let Some(resource) = resource::at(group, "v1", plural) {
        let parameter = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let selector = Selector::parse(resource.stored_as, parameter("labelSelector"), parameter("fieldSelector"));
        asked.selector = selector.unwrap_or_default();
        if asked.name.is_empty() {
            asked.name = asked.selector.required("metadata.name").unwrap_or_default().to_owned();
        }
    }
    asked
}

/// Whether a resource is only reviewed, never stored: its kind.
pub(crate) fn review(asked: &Attributes) -> Option<&'static str> {
    REVIEWS.iter().find(|(group, plural, _)| *group == asked.group && *plural == asked.resource).map(|one| one.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        for (method, path, wanted) in [
            ("GET", "/api/v1/pods", ("list", "pods", "", "", "")),
            ("GET", "/api/v1/pods?watch=1", ("watch", "pods", "", "", "")),
            ("GET", "/api/v1/namespaces/n/pods/p", ("get", "pods", "n", "p", "")),
            ("PATCH", "/api/v1/namespaces/n/pods/p/status", ("patch", "pods", "n", "p", "status")),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", ("update", "leases", "n", "l", "")),
            ("GET", "/api/v1/namespaces/n", ("get", "namespaces", "n", "n", "")),
            ("POST", "/api/v1/namespaces/n/serviceaccounts/s/token", ("create", "serviceaccounts", "n", "s", "token")),
            ("DELETE", "/api/v1/namespaces/n/pods", ("deletecollection", "pods", "n", "", "")),
            ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=true", ("watch", "nodes", "", "n1", "")),
            ("GET", "/version", ("get", "", "", "", "")),
            ("GET", "/api/v1", ("get", "", "", "", "")),
        ] {
            let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
            let asked = attributes(method, path, &query(parameters));
            let read = (
                asked.verb.as_str(),
                asked.resource.as_str(),
                asked.namespace.as_str(),
                asked.name.as_str(),
                asked.subresource.as_str(),
            );
            assert_eq!(read, wanted, "{method} {path}");
        }
    }
}
