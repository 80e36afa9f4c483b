//! Certificate requests.

use serde_json::{Value, json};

use crate::auth::read_request;
use crate::operations::Call;
use crate::status::Status;

/// The server says who asks, whatever the object says.
pub(super) fn on_create(call: &Call, object: &mut Value) -> Result<(), Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = &mut object["spec"];
    if read_request(spec["request"].as_str().unwrap_or_default()).is_none() {
        let said = "Invalid value: PEM block type must be CERTIFICATE REQUEST";
        return Err(Status::invalid(call.resource, &name, &[("spec.request", "FieldValueInvalid", said)]));
    }
    if spec["signerName"].as_str().is_none_or(|signer| !signer.contains('/')) {
        let said = "Required value";
        return Err(Status::invalid(call.resource, &name, &[("spec.signerName", "FieldValueRequired", said)]));
    }
    spec["username"] = json!(call.user.name);
    let groups: Vec<&str> = call.user.groups.iter().map(String::as_str).chain(["system:authenticated"]).collect();
    spec["groups"] = json!(groups);
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("uid");
        spec.remove("extra");
    }
    if !call.user.uid.is_empty() {
        spec["uid"] = json!(call.user.uid);
    }
    object["status"] = json!({});
    Ok(())
}
