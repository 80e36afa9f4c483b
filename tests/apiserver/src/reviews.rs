//! Reviews: asked and answered, never stored.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::auth::{Attributes, User, authorize};
use crate::cluster::Core;

/// Answers a review of a kind.
pub(crate) fn answer(core: &Core, user: &User, (kind, group): (&str, &str), mut review: Value) -> Value {
    review["kind"] = json!(kind);
    review["apiVersion"] = json!(format!("{group}/v1"));
    review["status"] = match kind {
        "TokenReview" => token(core, &review["spec"]),
        "SelfSubjectReview" => json!({ "userInfo": info(user) }),
        "SelfSubjectAccessReview" => access(core, user, &review["spec"]),
        _ => {
            let subject = User {
                name: text(&review["spec"]["user"]),
                groups: serde_json::from_value(review["spec"]["groups"].clone()).unwrap_or_default(),
                uid: text(&review["spec"]["uid"]),
            };
            access(core, &subject, &review["spec"])
        }
    };
    review
}

fn token(core: &Core, spec: &Value) -> Value {
    let audiences: Vec<String> = serde_json::from_value(spec["audiences"].clone()).unwrap_or_default();
    let now = (&core.store, Timestamp::now().as_second());
    match core.tokens.user(spec["token"].as_str().unwrap_or_default(), &audiences, now) {
        Some((user, audiences)) => json!({"authenticated": true, "user": info(&user), "audiences": audiences}),
        None => json!({"user": {}, "error": "[invalid bearer token]"}),
    }
}

fn info(user: &User) -> Value {
    let groups: Vec<&str> = user.groups.iter().map(String::as_str).chain(["system:authenticated"]).collect();
    json!({"username": user.name, "uid": user.uid, "groups": groups})
}

fn access(core: &Core, subject: &User, spec: &Value) -> Value {
    let asked = if spec["resourceAttributes"].is_object() {
        let field = |name: &str| text(&spec["resourceAttributes"][name]);
        Attributes {
            verb: field("verb"),
            group: field("group"),
            resource: field("resource"),
            subresource: field("subresource"),
            namespace: field("namespace"),
            name: field("name"),
            ..Attributes::default()
        }
    } else {
        let field = |name: &str| text(&spec["nonResourceAttributes"][name]);
        Attributes { verb: field("verb"), path: field("path"), ..Attributes::default() }
    };
    match authorize(&core.store, &core.options.rules, subject, &asked) {
        Ok(()) => json!({"allowed": true, "reason": ""}),
        Err(reason) => json!({"allowed": false, "reason": reason}),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
