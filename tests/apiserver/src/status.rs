//! The refusals of an API server: a `Status` object with the real words and codes.

use serde_json::{Value, json};

use crate::resource::Resource;

/// A refusal, as the body of the answer says it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Status {
    /// The HTTP code.
    pub code: u16,
    /// `metav1.StatusReason`: `NotFound`, `Conflict`, …; empty when there is none.
    pub reason: String,
    /// What a client shows.
    pub message: String,
    /// `details`, when there are any.
    pub details: Option<Value>,
    /// The continue token that a 410 to a paged list carries.
    pub go_on: Option<String>,
}

impl Status {
    /// A refusal without details.
    #[must_use]
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None, go_on: None }
    }

    /// The `Status` object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        if let Some(token) = &self.go_on {
            body["metadata"] = json!({ "continue": token });
        }
        body
    }

    /// Seconds that the client is asked to wait, for the `Retry-After` header.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.details.as_ref()?.get("retryAfterSeconds")?.as_u64()
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        let mut details = json!({ "name": name, "kind": resource.plural });
        if !resource.group.is_empty() {
            details["group"] = json!(resource.group);
        }
        self.details = Some(details);
        self
    }

    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", resource.qualified())).about(resource, name)
    }

    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", resource.qualified()))
            .about(resource, name)
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::new(409, "Conflict", message).about(resource, name)
    }

    pub(crate) fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    pub(crate) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = match name {
            "" => format!("{} is forbidden: {why}", resource.qualified()),
            name => format!("{} {name:?} is forbidden: {why}", resource.qualified()),
        };
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// `causes` are (field, reason, message) as `field.Error` prints them.
    pub(crate) fn invalid(resource: &Resource, name: &str, causes: &[(&str, &str, &str)]) -> Self {
        let said: Vec<String> = causes.iter().map(|(field, _, message)| format!("{field}: {message}")).collect();
        let said = match said.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let kind = match resource.group {
            "" => resource.kind.to_owned(),
            group => format!("{}.{group}", resource.kind),
        };
        let mut status = Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {said}")).about(resource, name);
        if let Some(details) = &mut status.details {
            details["kind"] = json!(resource.kind);
            details["causes"] = causes
                .iter()
                .map(|(field, reason, message)| json!({"reason": reason, "message": message, "field": field}))
                .collect();
        }
        status
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// The watch cache's answer to a start that is no longer in its window.
    pub(crate) fn too_old(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// A continue token whose revision was compacted; `token` goes on inconsistently.
    pub(crate) fn continue_expired(token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
            new list without the continue parameter, or use the continue token in this response to retrieve the \
            remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
            that were created, modified, or deleted between the time the first chunk was returned and now may show \
            up in the list.";
        Self { go_on: Some(token), ..Self::new(410, "Expired", message) }
    }

    /// A resource version that this server has not reached.
    pub(crate) fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        Self { details: Some(details), ..Self::new(504, "Timeout", message) }
    }

    pub(crate) fn too_many_requests(retry_after_s: u64) -> Self {
        Self {
            details: Some(json!({ "retryAfterSeconds": retry_after_s })),
            ..Self::new(429, "TooManyRequests", "Too many requests, please try again later.")
        }
    }
}
