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

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_apiclient::{Identity as Shown, Secret};
    use orlop_pki::{PrivateKey, Purpose};
    use rcgen::{CertificateParams, DnType};

    /// A certificate of that name, good from and until so many hours from now.
    fn certificate(name: &str, from: i64, until: i64) -> (String, PrivateKey) {
        let key = PrivateKey::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, name);
        let at = |hours: i64| {
            let seconds = Timestamp::now().as_second() + hours * 3600;
            rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(u64::try_from(seconds).unwrap())
        };
        (params.not_before, params.not_after) = (at(from), at(until));
        let made = params.self_signed(&key).unwrap();
        (orlop_pki::certificates_to_pem(&[made.der().clone()]), key)
    }

    struct Case {
        /// In the kubeconfig; `None` for a link into the store.
        named: Option<(&'static str, i64, i64)>,
        stored: Option<(&'static str, i64, i64)>,
        want: &'static str,
    }

    #[track_caller]
    fn check(case: Case) {
        let dir = tempfile::tempdir().unwrap();
        let store = CertificateStore::new(dir.path(), Purpose::Client);
        if let Some((name, from, until)) = case.stored {
            let (pem, key) = certificate(name, from, until);
            store.update(pem, &key, Timestamp::now()).unwrap();
        }
        let mut settings = Settings::new("https://192.0.2.1:6443");
        settings.identity = Some(match case.named {
            None => {
                let current = Pem::File(store.current_path());
                Shown { certificate: current.clone(), key: current }
            }
            Some((name, from, until)) => {
                let (pem, key) = certificate(name, from, until);
                Shown::from_pem(pem, key.to_pem())
            }
        });
        let standing = judge(Timestamp::now(), &settings, &store, &CertificateRequest::client("n1"));
        let got = match standing {
            Standing::Given => "given".to_owned(),
            Standing::Own { in_store, .. } => if in_store { "stored" } else { "named" }.to_owned(),
            Standing::Nobody { why } => why,
        };
        assert!(got.starts_with(case.want), "{got}, not {}", case.want);
    }

    #[test]
    fn the_younger_certificate_counts() {
        const NODE: &str = "system:node:n1";
        let case = |named, stored, want| check(Case { named, stored, want });
        case(None, Some((NODE, -2, 5)), "stored");
        case(None, None, "there is no certificate");
        case(None, Some((NODE, -9, -1)), "it was valid until");
        case(None, Some(("system:node:n2", -1, 9)), "it is for \"system:node:n2\"");
        case(Some((NODE, -2, 5)), None, "named");
        case(Some((NODE, -5, 5)), Some((NODE, -2, 9)), "stored");
        case(Some((NODE, -2, 9)), Some((NODE, -5, 9)), "named");
        case(Some((NODE, -9, -1)), Some((NODE, -5, 9)), "stored");
        case(Some((NODE, -9, -1)), None, "there is no certificate");
        case(Some(("kubernetes-admin", -9, -1)), Some((NODE, -5, 9)), "given");
    }

    #[test]
    fn a_token_is_somebody_elses_to_look_after() {
        let dir = tempfile::tempdir().unwrap();
        let store = CertificateStore::new(dir.path(), Purpose::Client);
        let mut settings = Settings::new("https://192.0.2.1:6443");
        settings.bearer = orlop_apiclient::Bearer::Token(Secret::new("t"));
        let standing = judge(Timestamp::now(), &settings, &store, &CertificateRequest::client("n1"));
        assert_eq!(standing, Standing::Given);
    }
}
