//! What a kubeconfig makes of the node.

use jiff::Timestamp;
use orlop_apiclient::{Pem, Settings};
use orlop_pki::{CertificateRequest, CertificateState, CertificateStore, Identity, state};

/// What the node has to show.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// A token, a plugin, or a certificate that somebody else looks after.
    Given,
    /// The node's own certificate.
    Own {
        /// It and its key.
        identity: Identity,
        /// It is the store's, not the kubeconfig's.
        in_store: bool,
    },
    /// Nothing that holds.
    Nobody {
        /// In words.
        why: String,
    },
}

/// Of the certificate in the kubeconfig and the one in the store, the younger one counts: what was rotated stands in the
/// store alone, and a kubeconfig that somebody wrote anew is of another cluster, perhaps.
pub(super) fn judge(
    now: Timestamp,
    settings: &Settings,
    store: &CertificateStore,
    want: &CertificateRequest,
) -> Standing {
    let Some(named) = &settings.identity else { return Standing::Given };
    let current = Pem::File(store.current_path());
    let is_store = named.certificate == current && named.key == current;
    let stored = store.current().unwrap_or_else(|error| {
        tracing::warn!(err = %crate::pod::chain(&error), "the node's stored certificate is damaged");
        None
    });
    let own = if is_store { None } else { pem_identity(&named.certificate, &named.key) };
    // The administrator's, or one that only the API client can make sense of.
    if !is_store && own.as_ref().is_none_or(|own| own.facts().common_name != want.common_name()) {
        return Standing::Given;
    }
    let usable = |identity: &Identity| {
        !matches!(state(now, Some(identity.facts()), want, 0.0), CertificateState::Unusable { .. })
    };
    let candidates = [(own, false), (stored, true)];
    let best = candidates
        .into_iter()
        .filter_map(|(identity, in_store)| Some((identity.filter(usable)?, in_store)))
        .max_by_key(|(identity, _)| identity.facts().not_before);
    match best {
        Some((identity, in_store)) => Standing::Own { identity, in_store },
        None => Standing::Nobody { why: why_not(now, store, want) },
    }
}

fn why_not(now: Timestamp, store: &CertificateStore, want: &CertificateRequest) -> String {
    let held = store.current().ok().flatten();
    match state(now, held.as_ref().map(Identity::facts), want, 0.0) {
        CertificateState::Unusable { why } => why,
        _ => "the certificate in the kubeconfig ran out".to_owned(),
    }
}

fn pem_identity(certificate: &Pem, key: &Pem) -> Option<Identity> {
    let text = |pem: &Pem| match pem {
        Pem::Data(data) => String::from_utf8(data.clone()).ok(),
        Pem::File(path) => std::fs::read_to_string(path).ok(),
    };
    Identity::from_pem(text(certificate)?, &text(key)?, "the kubeconfig's client certificate").ok()
}
