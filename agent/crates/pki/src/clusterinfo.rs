//! `cluster-info`: how a node with nothing but a token comes to trust an API server (kubeadm's token discovery).

use crate::certificate::{CertificateFacts, certificates_in, certificates_to_pem};
use crate::{BootstrapToken, CaPins, PkiError};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The key of the kubeconfig in the ConfigMap.
const KUBECONFIG: &str = "kubeconfig";
/// What the key of a signature begins with; the token's id follows.
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

/// A cluster, as `cluster-info` names it, once it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The API server's URL. May be another than the one that was asked.
    pub server: String,
    /// The cluster's CAs, PEM: what goes into the kubeconfig and `ca.crt`.
    pub ca_pem: String,
    /// Those of them that are pinned, PEM; all when nothing is pinned. The second read trusts only
    /// these: else somebody who knows the token could add a CA of their own to the pinned one.
    pub pinned_ca_pem: String,
    /// As it was read.
    kubeconfig: String,
}

impl ClusterInfo {
    /// Compares the `data` of a second read, over TLS verified against [`pinned_ca_pem`](Self::pinned_ca_pem),
    /// with the first. Only after it may a pinned cluster be trusted.
    ///
    /// # Errors
    /// They differ.
    pub fn confirm(&self, data: &BTreeMap<String, String>) -> Result<(), PkiError> {
        match data.get(KUBECONFIG) {
            Some(kubeconfig) if *kubeconfig == self.kubeconfig => Ok(()),
            _ => Err(PkiError::Changed),
        }
    }
}

/// Verifies `data` of the ConfigMap kube-public/cluster-info, read without credentials over TLS that nobody
/// verified: its kubeconfig is signed with the token's secret (a detached JWS, RFC 7515 appendix F), and
/// one of the CAs in it is pinned. With pins, [`ClusterInfo::confirm`] is the second half.
///
/// # Errors
/// It is not set up for tokens, not signed with this one (yet: see [`PkiError::heals_with_time`]), signed
/// falsely, or its CA is another.
pub fn verify_cluster_info(
    data: &BTreeMap<String, String>,
    token: &BootstrapToken,
    pins: &CaPins,
) -> Result<ClusterInfo, PkiError> {
    let kubeconfig = data.get(KUBECONFIG).filter(|text| !text.is_empty()).ok_or(PkiError::NoTokenBootstrap)?;
    let signature = data
        .get(&format!("{SIGNATURE_PREFIX}{}", token.id()))
        .filter(|text| !text.is_empty())
        .ok_or_else(|| PkiError::Unsigned { token_id: token.id().into() })?;
    if !signed(signature, kubeconfig, token.id(), token.secret()) {
        return Err(PkiError::BadSignature { token_id: token.id().into() });
    }
    let cluster = cluster_in(kubeconfig)?;
    let failed = |problem: &str| PkiError::ClusterInfo { problem: problem.into() };
    let ca_pem = BASE64_STANDARD
        .decode(cluster.certificate_authority_data.split_ascii_whitespace().collect::<String>())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| failed("certificate-authority-data is not base64 of PEM text"))?;
    if !cluster.server.starts_with("https://") {
        return Err(failed("server is not an https:// URL"));
    }
    let pinned_ca_pem = pinned(&ca_pem, pins)?;
    Ok(ClusterInfo { server: cluster.server, ca_pem, pinned_ca_pem, kubeconfig: kubeconfig.clone() })
}

/// Whether `signature` is `HEADER..MAC` with HEADER the base64url of the very header that Kubernetes writes and
/// MAC the HMAC-SHA256 of `HEADER.base64url(content)`.
fn signed(signature: &str, content: &str, token_id: &str, token_secret: &str) -> bool {
    // The header is not read but written: nobody else chooses the algorithm.
    let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{token_id}"}}"#));
    let Some(mac) = signature
        .strip_prefix(&header)
        .and_then(|rest| rest.strip_prefix(".."))
        .and_then(|mac| BASE64_URL_SAFE_NO_PAD.decode(mac).ok())
    else {
        return false;
    };
    let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(content));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, token_secret.as_bytes());
    ring::hmac::verify(&key, signed.as_bytes(), &mac).is_ok()
}

fn pinned(ca_pem: &str, pins: &CaPins) -> Result<String, PkiError> {
    let whose = "certificate-authority-data in kube-public/cluster-info";
    let mut found = Vec::new();
    let mut allowed = Vec::new();
    for der in certificates_in(ca_pem, whose)? {
        let facts = CertificateFacts::of(&der, whose)?;
        found.push(facts.pin());
        if pins.is_empty() || pins.allow(&facts) {
            allowed.push(der);
        }
    }
    if allowed.is_empty() {
        return Err(PkiError::NotPinned { found: found.join(", ") });
    }
    Ok(certificates_to_pem(&allowed))
}

/// The lean half of a kubeconfig. Lists may be `null` there.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    current_context: Option<String>,
    #[serde(default)]
    clusters: Option<Vec<NamedCluster>>,
    #[serde(default)]
    contexts: Option<Vec<NamedContext>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    #[serde(default)]
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default)]
    server: String,
    #[serde(default)]
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedContext {
    #[serde(default)]
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    cluster: String,
}

/// The unnamed cluster, which is how kubeadm writes it, else the current context's.
fn cluster_in(kubeconfig: &str) -> Result<Cluster, PkiError> {
    let parsed: Kubeconfig =
        serde_saphyr::from_str(kubeconfig).map_err(|err| PkiError::ClusterInfo { problem: err.to_string() })?;
    let clusters = parsed.clusters.unwrap_or_default();
    let current = parsed.current_context.unwrap_or_default();
    let name = if clusters.iter().any(|it| it.name.is_empty()) {
        Some(String::new())
    } else {
        let contexts = parsed.contexts.unwrap_or_default();
        contexts.into_iter().find(|it| it.name == current).map(|it| it.context.cluster)
    };
    clusters
        .into_iter()
        .find(|it| Some(&it.name) == name.as_ref())
        .map(|it| it.cluster)
        .ok_or_else(|| PkiError::ClusterInfo { problem: "it names no cluster for its current context".into() })
}

#[cfg(test)]
mod tests {
    use super::{cluster_in, signed};

    const CONTENT: &str = "Hello from the other side. I must have called a thousand times.";
    const SIGNATURE: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8";

    #[track_caller]
    fn check(signature: &str, content: &str, id: &str, secret: &str, want: bool) {
        assert_eq!(signed(signature, content, id, secret), want);
    }

    #[test]
    fn signatures_of_kubernetes_are_understood() {
        // The vectors of k8s.io/cluster-bootstrap.
        check(SIGNATURE, CONTENT, "joshua", "my voice is my passcode", true);
        let nothing = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk";
        check(nothing, "", "joshua", "my voice is my passcode", true);
        check(SIGNATURE, CONTENT, "joshua", "my voice is my passport", false);
        check(SIGNATURE, CONTENT, "david", "my voice is my passcode", false);
        check(&format!("{SIGNATURE}foo"), CONTENT, "joshua", "my voice is my passcode", false);
        check(&SIGNATURE.replace("..", "."), CONTENT, "joshua", "my voice is my passcode", false);
        // {"alg":"none","kid":"joshua"}, without a MAC.
        check("eyJhbGciOiJub25lIiwia2lkIjoiam9zaHVhIn0..", CONTENT, "joshua", "my voice is my passcode", false);
        check("", CONTENT, "joshua", "my voice is my passcode", false);
    }

    #[test]
    fn the_cluster_is_the_unnamed_or_the_current_one() {
        #[track_caller]
        fn check(text: &str, want: Result<&str, &str>) {
            match (cluster_in(text), want) {
                (Ok(cluster), Ok(server)) => assert_eq!(cluster.server, server),
                (Err(err), Err(part)) => assert!(err.to_string().contains(part), "{err}"),
                (Ok(_), Err(part)) => panic!("no error with {part:?}"),
                (Err(err), Ok(_)) => panic!("{err}"),
            }
        }
        check("{clusters: [{name: '', cluster: {server: a}}], contexts: null}", Ok("a"));
        check("{clusters: [{name: x, cluster: {server: a}}, {cluster: {server: b}}]}", Ok("b"));
        let context = "current-context: c, contexts: [{name: c, context: {cluster: y, user: u}}]";
        check(
            &format!(
                "{{clusters: [{{name: x, cluster: {{server: a}}}}, {{name: y, cluster: {{server: b}}}}], {context}}}"
            ),
            Ok("b"),
        );
        check(&format!("{{clusters: [{{name: x, cluster: {{server: a}}}}], {context}}}"), Err("names no cluster"));
        check("{clusters: [{name: x, cluster: {server: a}}], current-context: x}", Err("names no cluster"));
        check("{clusters: 3}", Err("cannot be used"));
        check("[", Err("cannot be used"));
    }
}
