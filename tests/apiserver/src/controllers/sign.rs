//! The signer of the kubelet's certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{all, call, text};
use crate::auth::read_request;
use crate::cluster::{Core, now_text};
use crate::operations;
use crate::options::Signing;
use crate::subresources::set_condition;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const YEAR_S: i64 = 365 * 24 * 3600;

pub(super) fn reconcile(core: &Core, signing: Signing) {
    for request in all(core, "certificatesigningrequests") {
        let has = |condition: &str| {
            request["status"]["conditions"]
                .as_array()
                .is_some_and(|list| list.iter().any(|one| one["type"] == condition && one["status"] == "True"))
        };
        let done = !text(&request, "/status/certificate").is_empty() || has("Denied") || has("Failed");
        if done || ![CLIENT, SERVING].contains(&text(&request, "/spec/signerName")) {
            continue;
        }
        if !has("Approved") && signing == Signing::Manual {
            continue;
        }
        let mut new = (*request).clone();
        if !has("Approved") {
            decide(&mut new, "Approved", ("AutoApproved", "Auto approving kubelet certificate"));
        }
        match signed(core, &request) {
            Ok(certificate) => new["status"]["certificate"] = json!(STANDARD.encode(certificate)),
            Err(why) => decide(&mut new, "Failed", ("SignerValidationFailure", &why)),
        }
        store(core, new);
    }
}

fn decide(request: &mut Value, condition: &str, (reason, message): (&str, &str)) {
    let condition = json!({
        "type": condition, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now_text(), "lastTransitionTime": now_text(),
    });
    set_condition(request, condition);
}

/// Conditions and certificate are two sub-resources; a test sees them come in one.
fn store(core: &Core, new: Value) {
    let mut approval = call("certificatesigningrequests", "", text(&new, "/metadata/name"));
    approval.asked.subresource = "approval".into();
    let Ok(approved) = operations::update(core, &approval, new.clone()) else { return };
    if new["status"]["certificate"].is_null() {
        return;
    }
    let mut issued = approved;
    issued["status"]["certificate"] = new["status"]["certificate"].clone();
    approval.asked.subresource = "status".into();
    let _ = operations::update(core, &approval, issued);
}

/// What a request must be for its signer: `ValidateKubelet{Client,Serving}CSR`.
fn signed(core: &Core, request: &Value) -> Result<String, String> {
    let asked = read_request(text(request, "/spec/request")).ok_or("unable to parse the request")?;
    let serving = text(request, "/spec/signerName") == SERVING;
    if asked.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".into());
    }
    if !asked.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".into());
    }
    let usages: Vec<&str> =
        request["spec"]["usages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let purpose = if serving { "server auth" } else { "client auth" };
    let known = |usage: &&str| ["digital signature", "key encipherment", purpose].contains(usage);
    if !usages.contains(&purpose) || !usages.contains(&"digital signature") || !usages.iter().all(known) {
        return Err("usages did not match".into());
    }
    if serving && asked.names.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if !serving && !asked.names.is_empty() {
        return Err("DNS subjectAltNames are not allowed".into());
    }
    if serving && asked.common_name != text(request, "/spec/username") {
        return Err("subject common name is not the requesting node".into());
    }
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(YEAR_S);
    core.authority.sign(asked, serving, seconds).map_err(|err| err.to_string())
}
