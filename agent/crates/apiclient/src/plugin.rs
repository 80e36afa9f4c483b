//! Exec credential plugins, as client-go runs them (plugin/pkg/client/auth/exec).

use crate::error::ApiError;
use crate::settings::{Identity, Plugin, Secret};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// client-go waits for ever; a node that does so is lost.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of its standard error is quoted.
const STDERR_CHARS_MAX: usize = 512;

/// What a plugin printed.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) token: Option<Secret>,
    pub(crate) identity: Option<Identity>,
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo<'a> {
    kind: &'static str,
    api_version: &'a str,
    spec: ExecSpec<'a>,
}

#[derive(Serialize)]
struct ExecSpec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a crate::settings::PluginCluster>,
    interactive: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ExecCredential {
    kind: String,
    api_version: String,
    status: Option<ExecStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ExecStatus {
    expiration_timestamp: Option<Timestamp>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Runs it and reads what it prints.
pub(crate) async fn run(plugin: &Plugin) -> Result<Given, ApiError> {
    let command = plugin.command.display().to_string();
    let failure = |problem: String| ApiError::Plugin { command: command.clone(), problem };
    let info = ExecInfo {
        kind: "ExecCredential",
        api_version: &plugin.api_version,
        spec: ExecSpec { cluster: plugin.cluster.as_ref(), interactive: false },
    };
    let info = serde_json::to_string(&info).map_err(|error| failure(error.to_string()))?;
    let child = Command::new(&plugin.command)
        .args(&plugin.args)
        .envs(&plugin.env)
        .env("KUBERNETES_EXEC_INFO", info)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failure(with_hint(error.to_string(), plugin)))?;
    let output = match tokio::time::timeout(PLUGIN_TIMEOUT, child.wait_with_output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failure(error.to_string())),
        Err(_) => return Err(failure(format!("not done after {} s, killed", PLUGIN_TIMEOUT.as_secs()))),
    };
    if !output.status.success() {
        let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(STDERR_CHARS_MAX).collect();
        return Err(failure(format!("{}: {said}", output.status)));
    }
    read(&output.stdout, &plugin.api_version).map_err(failure)
}

fn with_hint(problem: String, plugin: &Plugin) -> String {
    match &plugin.install_hint {
        Some(hint) => format!("{problem}; {hint}"),
        None => problem,
    }
}

/// Errors never quote the output: it is a secret.
fn read(output: &[u8], api_version: &str) -> Result<Given, String> {
    let credential: ExecCredential = serde_json::from_slice(output).map_err(|error| {
        format!("its output is no ExecCredential, see line {} column {}", error.line(), error.column())
    })?;
    if credential.kind != "ExecCredential" || credential.api_version != api_version {
        return Err(format!(
            "it printed {} {} where ExecCredential {api_version} is wanted",
            credential.kind, credential.api_version
        ));
    }
    let status = credential.status.ok_or("its ExecCredential has no status")?;
    let token = status.token.filter(|token| !token.is_empty()).map(Secret::new);
    let certificate = status.client_certificate_data.filter(|pem| !pem.is_empty());
    let key = status.client_key_data.filter(|pem| !pem.is_empty());
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity::from_pem(certificate, key)),
        (None, None) => None,
        _ => return Err("it gave a certificate without a key or a key without a certificate".to_owned()),
    };
    if token.is_none() && identity.is_none() {
        return Err("its ExecCredential has neither token nor certificate".to_owned());
    }
    Ok(Given { token, identity, expires: status.expiration_timestamp })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "client.authentication.k8s.io/v1";

    fn check(status: &str, want: &str) {
        let output = format!(r#"{{"kind":"ExecCredential","apiVersion":"{V1}","status":{status}}}"#);
        let got = match read(output.as_bytes(), V1) {
            Ok(given) => format!("{:?} {} {:?}", given.token, given.identity.is_some(), given.expires),
            Err(problem) => problem,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn what_plugins_print() {
        check(r#"{"token":"t"}"#, "Some(Secret(…)) false None");
        check(
            r#"{"token":"t","expirationTimestamp":"2026-01-02T03:04:05Z"}"#,
            "Some(Secret(…)) false Some(2026-01-02T03:04:05Z)",
        );
        check(r#"{"clientCertificateData":"c","clientKeyData":"k"}"#, "None true None");
        check(r#"{"clientKeyData":"k"}"#, "it gave a certificate without a key or a key without a certificate");
        check("{}", "its ExecCredential has neither token nor certificate");
        check("null", "its ExecCredential has no status");
        assert!(read(b"{", V1).unwrap_err().contains("line 1"));
        assert!(read(br#"{"kind":"X"}"#, V1).unwrap_err().contains("where ExecCredential"));
    }
}
