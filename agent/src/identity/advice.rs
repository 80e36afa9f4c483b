//! What somebody can do about a certificate that does not come.

use orlop_apiclient::ApiError;

/// The machine has nothing to ask with.
pub(super) const NO_BOOTSTRAP: &str = "there is no bootstrap kubeconfig to ask for one with: \
     make a token (kubeadm token create --print-join-command), remove the kubeconfig and run `orlop join`";

/// The error with its causes, and what to do where that is known.
pub(super) fn in_words(error: &anyhow::Error) -> String {
    let what = format!("{error:#}");
    match error.downcast_ref::<ApiError>().and_then(advice) {
        Some(advice) => format!("{what}; {advice}"),
        None => what,
    }
}

fn advice(error: &ApiError) -> Option<&'static str> {
    match error {
        ApiError::CertificateWait { .. } => Some("when it is right, `kubectl certificate approve` it"),
        _ if error.is_unauthorized() => Some(
            "the API server does not know the credential: a bootstrap token has run out after a day, \
             `kubeadm token create` makes another for `orlop join`",
        ),
        _ if error.is_forbidden() => Some(
            "tokens of the group system:bootstrappers need the ClusterRole system:node-bootstrapper, \
             nodes that renew need the group system:nodes",
        ),
        _ => None,
    }
}
