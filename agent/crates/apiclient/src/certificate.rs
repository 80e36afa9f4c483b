//! Certificates by `CertificateSigningRequest`, and tokens by `TokenRequest`. Keys, and
//! when it is time for new ones, are somebody else's: here PEM goes in and comes out.

use crate::client::Client;
use crate::error::{ApiError, CertificateRefusal};
use crate::request::Selectors;
use crate::resource::{CERTIFICATE_SIGNING_REQUESTS, SERVICE_ACCOUNTS};
use crate::watch::{WatchEvent, WatchOptions, watch};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec, CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::time::Duration;
use tokio::time::Instant;

/// As client-go waits (util/certificate `certificateWaitTimeout`).
pub const CERTIFICATE_WAIT: Duration = Duration::from_secs(15 * 60);
/// Requests that somebody deletes while we wait are made again, but not for ever.
const CREATED_MAX: u32 = 5;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// `metadata.name`; without one the server makes one up.
    pub name: Option<String>,
    /// Who is to sign: `kubernetes.io/kube-apiserver-client-kubelet`, `kubernetes.io/kubelet-serving`.
    pub signer_name: String,
    /// What for; approvers compare the whole set.
    pub usages: Vec<String>,
    /// The PKCS#10 request in PEM.
    pub pem: String,
    /// How long the certificate should be good; the signer decides.
    pub lifetime: Option<Duration>,
}

impl Client {
    /// Asks for a certificate and waits until it is signed; gives it, with its chain, in PEM.
    /// A request that somebody deletes meanwhile is made again. One that exists under our
    /// name is waited for if `is_ours` says so of its PEM text and signer: this node made
    /// it before it was restarted.
    ///
    /// # Errors
    /// [`ApiError::CertificateRefused`] when it was denied or could not be signed,
    /// [`ApiError::CertificateWait`] after `patience` (usually [`CERTIFICATE_WAIT`]),
    /// [`ApiError::is_already_exists`] when somebody else has the name, or whatever went wrong in creating it.
    pub async fn request_certificate(
        &self,
        request: &CertificateRequest,
        patience: Duration,
        is_ours: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<u8>, ApiError> {
        let end = Instant::now() + patience;
        let mut name = String::new();
        for _ in 0..CREATED_MAX {
            let Some(made) = self.create_request(request, &is_ours).await? else { continue };
            name = made;
            tracing::info!(csr = name, signer = request.signer_name, "waiting for the certificate to be signed");
            match tokio::time::timeout_at(end, self.signed(&name)).await {
                Ok(Some(done)) => return done,
                Ok(None) => tracing::warn!(csr = name, "the request was deleted, making another"),
                Err(_) => break,
            }
        }
        Err(ApiError::CertificateWait { name, waited: patience })
    }

    /// Gives its name; `None`: it was there, but is not any more.
    async fn create_request(
        &self,
        request: &CertificateRequest,
        is_ours: impl Fn(&str, &str) -> bool,
    ) -> Result<Option<String>, ApiError> {
        let seconds = request.lifetime.map(|lifetime| i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX));
        let generated = request.name.is_none().then(|| "csr-".to_owned());
        let body = CertificateSigningRequest {
            metadata: ObjectMeta { name: request.name.clone(), generate_name: generated, ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.pem.clone().into_bytes()),
                signer_name: request.signer_name.clone(),
                usages: Some(request.usages.clone()),
                expiration_seconds: seconds,
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let all = CERTIFICATE_SIGNING_REQUESTS.everywhere();
        let exists = match (self.create::<CertificateSigningRequest>(&all, &body).await, &request.name) {
            (Ok(made), _) => return Ok(made.metadata.name),
            (Err(error), Some(name)) if error.is_already_exists() => (error, name),
            (Err(error), _) => return Err(error),
        };
        let (error, name) = exists;
        match self.get::<CertificateSigningRequest>(&all.named(name)).await {
            Ok(there) => {
                let pem = String::from_utf8_lossy(&there.spec.request.0).into_owned();
                if is_ours(&pem, &there.spec.signer_name) { Ok(there.metadata.name) } else { Err(error) }
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of a request; `None`: it is gone.
    async fn signed(&self, name: &str) -> Option<Result<Vec<u8>, ApiError>> {
        let all = CERTIFICATE_SIGNING_REQUESTS.everywhere();
        let options = WatchOptions::new(Selectors::name(name));
        let mut events = watch::<CertificateSigningRequest>(self, all, options);
        let mut there = false;
        loop {
            match events.next().await? {
                WatchEvent::Begin => there = false,
                WatchEvent::Item(request) | WatchEvent::Applied(request) => {
                    there = true;
                    if let Some(done) = outcome(name, request.status.unwrap_or_default()) {
                        return Some(done);
                    }
                }
                WatchEvent::Done if there => {}
                WatchEvent::Done | WatchEvent::Deleted(_) => return None,
            }
        }
    }

    /// A token of a service account, as the spec wants it.
    ///
    /// # Errors
    /// 404 when the account does not exist, 403 when the pod that it is bound to is not on this node.
    pub async fn request_token(
        &self,
        namespace: &str,
        account: &str,
        spec: TokenRequestSpec,
    ) -> Result<TokenRequest, ApiError> {
        let body = TokenRequest { metadata: ObjectMeta::default(), spec: Some(spec), status: None };
        self.create_sub(&SERVICE_ACCOUNTS.within(namespace).named(account).subresource("token"), &body).await
    }
}

/// What the status says in the end, if it is the end.
fn outcome(name: &str, status: CertificateSigningRequestStatus) -> Option<Result<Vec<u8>, ApiError>> {
    let conditions = status.conditions.unwrap_or_default();
    let find = |wanted: &str| conditions.iter().find(|condition| condition.type_ == wanted);
    for (wanted, how) in [("Denied", CertificateRefusal::Denied), ("Failed", CertificateRefusal::Failed)] {
        if let Some(condition) = find(wanted) {
            return Some(Err(ApiError::CertificateRefused {
                name: name.to_owned(),
                how,
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            }));
        }
    }
    let certificate = status.certificate.map(|pem| pem.0).filter(|pem| !pem.is_empty())?;
    find("Approved").map(|_| Ok(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &str, want: &str) {
        let status = serde_json::from_str(status).unwrap();
        let got = match outcome("csr-1", status) {
            None => "waits".to_owned(),
            Some(Ok(pem)) => String::from_utf8(pem).unwrap(),
            Some(Err(error)) => error.to_string(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn outcomes() {
        check("{}", "waits");
        check(r#"{"conditions":[{"type":"Approved","status":"True"}]}"#, "waits");
        check(r#"{"certificate":"cGVt"}"#, "waits");
        check(r#"{"certificate":"cGVt","conditions":[{"type":"Approved","status":"True"}]}"#, "pem");
        check(
            r#"{"conditions":[{"type":"Denied","status":"True","reason":"No","message":"not you"}]}"#,
            "certificate signing request csr-1 was denied: No: not you",
        );
        check(
            r#"{"conditions":[{"type":"Approved","status":"True"},{"type":"Failed","status":"True","reason":"R","message":"m"}]}"#,
            "certificate signing request csr-1 could not be signed: R: m",
        );
    }
}
